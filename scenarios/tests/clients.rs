//! The peers' own clients, unmodified: `incus` 6.0.4 and pylxd, on a real daemon with real guests.
//!
//! They are installed by `scenarios/test.sh`. Where one is missing the test fails and says so.

use std::{
    ffi::OsStr,
    process::{Output, Stdio},
};

use serde_json::Value;
use stapes_scenarios::real::{BUSYBOX, Mode, Real, busybox_image};
use tempfile::TempDir;
use tokio::{io::AsyncWriteExt as _, process::Command};

/// What ended, and what it wrote.
#[derive(Debug)]
struct Ended {
    status: i32,
    stdout: String,
    stderr: String,
}

/// The client with a configuration of its own, beside a daemon.
struct Incus {
    daemon: Real,
    configuration: TempDir,
}

impl Incus {
    async fn beside(daemon: Real) -> Self {
        let configuration = tempfile::tempdir().expect("a directory");
        let incus = Self { daemon, configuration };
        let version = incus.ok(&["version"]).await;
        assert!(version.contains("Client version: 6.0"), "{version}");
        incus
    }

    fn command<S: AsRef<OsStr>>(&self, program: &str, arguments: &[S]) -> Command {
        let mut command = Command::new(program);
        command.args(arguments).env("INCUS_DIR", self.daemon.directory());
        command.env("INCUS_CONF", self.configuration.path()).env_remove("INCUS_SOCKET");
        command.env("HOME", self.configuration.path()).env("TERM", "dumb");
        command
    }

    async fn run(&self, arguments: &[&str]) -> Ended {
        let output = self.command("incus", arguments).stdin(Stdio::null()).output().await;
        ended(output.expect("incus runs: apt install incus-client (bookworm-backports)"))
    }

    /// What it writes when it succeeds.
    async fn ok(&self, arguments: &[&str]) -> String {
        let ended = self.run(arguments).await;
        assert_eq!(ended.status, 0, "incus {}: {}", arguments.join(" "), ended.stderr);
        ended.stdout
    }

    /// What it says when it fails.
    async fn refused(&self, arguments: &[&str]) -> String {
        let ended = self.run(arguments).await;
        assert_ne!(ended.status, 0, "incus {} succeeds: {}", arguments.join(" "), ended.stdout);
        ended.stderr
    }

    async fn json(&self, arguments: &[&str]) -> Value {
        let text = self.ok(arguments).await;
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{arguments:?}: {error}: {text}"))
    }

    async fn status_of(&self, name: &str) -> String {
        self.ok(&["list", "--format", "csv", "--columns", "s", name]).await.trim().to_owned()
    }
}

fn ended(output: Output) -> Ended {
    Ended {
        status: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

async fn furnished() -> Incus {
    let daemon = Real::started(Mode::Host).await;
    daemon.furnish().await;
    Incus::beside(daemon).await
}

#[tokio::test]
async fn incus_lives_with_an_instance() {
    let incus = furnished().await;
    incus.ok(&["launch", BUSYBOX, "web", "-c", "user.role=front"]).await;
    let listed = incus.json(&["list", "--format", "json"]).await;
    assert_eq!(listed[0]["name"], "web");
    assert_eq!(listed[0]["status"], "Running");
    assert_eq!(incus.status_of("web").await, "RUNNING");
    for (filter, found) in
        [("status=running", true), ("user.role=back", false), ("user.role=front", true)]
    {
        let named = incus.ok(&["list", "--format", "csv", "--columns", "n", filter]).await;
        assert_eq!(named.contains("web"), found, "{filter}: {named}");
    }
    assert!(incus.ok(&["info", "web"]).await.contains("Status: RUNNING"));
    incus.ok(&["pause", "web"]).await;
    assert_eq!(incus.status_of("web").await, "FROZEN");
    incus.ok(&["resume", "web"]).await;
    incus.ok(&["restart", "--force", "web"]).await;
    incus.ok(&["stop", "web"]).await;
    assert_eq!(incus.status_of("web").await, "STOPPED");
    incus.ok(&["start", "web"]).await;
    incus.ok(&["copy", "web", "twin", "--instance-only"]).await;
    incus.ok(&["rename", "twin", "other"]).await;
    incus.ok(&["create", BUSYBOX, "cold"]).await;
    assert!(incus.refused(&["delete", "web"]).await.contains("running"));
    assert!(incus.refused(&["launch", "nothing", "x"]).await.to_lowercase().contains("not found"));
    incus.ok(&["stop", "--force", "web"]).await;
    incus.ok(&["delete", "web", "other", "cold"]).await;
    assert_eq!(incus.ok(&["list", "--format", "csv"]).await.trim(), "");
    incus.daemon.dismantle().await;
}

#[tokio::test]
async fn incus_runs_programs() {
    let incus = furnished().await;
    incus.ok(&["launch", BUSYBOX, "web"]).await;
    assert_eq!(incus.ok(&["exec", "web", "--", "echo", "hello"]).await, "hello\n");
    let failed = incus.run(&["exec", "web", "--", "sh", "-c", "echo no >&2; exit 7"]).await;
    assert_eq!((failed.status, failed.stderr.as_str()), (7, "no\n"));
    assert_eq!(incus.run(&["exec", "web", "--", "no-such-program"]).await.status, 127);
    let asked =
        ["exec", "web", "--env", "A=b c", "--cwd", "/tmp", "--", "sh", "-c", "echo $A $PWD"];
    assert_eq!(incus.ok(&asked).await, "b c /tmp\n");

    let mut child = incus.command("incus", &["exec", "web", "--", "wc", "-c"]);
    child.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = child.spawn().expect("incus runs");
    let mut stdin = child.stdin.take().expect("it is piped");
    stdin.write_all(&vec![b'x'; 1 << 20]).await.expect("it is read");
    drop(stdin);
    let counted = ended(child.wait_with_output().await.expect("it ends"));
    assert_eq!(counted.stdout.trim(), "1048576");

    // `script` gives the client a terminal.
    let inside = "incus exec web -- sh -c 'tty; exit 3'";
    let script = incus.command("script", &["-qec", inside, "/dev/null"]).output().await;
    let script = ended(script.expect("script runs (bsdutils)"));
    assert!(script.stdout.contains("/dev/pts/"), "{script:?}");
    assert_eq!(script.status, 3, "{script:?}");

    let all = futures::future::join_all((0..20).map(|n| {
        let (incus, text) = (&incus, format!("n{n}"));
        async move { (incus.ok(&["exec", "web", "--", "echo", &text]).await, text) }
    }));
    for (said, text) in all.await {
        assert_eq!(said.trim(), text, "no output is lost");
    }
    incus.daemon.dismantle().await;
}

#[tokio::test]
async fn incus_keeps_snapshots_and_configuration() {
    let incus = furnished().await;
    incus.ok(&["launch", BUSYBOX, "web"]).await;
    incus.ok(&["exec", "web", "--", "sh", "-c", "echo first > /root/file"]).await;
    incus.ok(&["snapshot", "create", "web", "one"]).await;
    incus.ok(&["exec", "web", "--", "sh", "-c", "echo second > /root/file"]).await;
    let snapshots = incus.json(&["snapshot", "list", "web", "--format", "json"]).await;
    assert_eq!(snapshots.as_array().map(Vec::len), Some(1), "{snapshots}");
    incus.ok(&["snapshot", "restore", "web", "one"]).await;
    assert_eq!(incus.ok(&["exec", "web", "--", "cat", "/root/file"]).await, "first\n");
    incus.ok(&["snapshot", "rename", "web", "one", "two"]).await;
    incus.ok(&["copy", "web/two", "back"]).await;
    incus.ok(&["snapshot", "delete", "web", "two"]).await;

    incus.ok(&["config", "set", "web", "limits.memory=64MiB", "user.key=value"]).await;
    assert_eq!(incus.ok(&["config", "get", "web", "user.key"]).await.trim(), "value");
    assert!(incus.ok(&["config", "show", "web"]).await.contains("limits.memory: 64MiB"));
    incus.ok(&["config", "unset", "web", "user.key"]).await;
    assert!(!incus.refused(&["config", "set", "web", "no.such.key=1"]).await.is_empty());
    incus.ok(&["config", "device", "override", "web", "root", "size=64MiB"]).await;
    assert!(incus.ok(&["config", "device", "list", "web"]).await.contains("root"));
    assert!(incus.ok(&["config", "device", "show", "web"]).await.contains("size: 64MiB"));
    incus.daemon.dismantle().await;
}

#[tokio::test]
async fn incus_sees_all_else() {
    let incus = furnished().await;
    incus.ok(&["profile", "create", "small"]).await;
    incus.ok(&["profile", "set", "small", "limits.cpu=1"]).await;
    incus.ok(&["launch", BUSYBOX, "web", "-p", "default", "-p", "small"]).await;
    assert!(incus.ok(&["profile", "show", "small"]).await.contains("/1.0/instances/web"));
    assert!(!incus.refused(&["profile", "delete", "small"]).await.is_empty());
    let bridge = incus.daemon.bridge();
    assert!(incus.ok(&["network", "list", "--format", "csv"]).await.contains(&bridge));
    assert!(incus.ok(&["network", "show", &bridge]).await.contains("ipv4.address"));
    incus.ok(&["network", "info", &bridge]).await;
    incus.ok(&["network", "list-leases", &bridge]).await;
    assert!(incus.ok(&["storage", "list", "--format", "csv"]).await.contains("default,btrfs"));
    incus.ok(&["storage", "show", "default"]).await;
    incus.ok(&["storage", "info", "default"]).await;
    incus.ok(&["storage", "volume", "list", "default"]).await;

    let images = incus.json(&["image", "list", "--format", "json"]).await;
    let fingerprint = images[0]["fingerprint"].as_str().expect("it has one").to_owned();
    assert!(incus.ok(&["image", "info", BUSYBOX]).await.contains(&fingerprint));
    incus.ok(&["image", "alias", "create", "bb", &fingerprint[..12]]).await;
    assert!(incus.ok(&["image", "alias", "list", "--format", "csv"]).await.contains("bb"));
    incus.ok(&["image", "alias", "delete", "bb"]).await;
    let exported = incus.configuration.path().join("exported");
    let target = exported.to_str().expect("it is text");
    incus.ok(&["image", "export", BUSYBOX, target]).await;
    let files = std::fs::read_dir(incus.configuration.path()).expect("a directory");
    let bytes = std::fs::read(busybox_image()).expect("the image");
    let same = files.flatten().any(|file| std::fs::read(file.path()).is_ok_and(|it| it == bytes));
    assert!(same, "what comes out is what went in");

    incus
        .ok(&[
            "project",
            "create",
            "work",
            "-c",
            "features.images=false",
            "-c",
            "features.profiles=false",
        ])
        .await;
    incus.ok(&["launch", BUSYBOX, "web", "--project", "work"]).await;
    let both = incus.ok(&["list", "--all-projects", "--format", "csv", "--columns", "n"]).await;
    assert_eq!(both.lines().filter(|line| line.contains("web")).count(), 2, "{both}");
    incus.ok(&["delete", "--force", "web", "--project", "work"]).await;
    incus.ok(&["project", "delete", "work"]).await;
    incus.ok(&["operation", "list"]).await;
    incus.ok(&["delete", "--force", "web"]).await;
    incus.ok(&["profile", "delete", "small"]).await;
    incus.daemon.dismantle().await;
}

#[tokio::test]
async fn incus_monitors() {
    use tokio::io::{AsyncBufReadExt as _, BufReader};
    let incus = furnished().await;
    let mut monitor =
        incus.command("incus", &["monitor", "--type", "lifecycle", "--format", "json"]);
    let mut monitor = monitor.stdout(Stdio::piped()).kill_on_drop(true).spawn().expect("it runs");
    let mut lines = BufReader::new(monitor.stdout.take().expect("it is piped")).lines();
    // Until the monitor has connected nobody knows that it listens: things happen until it tells.
    let (heard, happened) = tokio::join!(
        async { tokio::time::timeout(std::time::Duration::from_secs(30), lines.next_line()).await },
        async {
            for number in 0..10 {
                let name = format!("m{number}");
                incus.ok(&["create", BUSYBOX, &name]).await;
            }
        }
    );
    let () = happened;
    let line = heard.expect("an event comes").expect("it can be read").expect("there is one");
    let event: Value = serde_json::from_str(&line).expect("it is JSON");
    assert_eq!(event["type"], "lifecycle", "{event}");
    monitor.kill().await.expect("it is ended");
    incus.daemon.dismantle().await;
}

/// What pylxd is asked to do; it fails loudly when something is not as it should be.
const PYLXD: &str = r#"
import sys, pylxd
client = pylxd.Client(endpoint=sys.argv[1])
assert client.trusted, "trusted"
instance = client.instances.create({
    "name": "py", "source": {"type": "image", "alias": "busybox"}}, wait=True)
instance.start(wait=True)
assert [one.name for one in client.instances.all()] == ["py"]
result = instance.execute(["sh", "-c", "echo out; echo err >&2; exit 5"])
assert (result.exit_code, result.stdout, result.stderr) == (5, "out\n", "err\n"), result
instance.snapshots.create("one", wait=True)
assert [one.name for one in instance.snapshots.all()] == ["one"]
assert instance.state().status == "Running"
instance.config["user.key"] = "value"
instance.save(wait=True)
assert client.instances.get("py").config["user.key"] == "value"
instance.stop(force=True, wait=True)
instance.delete(wait=True)
assert client.instances.all() == []
assert client.images.all() and client.profiles.all() and client.networks.all()
assert client.storage_pools.all()
"#;

#[tokio::test]
async fn pylxd_lives_with_an_instance() {
    let incus = furnished().await;
    let python = std::env::var("STAPES_PYLXD").unwrap_or_else(|_| "python3".to_owned());
    let socket = incus.daemon.socket();
    let arguments = ["-c", PYLXD, socket.to_str().expect("it is text")];
    let output = incus.command(&python, &arguments).output().await;
    let ended = ended(output.expect("python runs"));
    let missing = "STAPES_PYLXD must name a python that has pylxd (scenarios/test.sh makes one)";
    assert!(!ended.stderr.contains("No module named 'pylxd'"), "{missing}");
    assert_eq!(ended.status, 0, "{}{}", ended.stdout, ended.stderr);
    incus.daemon.dismantle().await;
}
