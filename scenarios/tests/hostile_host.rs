//! Hostile images and a full pool, through the API of a daemon with real storage: each is refused
//! with words that help, and leaves nothing half-made.

use std::process::Command;

use serde_json::{Value, json};
use stapes_api::client::{Client, ClientError, Method};
use stapes_scenarios::real::{BUSYBOX, Mode, Real, busybox_image};

/// Makes the archives in the directory that it is given. Each is an image but for one thing.
const ARCHIVES: &str = r#"
import io, sys, tarfile
META = b"architecture: x86_64\ncreation_date: 1700000000\nproperties:\n  os: Test\n"
def archive(name, *entries, meta=META, cut=None):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as tar:
        def add(path, kind=tarfile.REGTYPE, data=b"", **fields):
            info = tarfile.TarInfo(path)
            info.type, info.size = kind, len(data)
            for key, value in fields.items():
                setattr(info, key, value)
            tar.addfile(info, io.BytesIO(data))
        if meta is not None:
            add("metadata.yaml", data=meta)
        add("rootfs", tarfile.DIRTYPE, mode=0o755)
        for entry in entries:
            entry(add)
    data = out.getvalue()
    open(f"{sys.argv[1]}/{name}.tar.gz", "wb").write(data[:cut] if cut else data)
archive("dotdot", lambda add: add("rootfs/../../escaped", data=b"x"))
archive("absolute", lambda add: add("/tmp/stapes-escaped", data=b"x"))
archive("link", lambda add: add("rootfs/out", tarfile.SYMTYPE, linkname="/tmp"),
        lambda add: add("rootfs/out/stapes-escaped", data=b"x"))
archive("hardlink", lambda add: add("rootfs/passwd", tarfile.LNKTYPE, linkname="../../../etc/passwd"))
archive("truncated", lambda add: add("rootfs/file", data=bytes(range(256)) * 4096), cut=2000)
archive("nometa", meta=None)
archive("badmeta", meta=b"architecture: [\n")
archive("bigmeta", meta=b"architecture: x86_64\nproperties:\n  os: " + b"x" * (9 << 20) + b"\n")
open(f"{sys.argv[1]}/noise.tar.gz", "wb").write(b"\x00\x01\x02 no archive at all" * 99)
"#;

const HOSTILE: [&str; 9] = [
    "dotdot",
    "absolute",
    "link",
    "hardlink",
    "truncated",
    "nometa",
    "badmeta",
    "bigmeta",
    "noise",
];

/// Imports the image and makes an instance of it: somewhere on that way it must be refused.
async fn refused(client: &Client, bytes: Vec<u8>, headers: &[(&str, &str)]) -> String {
    let mut all = vec![("content-type", "application/octet-stream")];
    all.extend(headers);
    let text = |error: ClientError| error.to_string();
    let taken = async {
        let answer = client.send_bytes(Method::POST, "/1.0/images", bytes, &all).await?;
        let operation = answer.operation().expect("an import is an operation");
        client.wait(&operation.id).await
    };
    let operation = match taken.await {
        Ok(operation) => operation,
        Err(error) => return text(error),
    };
    let fingerprint = operation.metadata.as_ref().and_then(|it| it["fingerprint"].as_str());
    let fingerprint = fingerprint.expect("an image has one").to_owned();
    let source = json!({"type": "image", "fingerprint": fingerprint});
    let made =
        client.run(Method::POST, "/1.0/instances", &json!({"name": "bad", "source": source})).await;
    client.run_delete(&format!("/1.0/images/{fingerprint}")).await.expect("it can be deleted");
    text(made.expect_err("no instance is made of it"))
}

async fn count(client: &Client, path: &str) -> usize {
    let all: Vec<Value> = client.get(path).await.expect("a list");
    all.len()
}

#[tokio::test]
async fn hostile_images_get_nowhere() {
    let daemon = Real::started(Mode::Host).await;
    daemon.furnish().await;
    let client = daemon.client();
    let made = tempfile::tempdir().expect("a directory");
    let python = Command::new("python3").args(["-c", ARCHIVES]).arg(made.path()).status();
    assert!(python.expect("python3 runs").success());
    for name in HOSTILE {
        let bytes = std::fs::read(made.path().join(format!("{name}.tar.gz"))).expect("it was made");
        let said = refused(&client, bytes, &[]).await;
        assert!(!said.is_empty(), "{name}");
        eprintln!("{name}: {said}");
        assert_eq!(count(&client, "/1.0/instances").await, 0, "{name}: nothing half-made");
        assert_eq!(count(&client, "/1.0/images").await, 1, "{name}: nothing half-made");
    }
    let good = std::fs::read(busybox_image()).expect("the image");
    let wrong = "0".repeat(64);
    let said = refused(&client, good, &[("x-incus-fingerprint", &wrong)]).await;
    assert!(said.contains("as claimed"), "{said}");
    for escaped in ["/tmp/stapes-escaped", "/tmp/escaped"] {
        assert!(!std::path::Path::new(escaped).exists(), "{escaped}");
    }
    daemon.dismantle().await;
}

#[tokio::test]
async fn a_full_pool_refuses_and_goes_on() {
    let daemon = Real::started(Mode::Host).await;
    daemon.furnish_with_pool(&json!({"size": "256MiB"})).await;
    let client = daemon.client();
    let launch = |name: &str| json!({"name": name, "source": {"type": "image", "alias": BUSYBOX}, "start": true});
    client.run(Method::POST, "/1.0/instances", &launch("fat")).await.expect("there is room");
    let fill = ["sh", "-c", "dd if=/dev/urandom of=/fill bs=1M; sync; echo full"];
    let post = stapes_api::wire::exec::InstanceExecPost {
        command: fill.map(str::to_owned).to_vec(),
        ..Default::default()
    };
    let output = client.exec_output("fat", &post, &[]).await.expect("it runs");
    assert!(String::from_utf8_lossy(&output.stdout).contains("full"), "{output:?}");
    let refused = client.run(Method::POST, "/1.0/instances", &launch("late")).await;
    let said = refused.expect_err("there is no room").to_string();
    assert!(
        said.to_lowercase().contains("full") || said.contains("room") || said.contains("space"),
        "{said}"
    );
    assert_eq!(count(&client, "/1.0/instances").await, 1, "nothing half-made");
    client.run_delete("/1.0/instances/fat?force=1").await.expect("a full pool can be emptied");
    // The kernel gives the room back in the background: each try asks anew, for as long as it takes.
    let since = std::time::Instant::now();
    while let Err(error) = client.run(Method::POST, "/1.0/instances", &launch("late")).await {
        assert!(since.elapsed().as_secs() < 30, "still full: {error}");
    }
    daemon.dismantle().await;
}
