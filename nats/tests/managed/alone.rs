//! One server: founded, left alone by its daemon, killed, stopped and started again.

use std::fs;

use stapes_nats::managed::{Beginning, ManagedConfig, ManagedError, ManagedServer, Status, Stop};

use crate::farm::{Farm, SOON, append, check, kept_log, kill, log};

#[tokio::test]
async fn a_founder_keeps_its_log_through_every_end() {
    let farm = Farm::new(1);
    let config = farm.config(1, 1);
    let server = ManagedServer::start(config.clone()).await.unwrap();
    kept_log(&farm, &server).await;
    append(&log(&farm, &server).await, 0..50).await;
    let pid = farm.site(1).pid();
    assert!(!config.dir.join("companion").exists(), "the companion is gone");

    // Its daemon goes, another comes.
    drop(server);
    let server = ManagedServer::start(config.clone()).await.unwrap();
    assert_eq!(farm.site(1).pid(), pid, "the same server goes on");
    append(&log(&farm, &server).await, 50..60).await;

    // It is killed.
    let mut status = server.status();
    kill(pid);
    status.wait_for(|status| matches!(status, Status::Down { .. })).await.unwrap();
    server.ready(SOON).await.unwrap();
    assert_ne!(farm.site(1).pid(), pid);
    check(&log(&farm, &server).await, 60).await;

    // It is stopped, and started again when no daemon remembers it.
    server.stop(Stop::Now).await.unwrap();
    assert!(!config.dir.join("process.json").exists());
    let server = ManagedServer::start(config.clone()).await.unwrap();
    check(&log(&farm, &server).await, 60).await;
    append(&log(&farm, &server).await, 60..70).await;
    server.stop(Stop::LameDuck).await.unwrap();
}

#[tokio::test]
async fn what_an_interrupted_founding_left_is_thrown_away() {
    let farm = Farm::new(1);
    let config = farm.config(1, 1);
    fs::create_dir_all(config.dir.join("store/SYSTEM/_js_/_meta_")).unwrap();
    fs::write(config.dir.join("store/SYSTEM/_js_/_meta_/peers.idx"), "half").unwrap();
    let server = ManagedServer::start(config).await.unwrap();
    kept_log(&farm, &server).await;
    server.stop(Stop::Now).await.unwrap();
}

#[tokio::test]
async fn what_cannot_be_started_is_refused_and_nothing_runs() {
    let farm = Farm::new(2);
    let refused = async |config: ManagedConfig| {
        let record = config.dir.join("process.json");
        let error = ManagedServer::start(config).await.unwrap_err();
        assert!(!record.exists(), "{error}");
        error
    };
    let right = farm.config(1, 1);
    let none =
        refused(ManagedConfig { binary: "/nowhere/nats-server".into(), ..right.clone() }).await;
    assert!(matches!(none, ManagedError::NoBinary { .. }), "{none}");
    let old = farm.dir.path().join("old-nats-server");
    fs::write(&old, "#!/bin/sh\necho nats-server: v2.9.10\n").unwrap();
    fs::set_permissions(&old, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let old = refused(ManagedConfig { binary: old, ..right.clone() }).await;
    assert!(old.to_string().contains("2.9.10") && old.to_string().contains("2.15"), "{old}");
    let lost = refused(ManagedConfig { beginning: Beginning::Join, ..right.clone() }).await;
    assert!(matches!(lost, ManagedError::NothingToJoin(_)), "{lost}");
    let nobody = refused(farm.config(2, 2)).await;
    assert!(matches!(nobody, ManagedError::NobodyThere(_)), "{nobody}");
    let mut keyless = right.clone();
    keyless.tls.key = "/nowhere/node.key".into();
    let keyless = refused(keyless).await;
    assert!(matches!(keyless, ManagedError::Refused(_)), "{keyless}");
}
