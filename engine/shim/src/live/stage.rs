//! Where CRIU finds what it is given from outside: a small tmpfs in a mount namespace that ends
//! with CRIU, so that nothing of it is ever seen on the host.

use std::{
    io,
    os::fd::{AsFd as _, BorrowedFd, OwnedFd},
    path::{Path, PathBuf},
};

use nix::libc;
use rustix::{
    fs::{FileType, Mode, OFlags, fstat, mkdirat, mknodat, openat},
    mount::MountAttrFlags,
    thread::{UnshareFlags, unshare_unsafe},
};

use crate::{
    fault::{Doing as _, Fault, Result},
    start::propagate,
    sys::{
        c_string,
        mount::{self, Parameter},
    },
};

/// Directories that are there on any host and of no use to CRIU; who looks the stage up is the
/// guest's root, which may walk to these.
const PLACES: [&str; 4] = ["/mnt", "/media", "/srv", "/opt"];

/// What is put on the stage, mounted nowhere yet.
pub(super) struct Stage {
    place: PathBuf,
    tmpfs: OwnedFd,
    props: Vec<(String, OwnedFd)>,
}

impl Stage {
    /// A stage that hides none of `needed`.
    pub(super) fn new(needed: &[&Path]) -> Result<Self> {
        let free = |place: &&&str| {
            let place = Path::new(place);
            place.is_dir() && !needed.iter().any(|needed| needed.starts_with(place))
        };
        let place = PLACES.iter().find(free).ok_or_else(|| {
            Fault::because("stage the guest", &format!("none of {PLACES:?} is there and free"))
        })?;
        let parameters = [Parameter::Value(c"size", c"1m"), Parameter::Value(c"mode", c"755")];
        let tmpfs = mount::make(c"tmpfs", &parameters, MountAttrFlags::empty())?;
        Ok(Self { place: PathBuf::from(place), tmpfs, props: Vec::new() })
    }

    /// Puts a mount on it, and answers where it will be.
    pub(super) fn put(&mut self, name: &str, mount: OwnedFd) -> PathBuf {
        self.props.push((name.to_owned(), mount));
        self.place.join(name)
    }

    /// Raises it, in the process that becomes CRIU.
    pub(super) fn raise(&self) -> Result<()> {
        let words = "raise the stage";
        leave_mounts()?;
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let place = rustix::fs::open(&self.place, flags, Mode::empty()).doing(words)?;
        mount::attach(self.tmpfs.as_fd(), place.as_fd()).doing(words)?;
        self.props.iter().try_for_each(|(name, mount)| self.attach(name, mount).doing(words))
    }

    fn attach(&self, name: &str, mount: &OwnedFd) -> io::Result<()> {
        let name = c_string(name)?;
        let mode = Mode::from_raw_mode(0o755);
        if FileType::from_raw_mode(fstat(mount)?.st_mode) == FileType::Directory {
            mkdirat(&self.tmpfs, &name, mode)?;
        } else {
            mknodat(&self.tmpfs, &name, FileType::RegularFile, mode, 0)?;
        }
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let target = openat(&self.tmpfs, &name, flags, Mode::empty())?;
        mount::attach(mount.as_fd(), target.as_fd())
    }
}

/// A mount namespace of this process's own: CRIU mounts things for a moment, which are nobody
/// else's business.
pub(super) fn leave_mounts() -> Result<()> {
    let words = "leave the host's mounts";
    // SAFETY: this process has one thread; descriptors and memory stay as they are.
    unsafe { unshare_unsafe(UnshareFlags::NEWNS) }.doing(words)?;
    propagate(c"/", libc::MS_PRIVATE).doing(words)
}

/// Lets the guest's root read the files in a directory, through its group: CRIU's processes open
/// them while they are the host's root still, and when they are the guest's already.
pub(super) fn lend(images: BorrowedFd<'_>, base: u32) -> io::Result<()> {
    use rustix::fs::{AtFlags, Dir, Gid, chmodat, chownat, fchmod, fchown};
    let group = Some(Gid::from_raw(base));
    for entry in Dir::read_from(images)? {
        let entry = entry?;
        let name = entry.file_name();
        if entry.file_type() == FileType::RegularFile {
            chownat(images, name, None, group, AtFlags::SYMLINK_NOFOLLOW)?;
            chmodat(images, name, Mode::from_raw_mode(0o640), AtFlags::empty())?;
        }
    }
    fchown(images, None, group)?;
    Ok(fchmod(images, Mode::from_raw_mode(0o750))?)
}
