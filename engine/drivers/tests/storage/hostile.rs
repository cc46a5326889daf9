//! Trees that a guest made to be in the way.

use std::{ffi::CString, os::fd::OwnedFd, path::Path, process::Command};

use rustix::fs::{CWD, Mode, OFlags};
use stapes_core::{
    ids::{SnapshotId, VolumeId},
    port::{
        DriverError,
        storage::{RootLayers, Storage},
    },
    spec::{Incarnation, RootSource},
};

use crate::host::{Host, Kind};

async fn plain(host: &Host, volume: VolumeId) -> std::path::PathBuf {
    host.storage.ensure_pool(&host.ground.spec()).await.unwrap();
    host.storage.create_root(host.id(), volume, &RootSource::Empty, None).await.unwrap();
    match host.storage.root_layers(host.id(), volume, None).await.unwrap() {
        RootLayers::Plain { root } => root,
        layers @ RootLayers::Overlay { .. } => panic!("{layers:?}"),
    }
}

fn btrfs(arguments: &[&str], at: &Path) {
    let done = Command::new("btrfs").args(arguments).arg(at).output().unwrap();
    assert!(done.status.success(), "{done:?}");
}

/// Guests can make subvolumes of their own, inside each other and read-only.
#[tokio::test]
async fn nested_subvolumes_are_deleted() {
    let _alone = crate::host::alone().await;
    let host = Host::new(Kind::Btrfs);
    let root = plain(&host, VolumeId::derive(&["nested"])).await;
    btrfs(&["subvolume", "create"], &root.join("one"));
    std::fs::create_dir(root.join("one/deep")).unwrap();
    btrfs(&["subvolume", "create"], &root.join("one/deep/two"));
    std::fs::write(root.join("one/deep/two/file"), "content").unwrap();
    let read_only = Command::new("btrfs")
        .args(["property", "set"])
        .arg(root.join("one"))
        .args(["ro", "true"])
        .output()
        .unwrap();
    assert!(read_only.status.success(), "{read_only:?}");
    host.finish().await;
}

/// A directory so deep that no path names its end, and far more levels than files may be open.
#[tokio::test]
async fn a_bottomless_directory_is_deleted() {
    let _alone = crate::host::alone().await;
    let host = Host::new(Kind::Dir);
    let volume = VolumeId::derive(&["deep"]);
    let root = plain(&host, volume).await;
    let open = |directory: &OwnedFd, name: &CString| {
        rustix::fs::mkdirat(directory, name, Mode::RWXU).unwrap();
        rustix::fs::openat(directory, name, OFlags::DIRECTORY, Mode::empty()).unwrap()
    };
    let mut at = rustix::fs::openat(CWD, &root, OFlags::DIRECTORY, Mode::empty()).unwrap();
    let name = CString::new("d".repeat(200)).unwrap();
    for _ in 0..3000 {
        at = open(&at, &name);
    }
    drop(at);
    let snapshot = SnapshotId::derive(&["deep"]);
    let copied = host.storage.create_snapshot(host.id(), volume, snapshot).await;
    assert!(matches!(copied, Err(DriverError::Refused(_))), "{copied:?}");
    host.finish().await;
}

/// A link out of the tree is copied as a link, and what it points at is left alone.
#[tokio::test]
async fn links_are_not_followed() {
    let _alone = crate::host::alone().await;
    let host = Host::new(Kind::Dir);
    let volume = VolumeId::derive(&["links"]);
    let root = plain(&host, volume).await;
    let outside = host.ground.directory.path().join("outside");
    std::fs::create_dir(&outside).unwrap();
    std::fs::write(outside.join("file"), "the host's").unwrap();
    std::os::unix::fs::symlink(&outside, root.join("directory")).unwrap();
    std::os::unix::fs::symlink(outside.join("file"), root.join("file")).unwrap();
    // Opening these would wait for ever, or do something.
    let mode = Mode::RUSR | Mode::WUSR;
    let pipe = rustix::fs::FileType::Fifo;
    rustix::fs::mknodat(CWD, root.join("pipe"), pipe, mode, 0).unwrap();
    let whiteout = rustix::fs::FileType::CharacterDevice;
    rustix::fs::mknodat(CWD, root.join("whiteout"), whiteout, mode, 0).unwrap();
    let snapshot = SnapshotId::derive(&["links"]);
    host.storage.create_snapshot(host.id(), volume, snapshot).await.unwrap();
    host.storage
        .restore_snapshot(host.id(), volume, snapshot, Incarnation::default())
        .await
        .unwrap();
    assert_eq!(std::fs::read_link(root.join("directory")).unwrap(), outside);
    use std::os::unix::fs::FileTypeExt;
    let kind = |name: &str| std::fs::symlink_metadata(root.join(name)).unwrap().file_type();
    assert!(kind("pipe").is_fifo() && kind("whiteout").is_char_device());
    host.finish().await;
    assert_eq!(std::fs::read_to_string(outside.join("file")).unwrap(), "the host's");
}
