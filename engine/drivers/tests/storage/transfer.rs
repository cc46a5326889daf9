//! A guest's root goes from one node's pool to another's, in rounds, with all that the kernel keeps.

use std::{
    os::{fd::OwnedFd, unix::ffi::OsStrExt, unix::fs::MetadataExt},
    path::Path,
    time::Instant,
};

use rustix::fs::{AtFlags, CWD, FileType, Mode, XattrFlags};
use stapes_core::{
    ids::{SnapshotId, VolumeId},
    port::storage::{IMAGE_FILE, RootLayers, Storage, UPPER, laws::Subject, laws::image},
    spec::RootSource,
};

use crate::{
    host::{Host, Kind, alone, describe},
    overlay::inside,
};

const QUOTA_BYTES: u64 = 256 << 20;

fn volume() -> VolumeId {
    VolumeId::derive(&["transfer"])
}

fn round(number: u8) -> SnapshotId {
    SnapshotId::derive(&["transfer", &number.to_string()])
}

fn arrived(number: u8) -> RootSource {
    RootSource::Volume { volume: volume(), snapshot: Some(round(number)), image: Some(image()) }
}

pub(crate) fn pipe() -> (OwnedFd, OwnedFd) {
    let (reader, writer) = std::io::pipe().unwrap();
    (reader.into(), writer.into())
}

/// Sends the snapshot from one host to the other and says how many bytes that took.
async fn travel(from: &Host, to: &Host, number: u8, parent: Option<u8>) -> u64 {
    let (reader, writer) = pipe();
    let parent = parent.map(round);
    let (sent, received) = tokio::join!(
        from.storage.send(from.id(), volume(), round(number), parent, writer),
        to.storage.receive(to.id(), volume(), round(number), parent, reader),
    );
    assert_eq!(sent, received);
    sent.unwrap()
}

async fn image_travels(from: &Host, to: &Host) {
    let (reader, writer) = pipe();
    to.storage.ensure_pool(&to.ground.spec()).await.unwrap();
    assert_eq!(to.storage.has_image(to.id(), &image()).await, Ok(false));
    let image = &image();
    let (sent, received) = tokio::join!(
        from.storage.send_image(from.id(), image, writer),
        to.storage.receive_image(to.id(), image, reader),
    );
    assert_eq!(sent, received);
    assert_eq!(to.storage.has_image(to.id(), image).await, Ok(true));
}

async fn layers(host: &Host) -> RootLayers {
    host.storage.root_layers(host.id(), volume(), Some(&image())).await.unwrap()
}

async fn upper(host: &Host) -> std::path::PathBuf {
    let RootLayers::Overlay { lower: _, volume } = layers(host).await else { panic!("no overlay") };
    volume.join(UPPER)
}

/// Everything that a root can hold.
fn live(root: &Path) {
    let own = |name: &str, uid, gid| {
        std::os::unix::fs::lchown(root.join(name), Some(uid), Some(gid)).unwrap();
    };
    let attribute = |name: &str, attribute: &str, value: &[u8]| {
        rustix::fs::lsetxattr(root.join(name), attribute, value, XattrFlags::empty()).unwrap();
    };
    std::fs::write(root.join("plain"), "one").unwrap();
    own("plain", 65535, 65534);
    std::fs::write(root.join("setuid"), "program").unwrap();
    own("setuid", 1000, 1000);
    rustix::fs::chmod(root.join("setuid"), Mode::from_raw_mode(0o6755)).unwrap();
    // A capability holds newlines, and so may any value.
    let capability = b"\x01\0\0\x02\x0a\x20\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
    attribute("setuid", "security.capability", capability);
    attribute("plain", "user.note", b"two\nlines\n");
    attribute("plain", "trusted.ours", b"\0\xff");
    std::os::unix::fs::symlink("/etc/shadow", root.join("link")).unwrap();
    own("link", 7, 8);
    attribute("link", "trusted.ours", b"of a link");
    std::fs::hard_link(root.join("plain"), root.join("plain too")).unwrap();
    for (name, kind, device) in [
        ("pipe", FileType::Fifo, 0),
        ("device", FileType::CharacterDevice, rustix::fs::makedev(1, 3)),
        ("block", FileType::BlockDevice, rustix::fs::makedev(259, 70_000)),
    ] {
        rustix::fs::mknodat(CWD, root.join(name), kind, Mode::from_raw_mode(0o622), device)
            .unwrap();
        rustix::fs::chmodat(CWD, root.join(name), Mode::from_raw_mode(0o622), AtFlags::empty())
            .unwrap();
        own(name, 5, 65535);
    }
    let deep = (0..20).map(|number| format!("{number}-{}", "d".repeat(80))).collect::<Vec<_>>();
    std::fs::create_dir_all(root.join(deep.join("/"))).unwrap();
    std::fs::write(root.join(deep.join("/")).join("deep"), "deep").unwrap();
    let raw = std::ffi::OsStr::from_bytes(b"not \xff text\n");
    std::fs::write(root.join(raw), "raw").unwrap();
    let holes = std::fs::File::create(root.join("holes")).unwrap();
    holes.set_len(64 << 20).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&holes, b"island", 40 << 20).unwrap();
    std::fs::set_permissions(root.join("0-".to_owned() + &"d".repeat(80)), {
        std::os::unix::fs::PermissionsExt::from_mode(0o1777)
    })
    .unwrap();
    // A whiteout, and a directory that hides the image's.
    std::fs::remove_file(root.join(IMAGE_FILE)).unwrap();
    std::fs::remove_dir_all(root.join("replaced")).unwrap();
    std::fs::create_dir(root.join("replaced")).unwrap();
    std::fs::write(root.join("replaced/new"), "new").unwrap();
}

/// What a guest does between two rounds.
fn live_on(root: &Path) {
    std::fs::write(root.join("plain too"), "both of them").unwrap();
    std::fs::rename(root.join("replaced"), root.join("moved")).unwrap_or_else(|_| {
        // Some overlays refuse to move a directory that is the image's, too.
        std::fs::create_dir(root.join("moved")).unwrap();
    });
    std::fs::remove_file(root.join("pipe")).unwrap();
    std::fs::rename(root.join("link"), root.join("pipe")).unwrap();
    std::fs::write(root.join("large"), vec![9; 3 << 20]).unwrap();
    std::fs::File::options().write(true).open(root.join("holes")).unwrap().set_len(1000).unwrap();
    rustix::fs::removexattr(root.join("plain"), "user.note").unwrap();
    std::fs::remove_dir_all(root.join("0-".to_owned() + &"d".repeat(80))).unwrap();
}

async fn rounds_between_two_nodes(kind: Kind) {
    let (source, target) = (Host::new(kind), Host::new(kind));
    let at = source.ground.directory.path().join("guest");
    std::fs::create_dir(&at).unwrap();
    source.create_from_image(volume()).await;
    image_travels(&source, &target).await;
    inside(&layers(&source).await, &at, live);
    source.storage.create_snapshot(source.id(), volume(), round(1)).await.unwrap();
    let full = travel(&source, &target, 1, None).await;
    inside(&layers(&source).await, &at, live_on);
    source.storage.create_snapshot(source.id(), volume(), round(2)).await.unwrap();
    let rest = travel(&source, &target, 2, Some(1)).await;
    let quota = target.quotas().then_some(QUOTA_BYTES);
    for _ in 0..2 {
        let made = target.storage.create_root(target.id(), volume(), &arrived(2), quota).await;
        made.unwrap();
    }
    let (sent, arrived_tree) = (upper(&source).await, upper(&target).await);
    let described = describe(&sent);
    assert!(described.len() > 12, "{described:#?}");
    for (path, was) in &described {
        assert_eq!(describe(&arrived_tree).get(path), Some(was), "{}", path.display());
    }
    assert_eq!(describe(&arrived_tree).len(), described.len());
    if kind == Kind::Btrfs {
        assert!(rest < full + (4 << 20) && rest > 3 << 20, "{full} then {rest} bytes");
        let [here, there] =
            [&source, &target].map(|host| host.storage.volume_usage(host.id(), volume()));
        let (here, there) = (here.await.unwrap(), there.await.unwrap());
        assert_eq!(there.total_bytes, QUOTA_BYTES);
        // The root is charged for what came over, as if it had been written here.
        assert!(there.used_bytes + (1 << 20) > here.used_bytes, "{here:?} {there:?}");
    }
    for number in [1, 2] {
        target.storage.delete_snapshot(target.id(), volume(), round(number)).await.unwrap();
    }
    inside(&layers(&target).await, &at, |root| {
        assert!(!root.join(IMAGE_FILE).exists(), "what the guest deleted stays deleted");
        assert!(!root.join("replaced/old").exists() && !root.join("moved/old").exists());
        assert_eq!(std::fs::read_to_string(root.join("plain")).unwrap(), "both of them");
        assert_eq!(std::fs::metadata(root.join("large")).unwrap().len(), 3 << 20);
        std::fs::write(root.join("plain"), "it lives on").unwrap();
    });
    // And back: the node that it came from makes a new volume of it.
    target.storage.create_snapshot(target.id(), volume(), round(3)).await.unwrap();
    source.storage.delete_volume(source.id(), volume()).await.unwrap();
    travel(&target, &source, 3, None).await;
    source.storage.create_root(source.id(), volume(), &arrived(3), None).await.unwrap();
    assert_eq!(source.read(volume(), "plain").await.unwrap(), b"it lives on");
    std::fs::remove_dir(&at).unwrap();
    source.finish().await;
    target.finish().await;
}

#[tokio::test]
async fn a_guest_on_btrfs_moves() {
    let _alone = alone().await;
    rounds_between_two_nodes(Kind::Btrfs).await;
}

#[tokio::test]
async fn a_guest_on_dir_moves() {
    let _alone = alone().await;
    rounds_between_two_nodes(Kind::Dir).await;
}

/// A snapshot that has the parent's name and is another one is not built upon.
#[tokio::test]
async fn a_parent_that_was_made_again_is_noticed() {
    let _alone = alone().await;
    let (source, target) = (Host::new(Kind::Btrfs), Host::new(Kind::Btrfs));
    source.create_from_image(volume()).await;
    image_travels(&source, &target).await;
    source.storage.create_snapshot(source.id(), volume(), round(1)).await.unwrap();
    travel(&source, &target, 1, None).await;
    source.storage.delete_snapshot(source.id(), volume(), round(1)).await.unwrap();
    assert!(source.write(volume(), "a", b"later").await);
    for number in [1, 2] {
        source.storage.create_snapshot(source.id(), volume(), round(number)).await.unwrap();
    }
    let (reader, writer) = pipe();
    let parent = Some(round(1));
    let (_, received) = tokio::join!(
        source.storage.send(source.id(), volume(), round(2), parent, writer),
        target.storage.receive(target.id(), volume(), round(2), parent, reader),
    );
    let error = received.unwrap_err();
    assert!(error.to_string().contains("its parent is not the one"), "{error}");
    target.storage.delete_volume(target.id(), volume()).await.unwrap();
    source.finish().await;
    target.finish().await;
}

/// Not another file system's stream.
#[tokio::test]
async fn pools_of_two_drivers_refuse_each_other() {
    let _alone = alone().await;
    let (source, target) = (Host::new(Kind::Btrfs), Host::new(Kind::Dir));
    source.create_from_image(volume()).await;
    image_travels(&source, &target).await;
    source.storage.create_snapshot(source.id(), volume(), round(1)).await.unwrap();
    let (reader, writer) = pipe();
    let (_, received) = tokio::join!(
        source.storage.send(source.id(), volume(), round(1), None, writer),
        target.storage.receive(target.id(), volume(), round(1), None, reader),
    );
    let error = received.unwrap_err();
    assert!(error.to_string().contains("same driver"), "{error}");
    source.finish().await;
    target.finish().await;
}

/// How fast it goes is printed; that it takes no memory is checked.
#[tokio::test]
async fn two_hundred_megabytes_move() {
    const BYTES: usize = 200_000_000;
    let _alone = alone().await;
    for kind in [Kind::Btrfs, Kind::Dir] {
        let (source, target) = (Host::new(kind), Host::new(kind));
        source.create_from_image(volume()).await;
        image_travels(&source, &target).await;
        let noise: Vec<u8> = (0..BYTES as u64 / 8)
            .flat_map(|number| number.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes())
            .collect();
        let size = if kind == Kind::Btrfs { BYTES } else { BYTES / 2 };
        assert!(source.write(volume(), "large", &noise[..size]).await);
        source.storage.create_snapshot(source.id(), volume(), round(1)).await.unwrap();
        let peak = peak_bytes();
        let begun = Instant::now();
        let bytes = travel(&source, &target, 1, None).await;
        let travelled = begun.elapsed();
        let grown = peak_bytes() - peak;
        let begun = Instant::now();
        target.storage.create_root(target.id(), volume(), &arrived(1), None).await.unwrap();
        let rooted = begun.elapsed();
        let rate = bytes as f64 / 1e6 / travelled.as_secs_f64();
        println!("{kind:?}: {bytes} bytes in {travelled:?} ({rate:.0} MB/s), a root in {rooted:?}");
        assert!(grown < 32 << 20, "{grown} bytes of memory");
        assert_eq!(target.read(volume(), "large").await.unwrap(), noise[..size]);
        source.finish().await;
        target.finish().await;
    }
}

/// Of this process, ever.
fn peak_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10
}

/// What arrived and becomes a root is on the disk at once: nothing is left to be written.
#[tokio::test]
async fn an_arrived_root_is_on_the_disk() {
    let _alone = alone().await;
    let (source, target) = (Host::new(Kind::Btrfs), Host::new(Kind::Btrfs));
    source.create_from_image(volume()).await;
    image_travels(&source, &target).await;
    assert!(source.write(volume(), "a", &vec![3; 1 << 20]).await);
    source.storage.create_snapshot(source.id(), volume(), round(1)).await.unwrap();
    travel(&source, &target, 1, None).await;
    target.storage.create_root(target.id(), volume(), &arrived(1), None).await.unwrap();
    // The file below the pool as it is on the disk now, opened by another pool of the same name.
    let file = target.ground.pools().join(format!("{}.img", target.id()));
    let frozen = target.ground.directory.path().join("frozen.img");
    std::fs::copy(&file, &frozen).unwrap();
    assert!(std::fs::metadata(&file).unwrap().blocks() > 0);
    target.finish().await;
    source.finish().await;
    std::fs::rename(&frozen, &file).unwrap();
    target.storage.ensure_pool(&target.ground.spec()).await.unwrap();
    assert_eq!(target.read(volume(), "a").await.unwrap(), vec![3; 1 << 20]);
    target.finish().await;
}
