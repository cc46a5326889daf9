//! Images as root: owners, capabilities, squashfs, and the images that are built here.
//!
//! What is built is kept in `STAPES_TEST_CACHE` (default `target/test-cache`) for other tests.

#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a test panics, and tells figures")]

mod image_archives;

use std::{
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    process::Command,
    time::Instant,
};

use image_archives::*;
use stapes_core::{
    port::image::{Images, Upload},
    template::{TemplateContext, Trigger},
};
use stapes_drivers::{
    image::{
        Limits, Owners,
        build::{self, BuildSpec, Format, Recipe},
    },
    storage::Unpacker,
};
use tar::EntryType;

fn bench() -> Bench {
    Bench::with(Limits::default(), Owners::Keep)
}

/// The host as it is now; compared when dropped, unless the test failed anyway.
struct Untouched(String);

impl Untouched {
    fn now() -> Self {
        Self(Self::look())
    }

    fn look() -> String {
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        // Others work on this host too: only what is ours counts.
        let ours = |line: &&str| line.contains("build-") || line.contains("/rootfs");
        mounts.lines().filter(ours).collect::<Vec<_>>().join("\n")
    }
}

impl Drop for Untouched {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            assert_eq!(self.0, Self::look(), "mounts");
        }
    }
}

/// CAP_DAC_OVERRIDE and CAP_FOWNER, effective: the mask is 0x0a, a newline.
const CAPABILITY: &[u8] = &[1, 0, 0, 2, 0x0a, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

fn xattr(path: &Path, name: &str) -> Option<Vec<u8>> {
    let mut value = vec![0; 256];
    let size = rustix::fs::lgetxattr(path, name, &mut value[..]).ok()?;
    value.truncate(size);
    Some(value)
}

#[tokio::test]
async fn owners_modes_and_capabilities_are_kept() {
    let _untouched = Untouched::now();
    let owned = |path: &str, uid: &[u8], mode: u32| (path.to_owned(), uid.to_vec(), mode);
    let mut archive = Archive::image();
    for (path, uid, mode) in [
        owned("rootfs/home", b"0", 0o755),
        owned("rootfs/home/user", b"1000", 0o700),
        owned("rootfs/var/spool", b"4294967294", 0o2775),
    ] {
        archive = archive.pax(&[("uid", &uid), ("gid", &uid)]).directory(&path, mode);
    }
    let archive = archive
        .pax(&[
            ("uid", b"8"),
            ("gid", b"12"),
            ("SCHILY.xattr.security.capability", CAPABILITY),
            ("mtime", b"1234567890.25"),
        ])
        .entry(EntryType::Regular, b"rootfs/bin/ping", b"", 0o4755, b"#!")
        .hard_link("rootfs/bin/ping6", "rootfs/bin/ping")
        .pax(&[("uid", b"5"), ("gid", b"6")])
        .symlink("rootfs/link", "/outside")
        .entry(EntryType::Block, b"rootfs/dev/sda", b"", 0o660, b"");
    let (target, unpacked) = bench_unpacked(&zst(&archive.bytes())).await;
    let root = target.path().join("target/rootfs");
    let stat = |name: &str| root.join(name).symlink_metadata().unwrap();
    let ping = stat("bin/ping");
    assert_eq!((ping.uid(), ping.gid(), ping.mode() & 0o7777), (8, 12, 0o4755));
    assert_eq!((ping.mtime(), ping.mtime_nsec()), (1_234_567_890, 250_000_000));
    assert_eq!(stat("bin/ping6").ino(), ping.ino());
    assert_eq!(xattr(&root.join("bin/ping"), "security.capability").unwrap(), CAPABILITY);
    assert_eq!((stat("home/user").uid(), stat("home/user").mode() & 0o7777), (1000, 0o700));
    assert_eq!(
        (stat("var/spool").gid(), stat("var/spool").mode() & 0o7777),
        (4_294_967_294, 0o2775)
    );
    assert_eq!((stat("link").uid(), stat("link").gid()), (5, 6));
    assert!(!root.join("dev/sda").exists());
    let walls = unpacked.confinement;
    assert!(walls.namespaces && walls.landlock && walls.seccomp, "{walls:?}");
}

async fn bench_unpacked(bytes: &[u8]) -> (tempfile::TempDir, stapes_drivers::image::Unpacked) {
    let bench = bench();
    let facts = bench.ingest(bytes).await.unwrap();
    let place = tempfile::tempdir().unwrap();
    let target = place.path().join("target");
    std::fs::create_dir(&target).unwrap();
    let unpacked = bench.store.unpack_with(&facts.fingerprint, &target, &|_| {}).await.unwrap();
    (place, unpacked)
}

#[tokio::test]
async fn a_squashfs_is_unpacked_behind_the_walls() {
    let _untouched = Untouched::now();
    let bench = bench();
    let tree = bench.target("tree");
    std::fs::create_dir_all(tree.join("usr/bin")).unwrap();
    std::fs::create_dir(tree.join("dev")).unwrap();
    let noise: Vec<u8> =
        (0..25_000_u32).flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
    std::fs::write(tree.join("usr/bin/ping"), noise).unwrap();
    std::fs::hard_link(tree.join("usr/bin/ping"), tree.join("usr/bin/ping6")).unwrap();
    std::os::unix::fs::symlink("/etc/shadow", tree.join("link")).unwrap();
    std::os::unix::fs::lchown(tree.join("usr/bin/ping"), Some(8), Some(12)).unwrap();
    let capability = rustix::fs::setxattr(
        tree.join("usr/bin/ping"),
        "security.capability",
        CAPABILITY,
        rustix::fs::XattrFlags::empty(),
    );
    capability.unwrap();
    let device = rustix::fs::makedev(1, 3);
    rustix::fs::mknodat(
        rustix::fs::CWD,
        tree.join("dev/null"),
        rustix::fs::FileType::CharacterDevice,
        0o666.into(),
        device,
    )
    .unwrap();
    let squashfs = bench.path().join("root.squashfs");
    let status = Command::new("mksquashfs")
        .arg(&tree)
        .arg(&squashfs)
        .args(["-quiet", "-no-progress"])
        .status();
    assert!(status.unwrap().success());
    let bytes = std::fs::read(&squashfs).unwrap();
    let metadata = xz(&Archive::empty().file("metadata.yaml", METADATA.as_bytes()).bytes());
    let upload = |root: &[u8]| Upload::Split {
        metadata: bench.stage("metadata", &metadata),
        root: bench.stage("root", root),
        root_is_vm: false,
        filename: None,
    };
    let facts = bench.store.ingest(upload(&bytes), None).await.unwrap();
    let target = bench.target("target");
    let unpacked = bench.store.unpack_with(&facts.fingerprint, &target, &|_| {}).await.unwrap();
    let ping = target.join("rootfs/usr/bin/ping");
    let stat = ping.metadata().unwrap();
    assert_eq!((stat.uid(), stat.gid(), stat.nlink(), stat.len()), (8, 12, 2, 100_000));
    assert_eq!(xattr(&ping, "security.capability").unwrap(), CAPABILITY);
    assert_eq!(
        std::fs::read_link(target.join("rootfs/link")).unwrap().to_str(),
        Some("/etc/shadow")
    );
    assert!(!target.join("rootfs/dev/null").exists());
    assert_eq!(unpacked.tally.devices_skipped, 1);
    assert!(unpacked.confinement.landlock && unpacked.confinement.namespaces);

    let error = bench.store.ingest(upload(&bytes[..bytes.len() / 2]), None).await.unwrap_err();
    assert!(error.to_string().contains("ends in the middle"), "{error}");

    // 200 MB of zeros in some kilobytes.
    std::fs::write(tree.join("bomb"), vec![0; 200 << 20]).unwrap();
    let status = Command::new("mksquashfs")
        .arg(&tree)
        .arg(&squashfs)
        .args(["-quiet", "-no-progress", "-noappend"])
        .status();
    assert!(status.unwrap().success());
    let error =
        bench.store.ingest(upload(&std::fs::read(&squashfs).unwrap()), None).await.unwrap_err();
    assert!(error.to_string().contains("bomb"), "{error}");
}

fn cache() -> PathBuf {
    let default = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/test-cache");
    let cache = std::env::var_os("STAPES_TEST_CACHE").map_or(default, PathBuf::from);
    std::fs::create_dir_all(&cache).unwrap();
    cache
}

/// Builds into the cache unless it is there.
async fn cached(bench: &Bench, recipe: &str, name: &str) -> PathBuf {
    let path = cache().join(name);
    if !path.exists() {
        let spec = BuildSpec {
            recipe: recipe.parse().unwrap(),
            format: Format::Unified,
            created_at: chrono::Utc::now(),
        };
        let begun = Instant::now();
        let upload =
            build::build(&spec, &bench.store.staging(), &|line| println!("{line}")).await.unwrap();
        let Upload::Unified { file, .. } = upload else { panic!("{upload:?}") };
        println!("{recipe}: built in {:?}", begun.elapsed());
        // Whole or not at all, for others that look at the same time.
        let partial = cache().join(format!("{name}.{}", std::process::id()));
        std::fs::copy(&file, &partial).unwrap();
        std::fs::rename(&partial, &path).unwrap();
        std::fs::remove_file(file).unwrap();
    }
    path
}

async fn taken(bench: &Bench, path: &Path) -> PathBuf {
    let begun = Instant::now();
    let facts = bench.ingest(&std::fs::read(path).unwrap()).await.unwrap();
    let ingested = begun.elapsed();
    let target = bench.target("built");
    let begun = Instant::now();
    bench.store.unpack(&facts.fingerprint, &target).await.unwrap();
    println!(
        "{}: {} bytes, ingest {ingested:?}, unpack {:?}",
        facts.filename,
        facts.size_bytes,
        begun.elapsed()
    );
    assert!(!facts.properties["architecture"].is_empty());
    target
}

#[tokio::test]
async fn busybox_is_built_and_is_the_same_every_time() {
    let _untouched = Untouched::now();
    let bench = bench();
    let spec = BuildSpec {
        recipe: Recipe::Busybox,
        format: Format::Unified,
        created_at: chrono::DateTime::from_timestamp(1_700_000_000, 0).unwrap(),
    };
    let mut fingerprints = Vec::new();
    for _ in 0..2 {
        let upload = build::build(&spec, &bench.store.staging(), &|_| {}).await.unwrap();
        fingerprints.push(bench.store.ingest(upload, None).await.unwrap().fingerprint);
    }
    assert_eq!(fingerprints[0], fingerprints[1]);
    assert_eq!(std::fs::read_dir(bench.store.staging()).unwrap().count(), 0);

    let path = cached(&bench, "busybox", "stapes-busybox.tar.zst").await;
    let root = taken(&bench, &path).await.join("rootfs");
    assert_eq!(std::fs::read_link(root.join("sbin/init")).unwrap().to_str(), Some("/bin/busybox"));
    let output = Command::new("chroot")
        .arg(&root)
        .args(["/bin/sh", "-n", "/etc/udhcpc.script"])
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
}

#[tokio::test]
async fn a_debian_is_built() {
    let _untouched = Untouched::now();
    let bench = bench();
    let path = cached(&bench, "debian/12", "stapes-debian-12.tar.zst").await;
    let target = taken(&bench, &path).await;
    let root = target.join("rootfs");
    assert_eq!(root.join("etc/machine-id").metadata().unwrap().len(), 0);
    let read = |path: &str| std::fs::read_to_string(root.join(path)).unwrap();
    assert!(read("etc/os-release").contains("VERSION_ID=\"12\""));
    assert!(read("etc/systemd/network/eth0.network").contains("DHCP=yes"));
    assert_eq!(
        std::fs::read_link(root.join("etc/resolv.conf")).unwrap().to_str(),
        Some("../run/systemd/resolve/resolv.conf")
    );
    for wanted in [
        "multi-user.target.wants/systemd-networkd.service",
        "sysinit.target.wants/systemd-resolved.service",
    ] {
        let anywhere = ["sysinit.target.wants", "multi-user.target.wants"].iter().any(|target| {
            root.join("etc/systemd/system")
                .join(target)
                .join(wanted.split('/').next_back().unwrap())
                .symlink_metadata()
                .is_ok()
        });
        assert!(anywhere, "{wanted}");
    }
    assert_eq!(root.join("usr/bin/su").metadata().unwrap().mode() & 0o7777, 0o4755);
    let context = TemplateContext {
        due: Some(Trigger::Create),
        instance: [("name".to_owned(), "c1".to_owned())].into(),
        ..TemplateContext::default()
    };
    let image = bench.store.list().unwrap().remove(0);
    let files = bench.store.render(&image, &context).await.unwrap();
    let paths: Vec<_> = files.iter().map(|file| file.path.as_str()).collect();
    assert_eq!(paths, ["/etc/hostname", "/etc/hosts"]);
    assert_eq!(files[0].content, "c1\n");
}
