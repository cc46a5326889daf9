//! Writes entries below one directory, and nowhere else.
//!
//! Every directory is opened by openat2 with BENEATH and NO_SYMLINKS, and the last name is only ever
//! made anew (`O_EXCL`, `O_NOFOLLOW`), so no link that the archive made is ever followed.

use std::{
    fs::File,
    io,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::{ffi::OsStrExt, fs::FileExt},
    },
};

use rustix::{
    fs::{
        AtFlags, FileType, Mode, OFlags, ResolveFlags, Timespec, Timestamps, XattrFlags, fchmod,
        fchown, fsetxattr, futimens, linkat, mkdirat, mknodat, openat2, statat, symlinkat,
        unlinkat, utimensat,
    },
    io::Errno,
    process::{Gid, Uid},
};

use super::{
    super::{
        baggage::Named,
        job::{Owners, Tally},
        refusal::Refusal,
    },
    entries::Entry,
    path::Inside,
};

/// What directories are remembered by until their times and modes are set, at the end.
const REMEMBERED_BYTES_MAX: usize = 256 * 1024 * 1024;
/// Runs of zeros at least this long become holes.
const HOLE_BYTES: usize = 4096;
const SAFE: ResolveFlags =
    ResolveFlags::BENEATH.union(ResolveFlags::NO_SYMLINKS).union(ResolveFlags::NO_MAGICLINKS);

pub(super) struct Tree {
    top: OwnedFd,
    owners: Owners,
    /// The directory of the entry before: archives keep neighbours together.
    cached: Option<(Vec<u8>, OwnedFd)>,
    directories: Vec<Later>,
    remembered: usize,
}

/// A directory's mode and time, set when nothing is written into it any more.
struct Later {
    path: Inside,
    mode: u32,
    mtime: (i64, u32),
}

/// A file that is being written.
pub(super) struct Writing {
    file: File,
    size: u64,
}

impl Writing {
    /// Zeros are left as holes.
    pub(super) fn put(&mut self, offset: u64, bytes: &[u8]) -> Result<(), Refusal> {
        let whole = bytes.len() >= HOLE_BYTES && bytes.iter().all(|byte| *byte == 0);
        if whole {
            return Ok(());
        }
        self.file.write_all_at(bytes, offset).map_err(|error| Refusal::host("write a file", &error))
    }
}

impl Tree {
    pub(super) const fn new(top: OwnedFd, owners: Owners) -> Self {
        Self { top, owners, cached: None, directories: Vec::new(), remembered: 0 }
    }

    pub(super) fn top(&self) -> BorrowedFd<'_> {
        self.top.as_fd()
    }

    pub(super) fn directory(
        &mut self,
        path: &Inside,
        entry: &Entry,
        tally: &mut Tally,
    ) -> Result<(), Refusal> {
        if let Some((parent, name)) = path.split_last() {
            let parent = self.parent(parent, path)?;
            match mkdirat(parent, name, Mode::from_raw_mode(0o700)) {
                Ok(()) => {}
                Err(Errno::EXIST) => match kind(parent, name) {
                    Some(FileType::Directory) => {}
                    _ => return Err(Refusal::Clash { path: Refusal::shown(path.as_bytes()) }),
                },
                Err(error) => return Err(host(path, error)),
            }
        }
        let directory = self.open_directory(path)?;
        self.own(directory.as_fd(), entry, tally)
            .map_err(|error| Refusal::host(&shown("unpack", path), &error))?;
        self.remember(path.clone(), entry.mode, entry.mtime)
    }

    pub(super) fn file(&mut self, path: &Inside, entry: &Entry) -> Result<Writing, Refusal> {
        let (parent, name) = path.split_last().ok_or_else(|| outside(path))?;
        let parent = self.parent(parent, path)?;
        clear(parent, name, path)?;
        let flags =
            OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::WRONLY | OFlags::CLOEXEC;
        let file = openat2(parent, name, flags, Mode::from_raw_mode(0o600), SAFE)
            .map_err(|error| host(path, error))?;
        Ok(Writing { file: file.into(), size: entry.size })
    }

    pub(super) fn finish_file(
        &self,
        path: &Inside,
        entry: &Entry,
        writing: Writing,
        tally: &mut Tally,
    ) -> Result<(), Refusal> {
        let file = writing.file;
        let mut finish = || -> io::Result<()> {
            if file.metadata()?.len() != writing.size {
                file.set_len(writing.size)?;
            }
            self.own(file.as_fd(), entry, tally)?;
            // After the owner: a change of owner takes setuid away.
            fchmod(&file, Mode::from_raw_mode(entry.mode))?;
            Ok(futimens(&file, &times(entry.mtime))?)
        };
        finish().map_err(|error| Refusal::host(&shown("unpack", path), &error))
    }

    pub(super) fn symlink(&mut self, path: &Inside, entry: &Entry) -> Result<(), Refusal> {
        let (parent, name) = path.split_last().ok_or_else(|| outside(path))?;
        let owners = self.owners;
        let parent = self.parent(parent, path)?;
        clear(parent, name, path)?;
        symlinkat(entry.link.as_slice(), parent, name).map_err(|error| host(path, error))?;
        own_at(parent, name, entry, owners).map_err(|error| host(path, error))
    }

    pub(super) fn fifo(&mut self, path: &Inside, entry: &Entry) -> Result<(), Refusal> {
        let (parent, name) = path.split_last().ok_or_else(|| outside(path))?;
        let owners = self.owners;
        let parent = self.parent(parent, path)?;
        clear(parent, name, path)?;
        // The mode is given at once, with no umask: there is no safe chmod of a name.
        mknodat(parent, name, FileType::Fifo, Mode::from_raw_mode(entry.mode), 0)
            .map_err(|error| host(path, error))?;
        own_at(parent, name, entry, owners).map_err(|error| host(path, error))
    }

    /// A device or pipe. Only where nobody else may look yet, so that the name is still what was made.
    pub(super) fn node(
        &mut self,
        path: &Inside,
        entry: &Entry,
        kind: FileType,
    ) -> Result<(), Refusal> {
        let (parent, name) = path.split_last().ok_or_else(|| outside(path))?;
        let owners = self.owners;
        let parent = self.parent(parent, path)?;
        clear(parent, name, path)?;
        let mode = Mode::from_raw_mode(entry.mode);
        let make = || {
            let (major, minor) = entry.device;
            mknodat(parent, name, kind, mode, rustix::fs::makedev(major, minor))?;
            own_at(parent, name, entry, owners)?;
            // The daemon's umask took some of it.
            rustix::fs::chmodat(parent, name, mode, AtFlags::empty())
        };
        make().map_err(|error| host(path, error))
    }

    pub(super) fn hard_link(&mut self, path: &Inside, to: &Inside) -> Result<(), Refusal> {
        let bad = || Refusal::BadHardLink {
            path: Refusal::shown(path.as_bytes()),
            to: Refusal::shown(to.as_bytes()),
        };
        let (to_parent, to_name) = to.split_last().ok_or_else(bad)?;
        let to_parent = self.open_at(to_parent).map_err(|_| bad())?;
        if !matches!(
            kind(to_parent.as_fd(), to_name),
            Some(FileType::RegularFile | FileType::Symlink | FileType::Fifo)
        ) {
            return Err(bad());
        }
        if path == to {
            return Ok(());
        }
        let (parent, name) = path.split_last().ok_or_else(|| outside(path))?;
        let parent = self.parent(parent, path)?;
        clear(parent, name, path)?;
        // Without AT_SYMLINK_FOLLOW the link itself is linked.
        linkat(to_parent, to_name, parent, name, AtFlags::empty())
            .map_err(|error| host(path, error))
    }

    /// Sets what had to wait, deepest first.
    pub(super) fn finish(&mut self) -> Result<(), Refusal> {
        let mut directories = std::mem::take(&mut self.directories);
        // Where an archive names a directory twice, the later entry is applied last.
        directories.sort_by(|one, other| other.path.cmp(&one.path));
        for Later { path, mode, mtime } in directories {
            let directory = self.open_directory(&path)?;
            let set = || -> rustix::io::Result<()> {
                fchmod(&directory, Mode::from_raw_mode(mode))?;
                futimens(&directory, &times(mtime))
            };
            set().map_err(|error| host(&path, error))?;
        }
        Ok(())
    }

    fn remember(&mut self, path: Inside, mode: u32, mtime: (i64, u32)) -> Result<(), Refusal> {
        self.remembered += path.as_bytes().len() + size_of::<Later>();
        if self.remembered > REMEMBERED_BYTES_MAX {
            let what = "bytes of directory names".into();
            return Err(Refusal::TooMuch { what, limit: REMEMBERED_BYTES_MAX as u64 });
        }
        self.directories.push(Later { path, mode, mtime });
        Ok(())
    }

    /// The open directory `parent`; made, with its own parents, when the archive left it out.
    fn parent(&mut self, parent: &[u8], of: &Inside) -> Result<BorrowedFd<'_>, Refusal> {
        if self.cached.as_ref().is_none_or(|(path, _)| path != parent) {
            let directory = match self.open_at(parent) {
                Err(Errno::NOENT) => self.make_parents(parent).and_then(|()| self.open_at(parent)),
                other => other,
            };
            let directory = directory.map_err(|error| match error {
                Errno::LOOP | Errno::NOTDIR | Errno::XDEV => {
                    Refusal::ThroughLink { path: Refusal::shown(of.as_bytes()) }
                }
                error => host(of, error),
            })?;
            self.cached = Some((parent.to_vec(), directory));
        }
        let (_, directory) = self.cached.as_ref().expect("set above");
        Ok(directory.as_fd())
    }

    fn make_parents(&self, path: &[u8]) -> Result<(), Errno> {
        let mut directory = self.open_at(b"")?;
        for name in path.split(|byte| *byte == b'/') {
            match mkdirat(&directory, name, Mode::from_raw_mode(0o755)) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(error) => return Err(error),
            }
            directory = openat2(
                &directory,
                name,
                OFlags::DIRECTORY | OFlags::CLOEXEC,
                Mode::empty(),
                SAFE,
            )?;
        }
        Ok(())
    }

    fn open_at(&self, path: &[u8]) -> Result<OwnedFd, Errno> {
        let path = if path.is_empty() { b"." } else { path };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        openat2(&self.top, std::ffi::OsStr::from_bytes(path), flags, Mode::empty(), SAFE)
    }

    fn open_directory(&self, path: &Inside) -> Result<OwnedFd, Refusal> {
        self.open_at(path.as_bytes()).map_err(|error| host(path, error))
    }

    fn own(&self, file: BorrowedFd<'_>, entry: &Entry, tally: &mut Tally) -> io::Result<()> {
        if self.owners.are_kept() {
            let (uid, gid) = (Uid::from_raw(entry.uid), Gid::from_raw(entry.gid));
            fchown(file, Some(uid), Some(gid))?;
        }
        for (name, value) in &entry.xattrs {
            if !is_kept(name, self.owners) {
                tally.xattrs_skipped += 1;
                continue;
            }
            match fsetxattr(file, name.as_slice(), value, XattrFlags::empty()) {
                Ok(()) => {}
                Err(Errno::OPNOTSUPP) => tally.xattrs_skipped += 1,
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }
}

/// `trusted.overlay.*` would speak to our own overlays, labels are another system's.
fn is_kept(name: &[u8], owners: Owners) -> bool {
    if owners == Owners::Everything {
        return true;
    }
    let user = name.starts_with(b"user.") && !name.starts_with(b"user.overlay.");
    let acl = name == b"system.posix_acl_access" || name == b"system.posix_acl_default";
    user || acl || (name == b"security.capability" && owners.are_kept())
}

fn own_at(
    parent: BorrowedFd<'_>,
    name: &[u8],
    entry: &Entry,
    owners: Owners,
) -> rustix::io::Result<()> {
    if owners.are_kept() {
        let (uid, gid) = (Uid::from_raw(entry.uid), Gid::from_raw(entry.gid));
        rustix::fs::chownat(parent, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?;
    }
    if owners == Owners::Everything {
        for (attribute, value) in &entry.xattrs {
            let file = Named::path(parent, name);
            match rustix::fs::lsetxattr(file, attribute.as_slice(), value, XattrFlags::empty()) {
                Ok(()) | Err(Errno::OPNOTSUPP) => {}
                Err(error) => return Err(error),
            }
        }
    }
    utimensat(parent, name, &times(entry.mtime), AtFlags::SYMLINK_NOFOLLOW)
}

/// Takes away what an earlier entry of the same name made. A directory stays, and is an error.
fn clear(parent: BorrowedFd<'_>, name: &[u8], path: &Inside) -> Result<(), Refusal> {
    match unlinkat(parent, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(Errno::ISDIR | Errno::PERM) => {
            Err(Refusal::Clash { path: Refusal::shown(path.as_bytes()) })
        }
        Err(error) => Err(host(path, error)),
    }
}

fn kind(parent: BorrowedFd<'_>, name: &[u8]) -> Option<FileType> {
    let stat = statat(parent, name, AtFlags::SYMLINK_NOFOLLOW).ok()?;
    Some(FileType::from_raw_mode(stat.st_mode))
}

fn times((seconds, nanoseconds): (i64, u32)) -> Timestamps {
    let time = Timespec { tv_sec: seconds, tv_nsec: i64::from(nanoseconds) };
    Timestamps { last_access: time, last_modification: time }
}

fn shown(doing: &str, path: &Inside) -> String {
    format!("{doing} {}", Refusal::shown(path.as_bytes()))
}

fn host(path: &Inside, error: Errno) -> Refusal {
    Refusal::host(&shown("unpack", path), &error.into())
}

fn outside(path: &Inside) -> Refusal {
    Refusal::Outside { path: Refusal::shown(path.as_bytes()) }
}
