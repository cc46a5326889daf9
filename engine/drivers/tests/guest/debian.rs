//! A real distribution: Debian 12 with systemd, made by mmdebstrap and kept in
//! `$STAPES_TEST_CACHE` (by default `target/test-cache`).

use std::{
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use futures::StreamExt as _;
use stapes_core::{
    ids::InstanceId,
    port::guest::{ExitCause, Guests, Stop, laws::run},
};

use crate::host::{Host, Kind};

/// The image, made once.
fn tarball() -> PathBuf {
    let cache = std::env::var_os("STAPES_TEST_CACHE").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/test-cache"),
        PathBuf::from,
    );
    let tarball = cache.join("bookworm.tar");
    if !tarball.exists() {
        std::fs::create_dir_all(&cache).unwrap();
        let new = cache.join("bookworm.new.tar");
        let made = Command::new("mmdebstrap")
            .args(["--quiet", "--variant=minbase"])
            .arg("--include=systemd,systemd-sysv,dbus,iproute2")
            .arg("bookworm")
            .arg(&new)
            .status()
            .expect("mmdebstrap is installed");
        assert!(made.success(), "mmdebstrap makes the image");
        std::fs::rename(new, &tarball).unwrap();
    }
    tarball
}

pub(crate) fn unpack(host: &Host) -> PathBuf {
    let root = host.directory.path().join("debian");
    std::fs::create_dir(&root).unwrap();
    let tar = Command::new("tar")
        .arg("-C")
        .arg(&root)
        .args(["--numeric-owner", "--xattrs", "--exclude=./dev/*", "-xf"])
        .arg(tarball())
        .status()
        .unwrap();
    assert!(tar.success());
    root
}

/// Waits until it has booted, and finds no unit failed.
pub(crate) async fn is_running(driver: &dyn Guests, id: InstanceId) {
    let ask = ["systemctl", "is-system-running", "--wait"];
    let (mut out, mut err, mut status) = run(driver, id, &ask, "").await;
    // It cannot be asked before it listens.
    while out == "offline\n" || err.contains("Failed to connect to bus") {
        (out, err, status) = run(driver, id, &ask, "").await;
    }
    let (failed, ..) = run(driver, id, &["systemctl", "--failed"], "").await;
    assert_eq!((out.trim_end(), status), ("running", 0), "{err}{failed}");
}

#[tokio::test]
async fn systemd_runs_without_a_failed_unit_and_ends_in_every_way() {
    let mut host = Host::new(Kind::Overlay);
    let tree = unpack(&host);
    let driver = host.driver();
    let mut exits = driver.exits();
    let (spec, root) = host.guest_on(&tree);
    let id = spec.instance;
    let is_running = async || is_running(driver.as_ref(), id).await;
    driver.start(&spec, &root).await.unwrap();
    is_running().await;
    assert_eq!(run(driver.as_ref(), id, &["ls", "/etc/debian_version"], "").await.2, 0);
    // A service of its own, with a namespace of its own that mounts /proc again.
    let service = [
        "systemd-run",
        "--wait",
        "--pipe",
        "-p",
        "ProtectProc=invisible",
        "-p",
        "PrivateTmp=yes",
        "echo",
        "served",
    ];
    assert_eq!(run(driver.as_ref(), id, &service, "").await.0, "served\n");
    driver.freeze(id).await.unwrap();
    driver.unfreeze(id).await.unwrap();

    let clean = Stop::Clean { timeout: Duration::from_secs(60) };
    assert_eq!(driver.stop(id, clean).await, Ok(ExitCause::GuestShutdown));
    for (word, cause) in
        [("reboot", ExitCause::GuestReboot), ("poweroff", ExitCause::GuestShutdown)]
    {
        driver.start(&spec, &root).await.unwrap();
        is_running().await;
        run(driver.as_ref(), id, &["systemctl", word], "").await;
        assert_eq!(exits.next().await.unwrap().cause, cause);
    }
    // Asked before it can listen, it hears later.
    driver.start(&spec, &root).await.unwrap();
    assert_eq!(driver.stop(id, clean).await, Ok(ExitCause::GuestShutdown));
    driver.start(&spec, &root).await.unwrap();
    is_running().await;
    assert_eq!(driver.stop(id, Stop::Force).await, Ok(ExitCause::Forced));
    assert_eq!(host.leftovers(), Vec::<String>::new());
}
