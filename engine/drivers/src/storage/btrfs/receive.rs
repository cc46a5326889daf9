//! Does what a send stream says, below one subvolume and nowhere else.
//!
//! Every directory is opened by openat2 with BENEATH and NO_SYMLINKS, and a last name is never
//! followed, so that no path and no link of the stream's leads out. What the stream may clone from is
//! the subvolume itself.

use std::{
    ffi::OsStr,
    os::{
        fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
        unix::ffi::OsStrExt,
    },
    path::{Path, PathBuf},
};

use rustix::{
    fs::{
        AtFlags, FileType, Gid, Mode, OFlags, ResolveFlags, Timespec, Timestamps, Uid, XattrFlags,
    },
    io::Errno,
};

use super::{
    super::{
        envelope::{Inlet, foreign},
        error::{Context, DriverError},
    },
    ioctl,
    stream::{Broken, Change, Clone, Command, Commands, Origin, Time},
};

const SAFE: ResolveFlags = ResolveFlags::BENEATH
    .union(ResolveFlags::NO_SYMLINKS)
    .union(ResolveFlags::NO_MAGICLINKS)
    .union(ResolveFlags::NO_XDEV);

/// Which subvolumes a parent of a stream may be: itself, or what it was received from.
pub(super) type Known = [[u8; 16]; 2];

/// Writes the stream into the subvolume, which is a copy of the parent if there is one.
pub(super) fn receive(
    inlet: &mut Inlet<'_>,
    top: BorrowedFd<'_>,
    parent: Option<Known>,
) -> Result<Origin, DriverError> {
    let mut target = Target { top, parent, origin: None, directory: None, file: None };
    let outcome = run(inlet, &mut target);
    match (outcome, target.origin) {
        (Ok(()), Some(origin)) => Ok(origin),
        (Ok(()), None) => Err(foreign("it names no subvolume")),
        (Err(Trouble::Stream(Broken::Read(error))), _) => Err(inlet.reading(&error)),
        (Err(Trouble::Stream(Broken::Foreign(why))), _) => Err(foreign(why)),
        (Err(Trouble::Path(path, Errno::XDEV | Errno::LOOP | Errno::NOTDIR)), _) => {
            Err(foreign(&format!("{path} leads out of it")))
        }
        (Err(Trouble::Path(path, error)), _) => {
            Err(error).context(|| format!("writing {path} of what is received"))
        }
    }
}

fn run(inlet: &mut Inlet<'_>, target: &mut Target<'_>) -> Result<(), Trouble> {
    let mut commands = Commands::open(inlet)?;
    loop {
        match commands.next()? {
            Command::Begin { origin, parent } => target.begin(origin, parent)?,
            Command::At(path, change) => {
                target.check(&change)?;
                let changed = target.change(path, change);
                changed.map_err(|error| Trouble::Path(shown(path), error))?;
            }
            Command::Nothing => {}
            Command::End => return Ok(()),
        }
    }
}

enum Trouble {
    Stream(Broken),
    /// What was done with this path failed.
    Path(String, Errno),
}

impl From<Broken> for Trouble {
    fn from(broken: Broken) -> Self {
        Self::Stream(broken)
    }
}

struct Target<'a> {
    top: BorrowedFd<'a>,
    parent: Option<Known>,
    origin: Option<Origin>,
    /// The directory of the command before: neighbours come together.
    directory: Option<(Vec<u8>, OwnedFd)>,
    /// The file that is being written: its pieces come together.
    file: Option<(Vec<u8>, OwnedFd)>,
}

type Done = rustix::io::Result<()>;

impl Target<'_> {
    /// The stream says which subvolume it is of, and which one it builds on.
    fn begin(&mut self, origin: Origin, parent: Option<[u8; 16]>) -> Result<(), Broken> {
        if self.origin.is_some() {
            return Err(Broken::Foreign("it is of several subvolumes"));
        }
        match (self.parent, parent) {
            (None, None) => {}
            (Some(known), Some(parent)) if known.contains(&parent) => {}
            (None | Some(_), Some(_)) => {
                return Err(Broken::Foreign("its parent is not the one that is here"));
            }
            (Some(_), None) => {
                return Err(Broken::Foreign("it is whole where a difference was announced"));
            }
        }
        self.origin = Some(origin);
        Ok(())
    }

    fn check(&self, change: &Change<'_>) -> Result<(), Broken> {
        let Some(origin) = self.origin else {
            return Err(Broken::Foreign("it does not begin with a subvolume"));
        };
        if let Change::Clone(clone) = change
            && clone.uuid != origin.uuid
        {
            return Err(Broken::Foreign("it clones from another subvolume"));
        }
        Ok(())
    }

    fn change(&mut self, path: &[u8], change: Change<'_>) -> Done {
        match change {
            Change::MakeFile => self.make(path, FileType::RegularFile),
            Change::MakeFifo => self.make(path, FileType::Fifo),
            Change::MakeSocket => self.make(path, FileType::Socket),
            Change::MakeDirectory => self.make(path, FileType::Directory),
            Change::MakeNode { mode, device } => self.make_node(path, mode, device),
            Change::Symlink { to } => self.symlink(path, to),
            Change::Link { to } => self.link(path, to),
            Change::Rename { to } => self.rename(path, to),
            Change::Unlink => self.remove(path, AtFlags::empty()),
            Change::RemoveDirectory => self.remove(path, AtFlags::REMOVEDIR),
            Change::SetXattr { name, value } => {
                let file = self.named(path)?;
                rustix::fs::lsetxattr(file, name, value, XattrFlags::empty())
            }
            Change::RemoveXattr { name } => rustix::fs::lremovexattr(self.named(path)?, name),
            Change::Write { offset, data } => self.write(path, offset, data),
            Change::Clone(clone) => self.clone_range(path, clone),
            Change::Truncate { size } => rustix::fs::ftruncate(self.file(path)?, size),
            Change::Mode { mode } => self.change_mode(path, mode),
            Change::Owner { uid, gid } => self.change_owner(path, uid, gid),
            Change::Times { accessed, modified } => self.set_times(path, accessed, modified),
        }
    }

    fn write(&mut self, path: &[u8], mut offset: u64, mut data: &[u8]) -> Done {
        let file = self.file(path)?;
        while !data.is_empty() {
            match rustix::io::pwrite(file, data, offset) {
                Ok(0) => return Err(Errno::IO),
                Ok(written) => {
                    offset += written as u64;
                    data = &data[written..];
                }
                Err(Errno::INTR) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn clone_range(&mut self, path: &[u8], clone: Clone<'_>) -> Done {
        let source = self.open(clone.path, OFlags::RDONLY)?;
        let file = self.file(path)?;
        ioctl::clone_range(file, source.as_fd(), clone.from, clone.length, clone.offset)
    }

    fn rename(&mut self, path: &[u8], to: &[u8]) -> Done {
        let (parent, name) = self.parent(path)?;
        let (to_parent, to) = self.parent(to)?;
        self.forget_paths();
        rustix::fs::renameat(&parent, name, &to_parent, to)
    }

    fn remove(&mut self, path: &[u8], flags: AtFlags) -> Done {
        let (parent, name) = self.parent(path)?;
        self.forget_paths();
        rustix::fs::unlinkat(&parent, name, flags)
    }

    /// Paths lead elsewhere from now on.
    fn forget_paths(&mut self) {
        (self.directory, self.file) = (None, None);
    }
}

/// How files are found, made and changed.
impl Target<'_> {
    /// The directory that holds `path`, open, and the last name.
    fn parent<'p>(&mut self, path: &'p [u8]) -> rustix::io::Result<(OwnedFd, &'p OsStr)> {
        let (directory, name) = match path.iter().rposition(|byte| *byte == b'/') {
            Some(at) => (&path[..at], &path[at + 1..]),
            None => (&b""[..], path),
        };
        if name == b".." || path.contains(&0) {
            return Err(Errno::XDEV);
        }
        if self.directory.as_ref().is_none_or(|(known, _)| known != directory) {
            let below = if directory.is_empty() { b"." } else { directory };
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
            let opened = rustix::fs::openat2(
                self.top,
                OsStr::from_bytes(below),
                flags,
                Mode::empty(),
                SAFE,
            )?;
            self.directory = Some((directory.to_vec(), opened));
        }
        let (_, open) = self.directory.as_ref().expect("set above");
        let name = if name.is_empty() { OsStr::new(".") } else { OsStr::from_bytes(name) };
        Ok((rustix::io::dup(open)?, name))
    }

    fn open(&mut self, path: &[u8], flags: OFlags) -> rustix::io::Result<OwnedFd> {
        let (parent, name) = self.parent(path)?;
        let flags = flags | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        rustix::fs::openat2(&parent, name, flags, Mode::empty(), SAFE)
    }

    /// The regular file, open for writing.
    fn file(&mut self, path: &[u8]) -> rustix::io::Result<BorrowedFd<'_>> {
        if self.file.as_ref().is_none_or(|(known, _)| known != path) {
            let opened = self.open(path, OFlags::WRONLY)?;
            // Never a device that the stream made.
            let found = rustix::fs::fstat(&opened)?;
            if FileType::from_raw_mode(found.st_mode) != FileType::RegularFile {
                return Err(Errno::XDEV);
            }
            self.file = Some((path.to_vec(), opened));
        }
        let (_, file) = self.file.as_ref().expect("set above");
        Ok(file.as_fd())
    }

    /// A path to what must not be opened, through the kernel's link to its open directory; only for
    /// calls that do not follow the last name.
    fn named(&mut self, path: &[u8]) -> rustix::io::Result<PathBuf> {
        let (_, name) = self.parent(path)?;
        let (_, open) = self.directory.as_ref().expect("opened by `parent`");
        Ok(Path::new(&format!("/proc/self/fd/{}", open.as_raw_fd())).join(name))
    }

    fn make(&mut self, path: &[u8], kind: FileType) -> Done {
        let (parent, name) = self.parent(path)?;
        if kind == FileType::Directory {
            return rustix::fs::mkdirat(&parent, name, Mode::RWXU);
        }
        rustix::fs::mknodat(&parent, name, kind, Mode::RUSR | Mode::WUSR, 0)
    }

    fn make_node(&mut self, path: &[u8], mode: u32, device: u64) -> Done {
        let (parent, name) = self.parent(path)?;
        let kind = FileType::from_raw_mode(mode);
        rustix::fs::mknodat(&parent, name, kind, Mode::from_raw_mode(mode & 0o7777), device)
    }

    fn symlink(&mut self, path: &[u8], to: &[u8]) -> Done {
        let (parent, name) = self.parent(path)?;
        rustix::fs::symlinkat(OsStr::from_bytes(to), &parent, name)
    }

    fn link(&mut self, path: &[u8], to: &[u8]) -> Done {
        let (from_parent, from) = self.parent(to)?;
        let (parent, name) = self.parent(path)?;
        rustix::fs::linkat(&from_parent, from, &parent, name, AtFlags::empty())
    }

    fn change_mode(&mut self, path: &[u8], mode: u32) -> Done {
        let (parent, name) = self.parent(path)?;
        let found = rustix::fs::statat(&parent, name, AtFlags::SYMLINK_NOFOLLOW)?;
        // Links have no mode, and the call would follow them. Nobody but this thread writes here.
        if FileType::from_raw_mode(found.st_mode) == FileType::Symlink {
            return Err(Errno::LOOP);
        }
        rustix::fs::chmodat(&parent, name, Mode::from_raw_mode(mode & 0o7777), AtFlags::empty())
    }

    fn change_owner(&mut self, path: &[u8], uid: u32, gid: u32) -> Done {
        let (parent, name) = self.parent(path)?;
        let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
        rustix::fs::chownat(&parent, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)
    }

    fn set_times(&mut self, path: &[u8], accessed: Time, modified: Time) -> Done {
        let (parent, name) = self.parent(path)?;
        let time = |(seconds, nanoseconds): Time| Timespec {
            tv_sec: seconds,
            tv_nsec: i64::from(nanoseconds),
        };
        let times = Timestamps { last_access: time(accessed), last_modification: time(modified) };
        rustix::fs::utimensat(&parent, name, &times, AtFlags::SYMLINK_NOFOLLOW)
    }
}

/// A path of the stream's, fit to be shown.
fn shown(path: &[u8]) -> String {
    let text = path.escape_ascii().to_string();
    if text.len() <= 256 { text } else { format!("{}...", &text[..256]) }
}
