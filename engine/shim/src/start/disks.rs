//! Directories and files of the host inside the guest.

use std::{
    ffi::CString,
    io,
    os::{
        fd::{AsFd as _, BorrowedFd, OwnedFd},
        unix::ffi::OsStrExt as _,
    },
    path::{Component, Path},
};

use nix::libc;
use rustix::{
    fs::{FileType, Mode, fstat, mkdirat, mknodat},
    mount::MountAttrFlags,
};

use crate::{
    fault::{Doing as _, Fault, Result},
    spec::Disk,
    sys::{mount, open_inside},
};

/// The shim's half: the mounts, with the guest's ids.
pub(super) fn open(disks: &[Disk], ids: Option<BorrowedFd<'_>>) -> Result<Vec<OwnedFd>> {
    disks.iter().map(|disk| open_one(disk, ids)).collect()
}

pub(crate) fn open_one(disk: &Disk, ids: Option<BorrowedFd<'_>>) -> Result<OwnedFd> {
    let words = || format!("mount disk {} from {}", disk.name, disk.source.display());
    // Not recursive: what else is mounted below the source need not be able to map ids.
    let mount = mount::clone_of(&disk.source, false).doing_with(words)?;
    let mut attributes = MountAttrFlags::MOUNT_ATTR_NODEV;
    if disk.read_only {
        attributes |= MountAttrFlags::MOUNT_ATTR_RDONLY;
    }
    mount::set_attributes(mount.as_fd(), attributes, ids, false).map_err(|error| {
        if error.raw_os_error() == Some(libc::EINVAL) && ids.is_some() {
            let why = "its file system cannot map the guest's ids (idmapped mounts)";
            Fault::because(words(), why)
        } else {
            Fault::new(words(), error)
        }
    })?;
    Ok(mount)
}

/// The child's half: puts it in its place, which is made when it is not there. Links of the guest
/// are followed inside its root, as the guest itself would.
pub(super) fn attach(disk: &Disk, mount: BorrowedFd<'_>, root: BorrowedFd<'_>) -> Result<()> {
    let words = || format!("mount disk {} at {}", disk.name, disk.path.display());
    let kind = fstat(mount).doing_with(words)?.st_mode;
    let directory = FileType::from_raw_mode(kind) == FileType::Directory;
    let target = place(root, &disk.path, directory).doing_with(words)?;
    mount::attach(mount, target.as_fd()).doing_with(words)
}

fn place(root: BorrowedFd<'_>, path: &Path, directory: bool) -> io::Result<OwnedFd> {
    let mut names = Vec::new();
    for part in path.components() {
        match part {
            Component::Normal(name) => names.push(CString::new(name.as_bytes())?),
            Component::RootDir | Component::CurDir => {}
            Component::ParentDir | Component::Prefix(_) => {
                return Err(io::Error::from(io::ErrorKind::InvalidInput));
            }
        }
    }
    let Some(last) = names.pop() else {
        return Err(io::Error::from(io::ErrorKind::InvalidInput));
    };
    let mut here = open_inside(root, c".", libc::O_PATH | libc::O_DIRECTORY, false)?;
    let mut so_far = Vec::new();
    for name in &names {
        here = step(root, &here, &mut so_far, name, true)?;
    }
    step(root, &here, &mut so_far, &last, directory)
}

/// One name further down from `here`, looked up from `root` so that links cannot lead out.
fn step(
    root: BorrowedFd<'_>,
    here: &OwnedFd,
    so_far: &mut Vec<u8>,
    name: &CString,
    directory: bool,
) -> io::Result<OwnedFd> {
    so_far.push(b'/');
    so_far.extend_from_slice(name.as_bytes());
    let path = CString::new(so_far.as_slice())?;
    let flags = libc::O_PATH | if directory { libc::O_DIRECTORY } else { 0 };
    match open_inside(root, &path, flags, true) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            if directory {
                mkdirat(here, name, Mode::from_raw_mode(0o755))?;
            } else {
                mknodat(here, name, FileType::RegularFile, Mode::from_raw_mode(0o644), 0)?;
            }
            open_inside(here.as_fd(), name, flags, false)
        }
        answer => answer,
    }
}
