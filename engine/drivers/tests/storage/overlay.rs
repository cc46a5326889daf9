//! What the storage gives out is a root that the kernel mounts, snapshots and restores.

use std::{ffi::CString, path::Path};

use rustix::mount::{MountFlags, MountPropagationFlags, UnmountFlags};
use stapes_core::{
    ids::{SnapshotId, VolumeId},
    port::storage::{IMAGE_FILE, RootLayers, Storage, UPPER, WORK, laws::image},
    spec::Incarnation,
};

use crate::host::{Host, Kind};

/// Mounts the layers where only this thread sees it, and does something there.
pub(crate) fn inside<T: Send>(
    layers: &RootLayers,
    at: &Path,
    act: impl FnOnce(&Path) -> T + Send,
) -> T {
    let RootLayers::Overlay { lower, volume } = layers else { panic!("{layers:?}") };
    let (upper, work) = (volume.join(UPPER), volume.join(WORK));
    let options = format!(
        "lowerdir={},upperdir={},workdir={}",
        lower.display(),
        upper.display(),
        work.display()
    );
    let options = CString::new(options).unwrap();
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS).unwrap();
            let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
            rustix::mount::mount_change("/", private).unwrap();
            rustix::mount::mount("overlay", at, "overlay", MountFlags::empty(), &*options).unwrap();
            let answer = act(at);
            rustix::mount::unmount(at, UnmountFlags::empty()).unwrap();
            answer
        });
        thread.join().unwrap()
    })
}

async fn a_guest_comes_back(kind: Kind) {
    let host = Host::new(kind);
    let (pool, storage) = (host.id(), &host.storage);
    let volume = VolumeId::derive(&["overlay"]);
    let snapshot = SnapshotId::derive(&["overlay"]);
    host.create_from_image(volume).await;
    let at = host.ground.directory.path().join("guest");
    std::fs::create_dir(&at).unwrap();

    let layers = storage.root_layers(pool, volume, Some(&image())).await.unwrap();
    inside(&layers, &at, |root| {
        assert_eq!(std::fs::read_to_string(root.join(IMAGE_FILE)).unwrap(), image().as_str());
        std::fs::write(root.join("kept"), "before").unwrap();
        std::fs::remove_file(root.join(IMAGE_FILE)).unwrap();
        std::os::unix::fs::symlink("/etc/shadow", root.join("link")).unwrap();
        std::fs::hard_link(root.join("kept"), root.join("kept too")).unwrap();
    });
    storage.create_snapshot(pool, volume, snapshot).await.unwrap();
    inside(&layers, &at, |root| {
        std::fs::write(root.join("kept"), "after").unwrap();
        std::fs::write(root.join(IMAGE_FILE), "again").unwrap();
    });
    storage.restore_snapshot(pool, volume, snapshot, Incarnation::default()).await.unwrap();
    let layers = storage.root_layers(pool, volume, Some(&image())).await.unwrap();
    inside(&layers, &at, |root| {
        assert_eq!(std::fs::read_to_string(root.join("kept")).unwrap(), "before");
        assert!(!root.join(IMAGE_FILE).exists(), "what the guest deleted stays deleted");
        assert_eq!(std::fs::read_link(root.join("link")).unwrap(), Path::new("/etc/shadow"));
        // Still one file of two names, and one that can be written.
        std::fs::write(root.join("kept too"), "both").unwrap();
        assert_eq!(std::fs::read_to_string(root.join("kept")).unwrap(), "both");
    });
    std::fs::remove_dir(&at).unwrap();
    host.finish().await;
}

#[tokio::test]
async fn a_guest_on_btrfs_comes_back() {
    let _alone = crate::host::alone().await;
    a_guest_comes_back(Kind::Btrfs).await;
}

#[tokio::test]
async fn a_guest_on_dir_comes_back() {
    let _alone = crate::host::alone().await;
    a_guest_comes_back(Kind::Dir).await;
}
