//! What a tree occupies, by walking it.

use std::{
    collections::BTreeSet,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::Path,
};

use rustix::{
    fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags},
    io::{self, Errno},
};

const DEPTH_MAX: u32 = 256;
/// Files counted at most; a larger tree is said to occupy what these do.
const FILES_MAX: u64 = 2_000_000;
const BLOCK_BYTES: u64 = 512;

#[derive(Debug, Default)]
struct Measure {
    bytes: u64,
    files: u64,
    /// Files of several names, which count once.
    linked: BTreeSet<u64>,
}

pub(super) fn tree(path: &Path) -> io::Result<u64> {
    let mut measure = Measure::default();
    walk(&mut measure, open(CWD, path)?.as_fd(), 0)?;
    Ok(measure.bytes)
}

fn walk(measure: &mut Measure, directory: BorrowedFd<'_>, depth: u32) -> io::Result<()> {
    for entry in Dir::read_from(directory)? {
        let entry = entry?;
        let name = entry.file_name();
        if name == c"." || name == c".." || measure.files >= FILES_MAX {
            continue;
        }
        let found = match rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(found) => found,
            // A guest is at work.
            Err(Errno::NOENT) => continue,
            Err(error) => return Err(error),
        };
        measure.files += 1;
        let is_directory = FileType::from_raw_mode(found.st_mode) == FileType::Directory;
        if is_directory || found.st_nlink < 2 || measure.linked.insert(found.st_ino) {
            measure.bytes += u64::try_from(found.st_blocks).unwrap_or_default() * BLOCK_BYTES;
        }
        if is_directory && depth < DEPTH_MAX {
            match open(directory, name) {
                Ok(inner) => walk(measure, inner.as_fd(), depth + 1)?,
                Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => {}
                Err(error) => return Err(error),
            }
        }
    }
    Ok(())
}

fn open(directory: BorrowedFd<'_>, name: impl rustix::path::Arg) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(directory, name, flags, Mode::empty())
}
