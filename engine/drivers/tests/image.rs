//! Images without root: what is taken, kept and unpacked, and what is refused.

mod image_archives;

use std::os::unix::{ffi::OsStrExt, fs::MetadataExt};

use image_archives::*;
use stapes_core::{
    ids::Fingerprint,
    port::{
        DriverError,
        image::{ImageKind, Images, Upload, laws},
    },
    template::{TemplateContext, Trigger},
};
use stapes_drivers::{
    image::{Limits, Owners},
    storage::Unpacker,
};
use tar::EntryType;

#[tokio::test]
async fn keeps_the_laws() {
    let bench = Bench::new();
    let good = Archive::image().bytes();
    let metadata = xz(&Archive::empty().file("metadata.yaml", METADATA.as_bytes()).bytes());
    let root = gzip(&Archive::empty().directory("./", 0o755).file("./init", b"x").bytes());
    let unified = || bench.unified(&good);
    let split = || Upload::Split {
        metadata: bench.stage("metadata", &metadata),
        root: bench.stage("root", &root),
        root_is_vm: false,
        filename: None,
    };
    let garbage = || bench.unified(b"no image at all");
    laws::all(&bench.store, laws::Uploads { unified: &unified, split: &split, garbage: &garbage })
        .await;
    assert_eq!(std::fs::read_dir(bench.store.staging()).unwrap().count(), 0);
}

#[tokio::test]
async fn every_compression_is_read() {
    type Pack = fn(&[u8]) -> Vec<u8>;
    let packs: [(&str, Pack); 6] = [
        ("tar", <[u8]>::to_vec),
        ("tar.gz", gzip),
        ("tar.xz", xz),
        ("tar.zst", zst),
        ("tar.bz2", bz2),
        ("tar.lzma", lzma),
    ];
    let tar = Archive::image().bytes();
    let bench = Bench::new();
    for (ending, pack) in packs {
        let packed = pack(&tar);
        let facts = bench.ingest(&packed).await.unwrap_or_else(|error| panic!("{ending}: {error}"));
        assert_eq!(facts.filename, format!("{}.{ending}", facts.fingerprint));
        assert_eq!(facts.kind, ImageKind::Container);
        assert_eq!(facts.size_bytes, packed.len() as u64);
        assert_eq!(facts.properties["release"], "12");
        let target = bench.target(ending);
        bench.store.unpack(&facts.fingerprint, &target).await.unwrap();
        assert_eq!(
            std::fs::read_to_string(target.join("rootfs/etc/os-release")).unwrap(),
            "ID=test\n"
        );
        assert_eq!(std::fs::read_to_string(target.join("metadata.yaml")).unwrap(), METADATA);
        assert!(target.join("templates/hostname.tpl").exists());
    }
}

#[tokio::test]
async fn a_tree_comes_out_as_it_went_in() {
    let archive = Archive::image()
        .directory("rootfs/locked", 0o500)
        .entry(EntryType::Regular, b"rootfs/usr/bin/su", b"", 0o4755, b"#!")
        .file("rootfs/usr/bin/one", b"linked")
        .hard_link("rootfs/usr/bin/two", "rootfs/usr/bin/one")
        .symlink("rootfs/etc/mtab", "/proc/mounts")
        .hard_link("rootfs/etc/mtab2", "rootfs/etc/mtab")
        .entry(EntryType::Fifo, b"rootfs/pipe", b"", 0o620, b"")
        .entry(EntryType::Char, b"rootfs/dev/null", b"", 0o666, b"")
        .entry(EntryType::Regular, b"rootfs/a\nb\xff", b"", 0o600, b"odd")
        .pax(&[
            ("SCHILY.xattr.user.odd", b"a\nb=\0\n"),
            ("SCHILY.xattr.trusted.overlay.opaque", b"y"),
        ])
        .file("rootfs/attributed", b"")
        .file("rootfs/twice", b"first")
        .file("rootfs/twice", b"second")
        .file("stranger", b"");
    let bench = Bench::new();
    let (target, unpacked) = bench.unpacked(&zst(&archive.bytes())).await;
    let root = target.join("rootfs");
    let mode = |name: &str| root.join(name).symlink_metadata().unwrap().mode() & 0o7777;
    assert_eq!((mode("usr/bin/su"), mode("locked"), mode("pipe")), (0o4755, 0o500, 0o620));
    assert_eq!(root.join("usr/bin/su").metadata().unwrap().mtime(), 1_600_000_000);
    assert_eq!(root.join("locked").metadata().unwrap().mtime(), 1_600_000_000);
    let inode = |name: &str| root.join(name).symlink_metadata().unwrap().ino();
    assert_eq!(inode("usr/bin/one"), inode("usr/bin/two"));
    assert_eq!(inode("etc/mtab"), inode("etc/mtab2"));
    assert_eq!(std::fs::read_link(root.join("etc/mtab")).unwrap().to_str(), Some("/proc/mounts"));
    assert!(!root.join("dev/null").exists());
    assert!(root.join(std::ffi::OsStr::from_bytes(b"a\nb\xff")).exists());
    assert_eq!(std::fs::read_to_string(root.join("twice")).unwrap(), "second");
    let mut value = [0; 16];
    let size = rustix::fs::getxattr(root.join("attributed"), "user.odd", &mut value[..]).unwrap();
    assert_eq!(&value[..size], b"a\nb=\0\n");
    let tally = unpacked.tally;
    assert_eq!((tally.devices_skipped, tally.xattrs_skipped, tally.strangers_skipped), (1, 1, 1));
    assert!(unpacked.confinement.seccomp);
    assert!(unpacked.confinement.namespaces || unpacked.confinement.landlock);
}

#[tokio::test]
async fn paths_that_leave_the_image_are_refused() {
    let cases = [
        ("..", Archive::image().file("rootfs/../../x", b"x")),
        ("..", Archive::image().file("rootfs/etc/../../../x", b"x")),
        ("/etc", Archive::image().file("/etc/x", b"x")),
        (
            "rootfs",
            Archive::empty().file("metadata.yaml", METADATA.as_bytes()).symlink("rootfs", "/tmp"),
        ),
        (
            "metadata.yaml",
            Archive::empty().symlink("metadata.yaml", "/etc/passwd").directory("rootfs", 0o755),
        ),
        ("../x", Archive::image().hard_link("rootfs/x", "../x")),
        ("/etc/passwd", Archive::image().hard_link("rootfs/x", "/etc/passwd")),
        ("metadata.yaml", Archive::image().hard_link("rootfs/x", "metadata.yaml")),
    ];
    for (named, archive) in cases {
        let bench = Bench::new();
        let error = bench.refused(&archive.bytes()).await;
        assert!(error.contains(named) && error.contains("nothing was kept"), "{error}");
    }
}

/// Some attacks show only when the tree is there: they are kept as images and refused on unpacking.
#[tokio::test]
async fn links_are_never_written_through() {
    let outside = tempfile::tempdir().unwrap();
    std::fs::write(outside.path().join("secret"), "secret").unwrap();
    let out = outside.path().to_str().unwrap();
    let cases = [
        ("symbolic link", Archive::image().symlink("rootfs/out", out).file("rootfs/out/x", b"x")),
        ("symbolic link", Archive::image().symlink("rootfs/in", "etc").file("rootfs/in/x", b"x")),
        (
            "symbolic link",
            Archive::image().symlink("rootfs/out", out).directory("rootfs/out/x/y", 0o755),
        ),
        (
            "hard link",
            Archive::image().symlink("rootfs/out", out).hard_link("rootfs/x", "rootfs/out/secret"),
        ),
        ("twice", Archive::image().symlink("rootfs/out", out).directory("rootfs/out", 0o777)),
        ("twice", Archive::image().symlink("rootfs/etc", out)),
    ];
    for (says, archive) in cases {
        let bench = Bench::new();
        let facts = bench.ingest(&archive.bytes()).await.unwrap();
        let target = bench.target("target");
        let error = bench.store.unpack(&facts.fingerprint, &target).await.unwrap_err();
        assert!(matches!(error, DriverError::Refused(_)), "{error:?}");
        assert!(error.to_string().contains(says), "{error}");
        assert_eq!(std::fs::read_dir(&target).unwrap().count(), 0, "{error}");
        assert_eq!(std::fs::read_dir(outside.path()).unwrap().count(), 1);
    }
    // A file where a link was replaces the link, not what it leads to.
    let bench = Bench::new();
    let secret = format!("{out}/secret");
    let archive = Archive::image().symlink("rootfs/x", &secret).file("rootfs/x", b"mine");
    let (target, _) = bench.unpacked(&archive.bytes()).await;
    assert_eq!(std::fs::read_to_string(target.join("rootfs/x")).unwrap(), "mine");
    assert_eq!(std::fs::read_to_string(secret).unwrap(), "secret");
}

#[tokio::test]
async fn bombs_are_refused() {
    let bench = Bench::new();
    let zeros = Archive::image().file("rootfs/zeros", &vec![0; 100 << 20]).bytes();
    let error = bench.refused(&zst(&zeros)).await;
    assert!(error.contains("bomb"), "{error}");

    let limits = Limits { unpacked_bytes: 1 << 20, ..Limits::default() };
    let bench = Bench::with(limits, Owners::Mine);
    let error = bench.refused(&Archive::image().file("rootfs/x", &vec![1; 2 << 20]).bytes()).await;
    assert!(error.contains("more than"), "{error}");

    let limits = Limits { files: 100, ..Limits::default() };
    let bench = Bench::with(limits, Owners::Mine);
    let many =
        (0..100).fold(Archive::image(), |archive, n| archive.file(&format!("rootfs/{n}"), b""));
    let error = bench.refused(&many.bytes()).await;
    assert!(error.contains("more than 100 files"), "{error}");
}

#[tokio::test]
async fn a_file_that_is_all_hole_counts_whole() {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(EntryType::GNUSparse);
    header.set_mode(0o644);
    header.set_size(0);
    header.as_old_mut().name[..11].copy_from_slice(b"rootfs/huge");
    let gnu = header.as_gnu_mut().unwrap();
    // 1 TiB, in base 256.
    gnu.realsize = [0x80, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0];
    header.set_mtime(0);
    header.set_uid(0);
    header.set_gid(0);
    header.set_cksum();
    let mut bytes = Archive::image().open_bytes();
    bytes.extend_from_slice(header.as_bytes());
    bytes.extend_from_slice(&[0; 1024]);
    let error = Bench::new().refused(&bytes).await;
    assert!(error.contains("bytes in its files"), "{error}");
}

#[tokio::test]
async fn holes_stay_holes() {
    let dir = tempfile::tempdir().unwrap();
    let mut content = vec![0_u8; 8 << 20];
    content[5 << 20..][..4].copy_from_slice(b"data");
    let (target, _) = {
        let bench = Bench::new();
        let (target, unpacked) =
            bench.unpacked(&Archive::image().file("rootfs/sparse", &content).bytes()).await;
        let kept = dir.path().join("sparse");
        std::fs::rename(target.join("rootfs/sparse"), &kept).unwrap();
        (kept, unpacked)
    };
    assert_eq!(std::fs::read(&target).unwrap(), content);
    assert!(target.metadata().unwrap().blocks() * 512 < 1 << 20);
}

#[tokio::test]
async fn a_cut_archive_is_refused() {
    let noise: Vec<u8> =
        (0..400_000_u32).flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
    let tar = Archive::image().file("rootfs/noise", &noise).bytes();
    for packed in [tar.clone(), gzip(&tar), xz(&tar), zst(&tar), bz2(&tar)] {
        for cut in [packed.len() / 2, packed.len() - 600, packed.len() - 3] {
            // The end mark of a plain archive is two blocks; half of one is enough.
            if packed == tar && cut > tar.len() - 1024 {
                continue;
            }
            let bench = Bench::new();
            let error = bench.refused(&packed[..cut]).await;
            assert!(error.contains("ends in the middle") || error.contains("damaged"), "{error}");
        }
    }
}

#[tokio::test]
async fn metadata_must_be_there_small_and_right() {
    let with = |text: &[u8]| {
        Archive::empty().file("metadata.yaml", text).directory("rootfs", 0o755).bytes()
    };
    let bomb = "a: &a [x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b]\n";
    let cases: Vec<(&str, Vec<u8>)> = vec![
        ("no metadata.yaml", Archive::empty().directory("rootfs", 0o755).bytes()),
        ("neither rootfs/ nor rootfs.img", Archive::empty().file("metadata.yaml", METADATA.as_bytes()).bytes()),
        ("larger than 1048576", with(&vec![b'#'; 2 << 20])),
        ("not UTF-8", with(b"architecture: \xff\n")),
        ("cannot be used", with(b"{[")),
        ("cannot be used", with(bomb.as_bytes())),
        ("cannot be used", with("[".repeat(100_000).as_bytes())),
        ("creation_date", with(b"architecture: x86_64\n")),
        ("architecture is", with(b"architecture: ../x\ncreation_date: 1\n")),
        ("creation_date is 0", with(b"architecture: x86_64\ncreation_date: 0\n")),
        ("control character", with(b"architecture: x86_64\ncreation_date: 1\nproperties: {os: \"a\\nb\"}\n")),
        ("absolute path", with(b"architecture: x86_64\ncreation_date: 1\ntemplates: {\"/a/../b\": {template: x}}\n")),
        ("plain file name", with(b"architecture: x86_64\ncreation_date: 1\ntemplates: {/a: {template: ../x}}\n")),
        ("two of them", Archive::image().file("metadata.yaml", METADATA.as_bytes()).bytes()),
    ];
    for (says, bytes) in cases {
        let error = Bench::new().refused(&bytes).await;
        assert!(error.contains(says), "want {says:?}: {error}");
    }
}

#[tokio::test]
async fn templates_are_rendered_when_they_are_due_and_one_that_is_wrong_spoils_no_other() {
    let metadata = "architecture: x86_64\ncreation_date: 1\ntemplates:\n\
        \x20 /plain: {when: [create, start], template: plain.tpl, mode: \"0600\", uid: 5}\n\
        \x20 /logic: {when: [create], template: logic.tpl, create_only: true}\n\
        \x20 /endless: {when: [create], template: endless.tpl}\n\
        \x20 /missing: {when: [create], template: missing.tpl}\n";
    let endless =
        "{% for a in devices %}{% for b in devices %}{{ config_get('x') }}{% endfor %}{% endfor %}";
    let archive = Archive::empty()
        .file("metadata.yaml", metadata.as_bytes())
        .file("templates/plain.tpl", b"{{ instance.name }} {{ trigger }}\n")
        .file("templates/logic.tpl", b"{% if instance.name == 'c1' %}yes{% endif %} {{ trigger }}")
        .file("templates/endless.tpl", endless.as_bytes())
        .directory("rootfs", 0o755);
    let bench = Bench::new();
    let image = bench.ingest(&archive.bytes()).await.unwrap().fingerprint;
    let mut context = TemplateContext {
        due: Some(Trigger::Create),
        instance: [("name".to_owned(), "c1".to_owned())].into(),
        config: [("x".to_owned(), "x".repeat(60_000))].into(),
        ..TemplateContext::default()
    };
    context.devices = (0..20).map(|number| (format!("d{number}"), [].into())).collect();
    for _ in 0..2 {
        let files = bench.store.render(&image, &context).await.unwrap();
        assert_eq!(files.len(), 2, "{files:?}");
        assert_eq!((files[0].path.as_str(), files[0].content.as_str()), ("/logic", "yes create"));
        assert!(files[0].create_only);
        assert_eq!((files[1].path.as_str(), files[1].content.as_str()), ("/plain", "c1 start\n"));
        assert_eq!((files[1].mode, files[1].uid, files[1].gid), (Some(0o600), Some(5), None));
        // Guests made from it want them still.
        bench.store.remove(&image).await.unwrap();
    }
    context.due = None;
    assert_eq!(bench.store.render(&image, &context).await.unwrap().len(), 1);
    let stranger = Fingerprint::new("ab".repeat(32)).unwrap();
    assert_eq!(bench.store.render(&stranger, &context).await.unwrap(), []);
}

#[tokio::test]
async fn a_wrong_claim_explains_itself() {
    let bench = Bench::new();
    let claimed = Fingerprint::new("ab".repeat(32)).unwrap();
    let upload = bench.unified(&Archive::image().bytes());
    let error = bench.store.ingest(upload, Some(&claimed)).await.unwrap_err();
    assert!(error.to_string().contains(claimed.as_str()), "{error}");
    assert!(bench.store.list().unwrap().is_empty());
}

#[tokio::test]
async fn a_blob_that_rotted_is_not_unpacked() {
    let bench = Bench::new();
    let facts = bench.ingest(&Archive::image().file("rootfs/x", b"good").bytes()).await.unwrap();
    let blob = bench.store.files(&facts.fingerprint).await.unwrap().metadata;
    let mut bytes = std::fs::read(&blob).unwrap();
    let at = bytes.windows(4).position(|window| window == b"good").unwrap();
    bytes[at] ^= 1;
    std::fs::write(&blob, bytes).unwrap();
    let target = bench.target("target");
    let error = bench.store.unpack(&facts.fingerprint, &target).await.unwrap_err();
    assert!(error.to_string().contains("not"), "{error}");
    assert_eq!(std::fs::read_dir(&target).unwrap().count(), 0);
}

#[tokio::test]
async fn a_disk_must_stand_alone() {
    let qcow2 = |backing: u64, incompatible: u64| {
        let mut header = vec![0; 512];
        header[..8].copy_from_slice(b"QFI\xfb\0\0\0\x03");
        header[8..16].copy_from_slice(&backing.to_be_bytes());
        header[24..32].copy_from_slice(&(1_u64 << 30).to_be_bytes());
        header[72..80].copy_from_slice(&incompatible.to_be_bytes());
        header
    };
    let metadata = Archive::empty().file("metadata.yaml", METADATA.as_bytes()).bytes();
    let bench = Bench::new();
    let upload = |disk: &[u8]| Upload::Split {
        metadata: bench.stage("metadata", &metadata),
        root: bench.stage("root", disk),
        root_is_vm: true,
        filename: Some("../vm.tar.xz".into()),
    };
    let facts = bench.store.ingest(upload(&qcow2(0, 0)), None).await.unwrap();
    assert_eq!((facts.kind, facts.filename.as_str()), (ImageKind::VirtualMachine, "vm.tar.xz"));
    let target = bench.target("vm");
    bench.store.unpack(&facts.fingerprint, &target).await.unwrap();
    assert_eq!(std::fs::read(target.join("rootfs.img")).unwrap(), qcow2(0, 0));
    for (says, disk) in [
        ("backing file", qcow2(512, 0)),
        ("another file", qcow2(0, 4)),
        ("not a qcow2", vec![0; 512]),
    ] {
        let error = bench.store.ingest(upload(&disk), None).await.unwrap_err();
        assert!(error.to_string().contains(says), "{error}");
    }
}

#[tokio::test]
async fn what_is_published_comes_out_again() {
    let bench = Bench::new();
    let root = bench.target("guest");
    std::fs::create_dir(root.join("etc")).unwrap();
    std::fs::write(root.join("etc/hosts"), "127.0.0.1 localhost\n").unwrap();
    std::fs::hard_link(root.join("etc/hosts"), root.join("etc/hosts2")).unwrap();
    std::os::unix::fs::symlink("/etc/shadow", root.join("etc/link")).unwrap();
    let long = "n".repeat(200);
    std::fs::write(root.join(&long), "long").unwrap();
    rustix::fs::setxattr(root.join(&long), "user.kept", b"a\nb", rustix::fs::XattrFlags::empty())
        .unwrap();
    let properties = [("os".to_owned(), "Test".to_owned())].into();
    let facts = bench.store.publish(root.clone(), properties).await.unwrap();
    assert_eq!(facts.properties["os"], "Test");
    assert!(facts.filename.ends_with(".tar.gz"));
    let target = bench.target("target");
    bench.store.unpack(&facts.fingerprint, &target).await.unwrap();
    let back = target.join("rootfs");
    assert_eq!(std::fs::read_link(back.join("etc/link")).unwrap().to_str(), Some("/etc/shadow"));
    assert_eq!(std::fs::read_to_string(back.join(&long)).unwrap(), "long");
    let mut value = [0; 8];
    let size = rustix::fs::getxattr(back.join(&long), "user.kept", &mut value[..]).unwrap();
    assert_eq!(&value[..size], b"a\nb");
    let inode = |name: &str| back.join(name).metadata().unwrap().ino();
    assert_eq!(inode("etc/hosts"), inode("etc/hosts2"));
}
