//! Pools across restarts of the daemon and the host, and what is said when one is broken.

use std::os::unix::fs::FileExt;

use rustix::mount::UnmountFlags;
use stapes_core::{
    ids::VolumeId,
    port::{
        DriverError,
        storage::{Storage, laws::Subject},
    },
    spec::PoolDriver,
};

use crate::host::{Host, Kind, POOL_BYTES, loops, mounts};

fn refusal<T: std::fmt::Debug>(answer: Result<T, DriverError>) -> String {
    match answer {
        Err(DriverError::Refused(text)) => text,
        other => panic!("{other:?}"),
    }
}

fn unmount(host: &Host) {
    rustix::mount::unmount(host.ground.root(), UnmountFlags::empty()).unwrap();
    assert_eq!(loops(host.ground.directory.path()), Vec::<String>::new());
}

#[tokio::test]
async fn a_pool_is_found_again() {
    let _alone = crate::host::alone().await;
    let mut host = Host::new(Kind::Btrfs);
    let volume = VolumeId::derive(&["again"]);
    host.create_from_image(volume).await;
    assert!(host.write(volume, "a", b"kept").await);
    // The daemon restarts: mount and loop are there.
    host.restart();
    assert_eq!(host.read(volume, "a").await.unwrap(), b"kept");
    host.storage.ensure_pool(&host.ground.spec()).await.unwrap();
    // The host restarts: they are not.
    unmount(&host);
    host.restart();
    assert_eq!(host.storage.volumes(host.id()).await.unwrap(), [volume]);
    assert_eq!(host.read(volume, "a").await.unwrap(), b"kept");
    let directory = host.ground.directory.path();
    assert_eq!((mounts(directory).len(), loops(directory).len()), (1, 1));
    let uuid = host.ground.spec().pool;
    let mode = std::fs::read_to_string(format!("/sys/fs/btrfs/{uuid}/qgroups/mode")).unwrap();
    assert_eq!(mode.trim(), "squota");
    host.finish().await;
}

#[tokio::test]
async fn a_missing_or_damaged_file_is_told() {
    let _alone = crate::host::alone().await;
    let mut host = Host::new(Kind::Btrfs);
    host.storage.ensure_pool(&host.ground.spec()).await.unwrap();
    unmount(&host);
    let file = host.ground.root().with_extension("img");
    let image = std::fs::File::options().write(true).open(&file).unwrap();
    for superblock in [64 << 10, 64 << 20] {
        image.write_all_at(&[0; 4096], superblock).unwrap();
    }
    drop(image);
    host.restart();
    let text = refusal(host.storage.volumes(host.id()).await);
    assert!(text.contains("damaged") && text.contains("backup"), "{text}");
    assert_eq!(loops(host.ground.directory.path()), Vec::<String>::new());
    std::fs::remove_file(&file).unwrap();
    host.restart();
    let text = refusal(host.storage.ensure_pool(&host.ground.spec()).await);
    assert!(text.contains("missing") && text.contains("backup"), "{text}");
    host.storage.remove_pool(host.id()).await.unwrap();
    host.ground.assert_empty();
}

#[tokio::test]
async fn a_pool_grows_and_does_not_shrink() {
    let _alone = crate::host::alone().await;
    let host = Host::new(Kind::Btrfs);
    let mut spec = host.ground.spec();
    host.storage.ensure_pool(&spec).await.unwrap();
    for size_bytes in [2 * POOL_BYTES, POOL_BYTES] {
        spec.driver = PoolDriver::Btrfs { source: None, size_bytes };
        let answer = host.storage.ensure_pool(&spec).await;
        if size_bytes == POOL_BYTES {
            assert!(refusal(answer).contains("smaller"));
        }
        let usage = host.storage.pool_usage(host.id()).await.unwrap();
        assert_eq!(usage.total_bytes, 2 * POOL_BYTES);
    }
    host.finish().await;
}

#[tokio::test]
async fn what_cannot_be_a_pool_is_refused_and_leaves_nothing() {
    let _alone = crate::host::alone().await;
    let host = Host::new(Kind::Btrfs);
    let mut spec = host.ground.spec();
    let full = host.ground.directory.path().join("full");
    std::fs::create_dir(&full).unwrap();
    std::fs::write(full.join("somebody's"), "").unwrap();
    let drivers = [
        PoolDriver::Btrfs { source: None, size_bytes: 1 << 20 },
        PoolDriver::Btrfs { source: Some("/nowhere".into()), size_bytes: 0 },
        PoolDriver::Btrfs { source: Some(full.clone()), size_bytes: 0 },
        PoolDriver::Dir { source: Some("relative".into()) },
        PoolDriver::Dir { source: Some(full.clone()) },
    ];
    for driver in drivers {
        spec.driver = driver;
        refusal(host.storage.ensure_pool(&spec).await);
        let unknown = host.storage.volumes(host.id()).await;
        assert!(matches!(unknown, Err(DriverError::NotFound(_))), "{unknown:?}");
    }
    assert_eq!(std::fs::read_dir(&full).unwrap().count(), 1);
    host.ground.assert_empty();
}

#[tokio::test]
async fn a_directory_of_a_btrfs_can_be_a_pool() {
    let _alone = crate::host::alone().await;
    let below = Host::new(Kind::Btrfs);
    below.storage.ensure_pool(&below.ground.spec()).await.unwrap();
    let source = below.ground.root().join("source");
    std::fs::create_dir(&source).unwrap();
    let mut host = Host::new(Kind::Btrfs);
    host.ground.source = Some(source.clone());
    let volume = VolumeId::derive(&["below"]);
    host.create_from_image(volume).await;
    assert!(host.write(volume, "a", b"kept").await);
    host.restart();
    assert_eq!(host.read(volume, "a").await.unwrap(), b"kept");
    host.finish().await;
    std::fs::remove_dir(&source).unwrap();
    below.finish().await;
}
