//! What a guest made in its `/dev`, written down and made again elsewhere: links, directories,
//! pipes and small files. Nodes are the host's to make, mounts and sockets CRIU's.

use std::{
    ffi::{CStr, CString},
    fs::File,
    io::{self, Read as _, Write as _},
    os::fd::{AsFd as _, BorrowedFd, OwnedFd},
};

use nix::libc;
use rustix::fs::{
    AtFlags, Dir, FileType, Gid, Mode, OFlags, Uid, chownat, fchmod, mkdirat, mknodat, openat,
    readlinkat, statat, symlinkat, unlinkat,
};
use serde::{Deserialize, Serialize};

use crate::sys::{acting_as, c_string, open_inside};

/// As many as the file system has places for.
const ENTRIES_MAX: usize = 4096;
const DEPTH_MAX: usize = 16;
/// Of all files together.
const BYTES_MAX: usize = 128 * 1024;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct KeptDevice {
    /// Below `/dev`.
    pub(crate) path: String,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) mode: u32,
    pub(crate) kind: KeptKind,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum KeptKind {
    Directory,
    Link(String),
    Pipe,
    File(Vec<u8>),
}

/// Reads the `/dev` of a guest whose root is `root`.
pub(crate) fn keep(root: BorrowedFd<'_>, base: u32) -> io::Result<Vec<KeptDevice>> {
    let devices = open_inside(root, c"dev", libc::O_RDONLY | libc::O_DIRECTORY, false)?;
    let mut kept = Keeping { base, entries: Vec::new(), bytes: 0 };
    let file_system = rustix::fs::fstat(&devices)?.st_dev;
    kept.walk(&devices, "", file_system, 0)?;
    Ok(kept.entries)
}

struct Keeping {
    base: u32,
    entries: Vec<KeptDevice>,
    bytes: usize,
}

impl Keeping {
    fn walk(
        &mut self,
        directory: &OwnedFd,
        above: &str,
        file_system: u64,
        depth: usize,
    ) -> io::Result<()> {
        for entry in Dir::read_from(directory)? {
            let entry = entry?;
            let name = entry.file_name();
            if matches!(name.to_bytes(), b"." | b"..") {
                continue;
            }
            let state = statat(directory, name, AtFlags::SYMLINK_NOFOLLOW)?;
            // Something is mounted there.
            if state.st_dev != file_system {
                continue;
            }
            let path = match above {
                "" => name.to_string_lossy().into_owned(),
                above => format!("{above}/{}", name.to_string_lossy()),
            };
            let kind = self.kind(directory, name, &state)?;
            let Some(kind) = kind else { continue };
            let walks = kind == KeptKind::Directory;
            self.entries.push(KeptDevice {
                path: path.clone(),
                uid: state.st_uid.saturating_sub(self.base),
                gid: state.st_gid.saturating_sub(self.base),
                mode: state.st_mode & 0o7777,
                kind,
            });
            if self.entries.len() > ENTRIES_MAX || depth > DEPTH_MAX {
                return Err(io::Error::other("there is too much in the guest's /dev"));
            }
            if walks {
                let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let below = openat(directory, name, flags, Mode::empty())?;
                self.walk(&below, &path, file_system, depth + 1)?;
            }
        }
        Ok(())
    }

    fn kind(
        &mut self,
        directory: &OwnedFd,
        name: &CStr,
        state: &rustix::fs::Stat,
    ) -> io::Result<Option<KeptKind>> {
        Ok(match FileType::from_raw_mode(state.st_mode) {
            FileType::Directory => Some(KeptKind::Directory),
            FileType::Fifo => Some(KeptKind::Pipe),
            FileType::Symlink => {
                let target: CString = readlinkat(directory, name, Vec::new())?;
                Some(KeptKind::Link(target.to_string_lossy().into_owned()))
            }
            FileType::RegularFile => {
                let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
                let file = File::from(openat(directory, name, flags, Mode::empty())?);
                let mut bytes = Vec::new();
                file.take(BYTES_MAX as u64 + 1).read_to_end(&mut bytes)?;
                self.bytes += bytes.len();
                if self.bytes > BYTES_MAX {
                    return Err(io::Error::other("there are large files in the guest's /dev"));
                }
                Some(KeptKind::File(bytes))
            }
            // Nodes are made with every /dev, and sockets by who binds them.
            FileType::CharacterDevice
            | FileType::BlockDevice
            | FileType::Socket
            | FileType::Unknown => None,
        })
    }
}

/// Makes them in a new `/dev`, in which nobody else is yet.
pub(crate) fn make(devices: &OwnedFd, base: u32, kept: &[KeptDevice]) -> io::Result<()> {
    acting_as(base, || kept.iter().try_for_each(|entry| make_one(devices, base, entry)))
}

fn make_one(devices: &OwnedFd, base: u32, entry: &KeptDevice) -> io::Result<()> {
    if entry.path.starts_with('/') || entry.path.split('/').any(|part| part == "..") {
        return Err(io::Error::from(io::ErrorKind::InvalidData));
    }
    let name = c_string(entry.path.as_str())?;
    let mode = Mode::from_raw_mode(entry.mode);
    // In the place of what every /dev has.
    if entry.kind != KeptKind::Directory {
        let _ = unlinkat(devices, &name, AtFlags::empty());
    }
    match &entry.kind {
        KeptKind::Directory => match mkdirat(devices, &name, mode) {
            Err(rustix::io::Errno::EXIST) => {}
            answer => answer?,
        },
        KeptKind::Link(target) => symlinkat(c_string(target.as_str())?, devices, &name)?,
        KeptKind::Pipe => mknodat(devices, &name, FileType::Fifo, mode, 0)?,
        KeptKind::File(bytes) => {
            let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
            let file = openat(devices, &name, flags, mode)?;
            fchmod(&file, mode)?;
            File::from(file.as_fd().try_clone_to_owned()?).write_all(bytes)?;
        }
    }
    let (uid, gid) = (Uid::from_raw(base + entry.uid), Gid::from_raw(base + entry.gid));
    chownat(devices, &name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?;
    Ok(())
}
