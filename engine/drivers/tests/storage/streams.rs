//! Streams that a hostile or broken node could send: nothing is written outside of the target.

use std::{
    io::Write,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
};

use stapes_core::{
    ids::{SnapshotId, VolumeId},
    port::{DriverError, storage::Storage},
};

use crate::host::{Host, Kind, alone};

const WRITE: u16 = 15;
const MODE: u16 = 18;
const PATH: u16 = 15;

fn snapshot() -> SnapshotId {
    SnapshotId::derive(&["hostile"])
}

/// The envelope's head, of this format.
fn label(format: &str, subject: &str) -> Vec<u8> {
    let text = format!(r#"{{"format":"{format}","subject":"{subject}","parent":null}}"#);
    let length = u32::try_from(text.len()).unwrap().to_le_bytes();
    [b"stapes\0\x01", length.as_slice(), text.as_bytes()].concat()
}

fn command(number: u16, attributes: &[(u16, &[u8])]) -> Vec<u8> {
    let mut body = Vec::new();
    for (kind, value) in attributes {
        body.extend_from_slice(&kind.to_le_bytes());
        body.extend_from_slice(&u16::try_from(value.len()).unwrap().to_le_bytes());
        body.extend_from_slice(value);
    }
    let mut whole = u32::try_from(body.len()).unwrap().to_le_bytes().to_vec();
    whole.extend_from_slice(&number.to_le_bytes());
    whole.extend_from_slice(&[0; 4]);
    let sum = !crc32c::crc32c_append(crc32c::crc32c_append(u32::MAX, &whole), &body);
    whole[6..].copy_from_slice(&sum.to_le_bytes());
    [whole, body].concat()
}

/// A whole subvolume made of these commands.
fn stream(commands: &[Vec<u8>]) -> Vec<u8> {
    let begin = command(1, &[(PATH, b"x"), (1, &[7; 16]), (2, &[1, 0, 0, 0, 0, 0, 0, 0])]);
    let head = label("btrfs-1", &snapshot().to_string());
    let head = [head.as_slice(), b"btrfs-stream\0", &[1, 0, 0, 0], &begin].concat();
    let before_end = [head, commands.concat(), command(21, &[])].concat();
    let length = (before_end.len() as u64).to_le_bytes();
    [before_end.as_slice(), b"the end.", &length].concat()
}

fn feed(bytes: Vec<u8>) -> OwnedFd {
    let (reader, mut writer) = std::io::pipe().unwrap();
    std::thread::spawn(move || drop(writer.write_all(&bytes)));
    reader.into()
}

fn victim(host: &Host) -> PathBuf {
    host.ground.directory.path().join("victim")
}

fn attacks(victim: &Path) -> Vec<(&'static str, Vec<Vec<u8>>)> {
    use std::os::unix::ffi::OsStrExt;
    let (outside, file) = (victim.as_os_str().as_bytes(), victim.join("file"));
    let file = file.as_os_str().as_bytes();
    let symlink = |name: &[u8], to: &[u8]| command(8, &[(PATH, name), (17, to)]);
    let write = |path: &[u8]| command(WRITE, &[(PATH, path), (18, &[0; 8]), (19, b"owned")]);
    let mode = |path: &[u8]| command(MODE, &[(PATH, path), (5, &[0xff, 1, 0, 0, 0, 0, 0, 0])]);
    vec![
        ("a link as the last name", vec![symlink(b"a", file), write(b"a")]),
        ("a link on the way", vec![symlink(b"a", outside), write(b"a/file")]),
        (
            "a new file through a link",
            vec![symlink(b"a", outside), command(3, &[(PATH, b"a/new")])],
        ),
        ("a mode through a link", vec![symlink(b"a", file), mode(b"a")]),
        ("two dots", vec![write(b"../../../victim/file")]),
        ("two dots at the end", vec![command(4, &[(PATH, b"d")]), mode(b"d/..")]),
        ("an absolute path", vec![write(file)]),
        (
            "a file moved out",
            vec![
                command(3, &[(PATH, b"a")]),
                command(9, &[(PATH, b"a"), (16, b"../../../victim/new")]),
            ],
        ),
        (
            "a device",
            vec![
                command(
                    5,
                    &[(PATH, b"d"), (5, &0o20600_u64.to_le_bytes()), (8, &259_u64.to_le_bytes())],
                ),
                write(b"d"),
            ],
        ),
        ("no root in it", vec![command(4, &[(PATH, b"d")])]),
        (
            "a root that leads elsewhere",
            vec![
                symlink(b"rootfs", b"/"),
                command(3, &[(PATH, b"volume.json")]),
                command(WRITE, &[(PATH, b"volume.json"), (18, &[0; 8]), (19, br#""plain""#)]),
            ],
        ),
        (
            "a description elsewhere",
            vec![command(4, &[(PATH, b"rootfs")]), symlink(b"volume.json", b"/etc/passwd")],
        ),
    ]
}

#[tokio::test]
async fn a_hostile_stream_stays_inside() {
    let _alone = alone().await;
    let host = Host::new(Kind::Btrfs);
    host.storage.ensure_pool(&host.ground.spec()).await.unwrap();
    std::fs::create_dir(victim(&host)).unwrap();
    std::fs::write(victim(&host).join("file"), "untouched").unwrap();
    let before = crate::host::describe(&victim(&host));
    let volume = VolumeId::derive(&["hostile"]);
    for (name, commands) in attacks(&victim(&host)) {
        let from = feed(stream(&commands));
        let answer = host.storage.receive(host.id(), volume, snapshot(), None, from).await;
        assert!(
            matches!(answer, Err(DriverError::Refused(_) | DriverError::Failed(_))),
            "{name}: {answer:?}"
        );
        assert_eq!(crate::host::describe(&victim(&host)), before, "{name}");
        assert_eq!(host.storage.volumes(host.id()).await, Ok(vec![]), "{name}");
        assert_eq!(std::fs::read_dir(host.ground.root().join("tmp")).unwrap().count(), 0, "{name}");
    }
    // The same commands without malice are taken.
    let good = [
        command(4, &[(PATH, b"rootfs")]),
        command(3, &[(PATH, b"volume.json")]),
        command(WRITE, &[(PATH, b"volume.json"), (18, &[0; 8]), (19, br#""plain""#)]),
    ];
    let from = feed(stream(&good));
    host.storage.receive(host.id(), volume, snapshot(), None, from).await.unwrap();
    host.finish().await;
}

#[tokio::test]
async fn a_hostile_tree_stays_inside() {
    let _alone = alone().await;
    let host = Host::new(Kind::Dir);
    host.storage.ensure_pool(&host.ground.spec()).await.unwrap();
    std::fs::create_dir(victim(&host)).unwrap();
    std::fs::write(victim(&host).join("file"), "untouched").unwrap();
    let before = crate::host::describe(&victim(&host));
    let volume = VolumeId::derive(&["hostile"]);
    let outside = victim(&host);
    let outside = outside.to_str().unwrap();
    for names in [["t/a", "t/a/file"], ["t/a", "t/../../../victim/file"], ["t/a", "other/file"]] {
        let mut archive = tar::Builder::new(label("tree-1", &snapshot().to_string()));
        let mut link = tar::Header::new_gnu();
        link.set_entry_type(tar::EntryType::Symlink);
        link.set_size(0);
        archive.append_link(&mut link, names[0], outside).unwrap();
        let mut file = tar::Header::new_gnu();
        file.set_size(5);
        file.set_mode(0o777);
        // The library would not write such a name.
        file.as_old_mut().name[..names[1].len()].copy_from_slice(names[1].as_bytes());
        file.set_cksum();
        archive.append(&file, &b"owned"[..]).unwrap();
        let from = feed(archive.into_inner().unwrap());
        let answer = host.storage.receive(host.id(), volume, snapshot(), None, from).await;
        assert!(matches!(answer, Err(DriverError::Refused(_))), "{names:?}: {answer:?}");
        assert_eq!(crate::host::describe(&victim(&host)), before, "{names:?}");
        assert_eq!(host.storage.volumes(host.id()).await, Ok(vec![]));
    }
    host.finish().await;
}
