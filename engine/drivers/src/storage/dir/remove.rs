//! Deletes a tree that a guest filled.
//!
//! Nothing is followed and no mount is entered. However deep a guest nested its directories, few
//! are open at a time: those below a certain depth are moved up to the top first.

use std::{
    ffi::CStr,
    os::fd::{AsFd, BorrowedFd},
    path::Path,
};

use rustix::{
    fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, ResolveFlags},
    io::{self, Errno},
};

const DEPTH_MAX: u32 = 48;
/// Passes over one directory at most: what appears while it is deleted is seen by the next.
const PASSES_MAX: u32 = 1 << 20;

/// Deletes whatever `path` is. Fine when there is nothing.
pub(super) fn tree(path: &Path) -> io::Result<()> {
    match rustix::fs::unlinkat(CWD, path, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => return Ok(()),
        Err(Errno::ISDIR) => {}
        Err(error) => return Err(error),
    }
    let top = open(CWD, path)?;
    let mut moved = 0;
    for _ in 0..PASSES_MAX {
        content(top.as_fd(), top.as_fd(), 0, &mut moved)?;
        match rustix::fs::unlinkat(CWD, path, AtFlags::REMOVEDIR) {
            Ok(()) | Err(Errno::NOENT) => return Ok(()),
            Err(Errno::NOTEMPTY) => {}
            Err(error) => return Err(error),
        }
    }
    Err(Errno::NOTEMPTY)
}

/// One pass over what is in `directory`.
fn content(
    top: BorrowedFd<'_>,
    directory: BorrowedFd<'_>,
    depth: u32,
    moved: &mut u64,
) -> io::Result<()> {
    for entry in Dir::read_from(directory)? {
        let entry = entry?;
        let name = entry.file_name();
        if name == c"." || name == c".." {
            continue;
        }
        if entry.file_type() != FileType::Directory {
            match rustix::fs::unlinkat(directory, name, AtFlags::empty()) {
                Ok(()) | Err(Errno::NOENT) => continue,
                // The file system did not say what it is, or it changed.
                Err(Errno::ISDIR) => {}
                Err(error) => return Err(error),
            }
        }
        inner(top, directory, name, depth, moved)?;
    }
    Ok(())
}

fn inner(
    top: BorrowedFd<'_>,
    directory: BorrowedFd<'_>,
    name: &CStr,
    depth: u32,
    moved: &mut u64,
) -> io::Result<()> {
    match rustix::fs::unlinkat(directory, name, AtFlags::REMOVEDIR) {
        Ok(()) | Err(Errno::NOENT) => return Ok(()),
        Err(Errno::NOTEMPTY) => {}
        Err(error) => return Err(error),
    }
    if depth >= DEPTH_MAX {
        // The name cannot be one of the guest's that is still there: renaming would refuse it.
        *moved += 1;
        let shallow = format!(".deep-{moved}-{}", uuid::Uuid::new_v4().simple());
        return rustix::fs::renameat(directory, name, top, shallow);
    }
    let found = open(directory, name)?;
    for _ in 0..PASSES_MAX {
        content(top, found.as_fd(), depth + 1, moved)?;
        match rustix::fs::unlinkat(directory, name, AtFlags::REMOVEDIR) {
            Ok(()) | Err(Errno::NOENT) => return Ok(()),
            Err(Errno::NOTEMPTY) => {}
            Err(error) => return Err(error),
        }
    }
    Err(Errno::NOTEMPTY)
}

fn open(
    directory: BorrowedFd<'_>,
    name: impl rustix::path::Arg,
) -> io::Result<std::os::fd::OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let resolve = ResolveFlags::NO_MAGICLINKS;
    rustix::fs::openat2(directory, name, flags, Mode::empty(), resolve)
}
