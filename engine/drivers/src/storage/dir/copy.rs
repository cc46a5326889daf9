//! Copies a tree that a guest filled, perhaps while it goes on writing.
//!
//! Owners, modes, times, extended attributes, holes, hard links and device nodes are kept; blocks
//! are shared where the file system can. Nothing is followed, nothing but regular files and
//! directories is opened, and no mount is entered.

use std::{
    collections::BTreeMap,
    ffi::CStr,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::{Path, PathBuf},
};

use rustix::{
    fs::{
        AtFlags, CWD, Dir, FileType, Gid, Mode, OFlags, SeekFrom, Stat, Timespec, Timestamps, Uid,
        XattrFlags,
    },
    io::{self, Errno},
};

use super::super::error::{Context, DriverError};

const DEPTH_MAX: u32 = 256;
/// Of all names, or of the content, of a file's extended attributes; the kernel's own bound.
const XATTR_BYTES_MAX: usize = 1 << 16;
const BUFFER_BYTES: usize = 1 << 18;

struct Copy {
    to: OwnedFd,
    /// Where the first name of a file of several names was copied to.
    linked: BTreeMap<u64, PathBuf>,
}

pub(super) fn tree(from: &Path, to: &Path) -> Result<(), DriverError> {
    let copy = || {
        let source = open(CWD, from, OFlags::DIRECTORY)?;
        rustix::fs::mkdir(to, Mode::RWXU)?;
        let target = open(CWD, to, OFlags::DIRECTORY)?;
        let mut copy = Copy { to: io::dup(&target)?, linked: BTreeMap::new() };
        copy.directory(source.as_fd(), target.as_fd(), Path::new(""), 0)
    };
    match copy() {
        Err(Errno::TOOMANYREFS) => Err(DriverError::Refused(format!(
            "{} has directories more than {DEPTH_MAX} deep: it is not copied",
            from.display()
        ))),
        done => done.context(|| format!("copying {} to {}", from.display(), to.display())),
    }
}

impl Copy {
    fn directory(
        &mut self,
        from: BorrowedFd<'_>,
        to: BorrowedFd<'_>,
        path: &Path,
        depth: u32,
    ) -> io::Result<()> {
        if depth > DEPTH_MAX {
            return Err(Errno::TOOMANYREFS);
        }
        let found = rustix::fs::fstat(from)?;
        for entry in Dir::read_from(from)? {
            let entry = entry?;
            let name = entry.file_name();
            if name != c"." && name != c".." {
                match self.entry(from, to, name, path, depth, found.st_dev) {
                    // A guest deleted it meanwhile, or made something else of it.
                    Ok(()) | Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => {}
                    Err(error) => return Err(error),
                }
            }
        }
        attributes(from, to, &found)
    }

    fn entry(
        &mut self,
        from: BorrowedFd<'_>,
        to: BorrowedFd<'_>,
        name: &CStr,
        path: &Path,
        depth: u32,
        device: u64,
    ) -> io::Result<()> {
        use std::os::unix::ffi::OsStrExt;
        let found = rustix::fs::statat(from, name, AtFlags::SYMLINK_NOFOLLOW)?;
        let path = path.join(std::ffi::OsStr::from_bytes(name.to_bytes()));
        match FileType::from_raw_mode(found.st_mode) {
            FileType::Directory => {
                rustix::fs::mkdirat(to, name, Mode::RWXU)?;
                if found.st_dev != device {
                    // A mount: the directory below it, empty.
                    return Ok(());
                }
                let from = open(from, name, OFlags::DIRECTORY)?;
                let to = open(to, name, OFlags::DIRECTORY)?;
                self.directory(from.as_fd(), to.as_fd(), &path, depth + 1)
            }
            FileType::RegularFile => {
                if found.st_nlink > 1 && self.link(to, name, &path, found.st_ino)? {
                    return Ok(());
                }
                regular(from, to, name)
            }
            FileType::Symlink => {
                let target = rustix::fs::readlinkat(from, name, Vec::new())?;
                rustix::fs::symlinkat(target, to, name)?;
                outside(from, to, name, &found)
            }
            kind @ (FileType::BlockDevice
            | FileType::CharacterDevice
            | FileType::Fifo
            | FileType::Socket) => {
                let mode = Mode::from_raw_mode(found.st_mode);
                rustix::fs::mknodat(to, name, kind, mode, found.st_rdev)?;
                outside(from, to, name, &found)?;
                rustix::fs::chmodat(to, name, mode, AtFlags::empty())
            }
            FileType::Unknown => Ok(()),
        }
    }

    /// Whether the file has been copied under another name, which is then linked.
    fn link(
        &mut self,
        to: BorrowedFd<'_>,
        name: &CStr,
        path: &Path,
        inode: u64,
    ) -> io::Result<bool> {
        let Some(first) = self.linked.get(&inode) else {
            self.linked.insert(inode, path.to_owned());
            return Ok(false);
        };
        match rustix::fs::linkat(&self.to, first, to, name, AtFlags::empty()) {
            Ok(()) => Ok(true),
            // Its path is too long, or its copy failed: it is copied once more.
            Err(Errno::NAMETOOLONG | Errno::NOENT | Errno::MLINK) => Ok(false),
            Err(error) => Err(error),
        }
    }
}

fn regular(from: BorrowedFd<'_>, to: BorrowedFd<'_>, name: &CStr) -> io::Result<()> {
    // What was a regular file may have become a pipe: do not wait for its other end.
    let source = open(from, name, OFlags::NONBLOCK)?;
    let found = rustix::fs::fstat(&source)?;
    if FileType::from_raw_mode(found.st_mode) != FileType::RegularFile {
        return Err(Errno::NOENT);
    }
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let target = rustix::fs::openat(to, name, flags, Mode::RUSR | Mode::WUSR)?;
    if rustix::fs::ioctl_ficlone(&target, &source).is_err() {
        content(source.as_fd(), target.as_fd(), u64::try_from(found.st_size).unwrap_or_default())?;
    }
    attributes(source.as_fd(), target.as_fd(), &found)
}

/// Copies what is there and leaves out the holes.
fn content(from: BorrowedFd<'_>, to: BorrowedFd<'_>, size: u64) -> io::Result<()> {
    rustix::fs::ftruncate(to, size)?;
    let mut at = 0;
    while at < size {
        let start = match rustix::fs::seek(from, SeekFrom::Data(at)) {
            Ok(start) => start,
            Err(Errno::NXIO) => return Ok(()),
            Err(error) => return Err(error),
        };
        let end = rustix::fs::seek(from, SeekFrom::Hole(start)).unwrap_or(size).min(size);
        extent(from, to, start, end)?;
        at = end.max(start + 1);
    }
    Ok(())
}

fn extent(from: BorrowedFd<'_>, to: BorrowedFd<'_>, start: u64, end: u64) -> io::Result<()> {
    let (mut read_at, mut write_at) = (start, start);
    let mut buffer = Vec::new();
    while write_at < end {
        let left = usize::try_from(end - write_at).unwrap_or(usize::MAX).min(1 << 30);
        if buffer.is_empty() {
            match rustix::fs::copy_file_range(
                from,
                Some(&mut read_at),
                to,
                Some(&mut write_at),
                left,
            ) {
                // The guest made it shorter.
                Ok(0) => return Ok(()),
                Ok(_) => continue,
                Err(Errno::INVAL | Errno::XDEV | Errno::NOSYS | Errno::OPNOTSUPP) => {
                    buffer.resize(BUFFER_BYTES, 0);
                }
                Err(error) => return Err(error),
            }
        }
        let chunk = left.min(buffer.len());
        let read = io::pread(from, &mut buffer[..chunk], write_at)?;
        if read == 0 {
            return Ok(());
        }
        let mut written = 0;
        while written < read {
            let count = io::pwrite(to, &buffer[written..read], write_at)?;
            written += count;
            write_at += count as u64;
        }
    }
    Ok(())
}

/// Owner, mode, extended attributes and times of an open file, in the order in which none undoes
/// another.
fn attributes(from: BorrowedFd<'_>, to: BorrowedFd<'_>, found: &Stat) -> io::Result<()> {
    rustix::fs::fchown(to, Some(Uid::from_raw(found.st_uid)), Some(Gid::from_raw(found.st_gid)))?;
    rustix::fs::fchmod(to, Mode::from_raw_mode(found.st_mode))?;
    extended_attributes(from, to)?;
    rustix::fs::futimens(to, &times(found))
}

fn extended_attributes(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> io::Result<()> {
    copy_attributes(
        |names| rustix::fs::flistxattr(from, names),
        |name, value| rustix::fs::fgetxattr(from, name, value),
        |name, value| rustix::fs::fsetxattr(to, name, value, XattrFlags::empty()),
    )
}

/// Of what must not be opened: through the kernel's links to the open directories.
fn attributes_of_name(from: BorrowedFd<'_>, to: BorrowedFd<'_>, name: &CStr) -> io::Result<()> {
    use std::os::{fd::AsRawFd, unix::ffi::OsStrExt};
    let path = |directory: BorrowedFd<'_>| {
        let directory = format!("/proc/self/fd/{}", directory.as_raw_fd());
        PathBuf::from(directory).join(std::ffi::OsStr::from_bytes(name.to_bytes()))
    };
    let (from, to) = (path(from), path(to));
    copy_attributes(
        |names| rustix::fs::llistxattr(&from, names),
        |name, value| rustix::fs::lgetxattr(&from, name, value),
        |name, value| rustix::fs::lsetxattr(&to, name, value, XattrFlags::empty()),
    )
}

fn copy_attributes(
    list: impl Fn(&mut [u8]) -> io::Result<usize>,
    get: impl Fn(&CStr, &mut [u8]) -> io::Result<usize>,
    set: impl Fn(&CStr, &[u8]) -> io::Result<()>,
) -> io::Result<()> {
    let mut names = vec![0; XATTR_BYTES_MAX];
    let length = match list(&mut names) {
        Ok(length) => length,
        Err(Errno::OPNOTSUPP) => return Ok(()),
        Err(error) => return Err(error),
    };
    if length == 0 {
        return Ok(());
    }
    let mut value = vec![0; XATTR_BYTES_MAX];
    for name in names[..length].split_inclusive(|byte| *byte == 0) {
        let Ok(name) = CStr::from_bytes_with_nul(name) else { continue };
        let size = match get(name, &mut value) {
            Ok(size) => size,
            // Removed meanwhile.
            Err(Errno::NODATA) => continue,
            Err(error) => return Err(error),
        };
        set(name, &value[..size])?;
    }
    Ok(())
}

/// Owner, times and extended attributes of what must not be opened.
fn outside(from: BorrowedFd<'_>, to: BorrowedFd<'_>, name: &CStr, found: &Stat) -> io::Result<()> {
    let (user, group) = (Uid::from_raw(found.st_uid), Gid::from_raw(found.st_gid));
    rustix::fs::chownat(to, name, Some(user), Some(group), AtFlags::SYMLINK_NOFOLLOW)?;
    attributes_of_name(from, to, name)?;
    rustix::fs::utimensat(to, name, &times(found), AtFlags::SYMLINK_NOFOLLOW)
}

fn times(found: &Stat) -> Timestamps {
    let nanoseconds = |value| i64::try_from(value).unwrap_or_default();
    Timestamps {
        last_access: Timespec { tv_sec: found.st_atime, tv_nsec: nanoseconds(found.st_atime_nsec) },
        last_modification: Timespec {
            tv_sec: found.st_mtime,
            tv_nsec: nanoseconds(found.st_mtime_nsec),
        },
    }
}

fn open(
    directory: BorrowedFd<'_>,
    name: impl rustix::path::Arg,
    more: OFlags,
) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | more;
    rustix::fs::openat(directory, name, flags, Mode::empty())
}
