//! Deleting a subvolume with those that a guest made inside it.
//!
//! The file system's own tree says which they are, so that no path of the guest's is walked.

use std::{
    ffi::CStr,
    os::fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd},
};

use rustix::{
    fs::{Mode, OFlags},
    io::{self, Errno},
};

use super::{ioctl, search};

/// Subvolumes inside one volume at most. A guest that made more leaves them to the next sweep.
const NESTED_MAX: usize = 1 << 16;
/// A file handle of btrfs without its parent.
const HANDLE_KIND: i32 = 0x4d;

/// `struct file_handle` with `struct btrfs_fid` up to the generation.
#[repr(C, packed)]
struct Handle {
    length: u32,
    kind: i32,
    object: u64,
    root: u64,
    /// Zero is any.
    generation: u32,
}

/// Deletes the subvolume `name` of `parent` and all in it.
pub(super) fn delete(parent: BorrowedFd<'_>, name: &CStr) -> io::Result<()> {
    match ioctl::destroy(parent, name) {
        Err(Errno::NOTEMPTY) => {}
        Err(Errno::NOENT) => return Ok(()),
        done => return done,
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let tree = rustix::fs::openat(parent, name, flags, Mode::empty())?;
    let inside = descendants(parent, ioctl::subvolume_id(tree.as_fd())?)?;
    // A guest may have made some read-only, which keeps what is inside them.
    for id in &inside {
        let subvolume = open(parent, *id)?;
        if ioctl::read_only(subvolume.as_fd())? {
            ioctl::set_read_only(subvolume.as_fd(), false)?;
        }
    }
    for id in inside.iter().rev() {
        ioctl::destroy_by_id(parent, *id)?;
    }
    drop(tree);
    ioctl::destroy(parent, name)
}

/// All subvolumes inside, each after the one that holds it.
fn descendants(filesystem: BorrowedFd<'_>, id: u64) -> io::Result<Vec<u64>> {
    let mut found = search::children(filesystem, id)?;
    let mut looked = 0;
    while let Some(id) = found.get(looked).copied() {
        looked += 1;
        found.extend(search::children(filesystem, id)?);
        if found.len() > NESTED_MAX {
            return Err(Errno::TOOMANYREFS);
        }
    }
    Ok(found)
}

fn open(filesystem: BorrowedFd<'_>, id: u64) -> io::Result<OwnedFd> {
    use std::os::fd::AsRawFd;
    let mut handle = Handle {
        length: 20,
        kind: HANDLE_KIND,
        object: ioctl::SUBVOLUME_INODE,
        root: id,
        generation: 0,
    };
    let flags = nix::libc::O_RDONLY | nix::libc::O_DIRECTORY | nix::libc::O_CLOEXEC;
    // SAFETY: the handle is as long as it says behind its header of eight bytes, and the kernel
    // only reads it.
    let fd = unsafe {
        nix::libc::open_by_handle_at(
            filesystem.as_raw_fd(),
            (&raw mut handle).cast::<nix::libc::file_handle>(),
            flags,
        )
    };
    if fd < 0 {
        return Err(Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO));
    }
    // SAFETY: the kernel has just given it to us.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}
