//! File systems that are mounted nowhere yet, and where they go.

use std::{
    ffi::CStr,
    io,
    os::fd::{AsRawFd as _, BorrowedFd, OwnedFd},
};

use nix::libc;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, OpenTreeFlags, fsconfig_create,
    fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen, move_mount, open_tree,
};

use super::answer;
use crate::fault::{Doing as _, Result};

pub const NO_SUID_DEV_EXEC: MountAttrFlags = MountAttrFlags::MOUNT_ATTR_NOSUID
    .union(MountAttrFlags::MOUNT_ATTR_NODEV)
    .union(MountAttrFlags::MOUNT_ATTR_NOEXEC);

/// One parameter of a file system.
#[derive(Clone, Copy, Debug)]
pub enum Parameter<'a> {
    Flag(&'a CStr),
    Value(&'a CStr, &'a CStr),
}

/// Makes a file system, mounted nowhere.
///
/// # Errors
/// The kernel's, with what it refused.
pub fn make(
    kind: &'static CStr,
    parameters: &[Parameter<'_>],
    attributes: MountAttrFlags,
) -> Result<OwnedFd> {
    let name = || kind.to_string_lossy();
    let context =
        fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC).doing_with(|| format!("open {}", name()))?;
    for parameter in parameters {
        match *parameter {
            Parameter::Flag(key) => fsconfig_set_flag(&context, key),
            Parameter::Value(key, value) => fsconfig_set_string(&context, key, value),
        }
        .doing_with(|| format!("configure {}: {parameter:?}", name()))?;
    }
    fsconfig_create(&context).doing_with(|| format!("create {}", name()))?;
    fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes)
        .doing_with(|| format!("mount {}", name()))
}

/// A second mount, attached nowhere, of what `path` shows. Its last part is no symbolic link.
///
/// # Errors
/// The kernel's.
pub fn clone_of(path: &std::path::Path, recursive: bool) -> io::Result<OwnedFd> {
    let mut flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_SYMLINK_NOFOLLOW;
    if recursive {
        flags |= OpenTreeFlags::AT_RECURSIVE;
    }
    Ok(open_tree(rustix::fs::CWD, path, flags)?)
}

/// The same of a descriptor.
///
/// # Errors
/// The kernel's.
pub fn clone_of_open(file: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_EMPTY_PATH;
    Ok(open_tree(file, c"", flags)?)
}

/// Puts a mount where `target` is.
///
/// # Errors
/// The kernel's.
pub fn attach(mount: BorrowedFd<'_>, target: BorrowedFd<'_>) -> io::Result<()> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    Ok(move_mount(mount, c"", target, c"", flags)?)
}

/// Puts a mount on top of everything.
///
/// # Errors
/// The kernel's.
pub fn attach_over_root(mount: BorrowedFd<'_>) -> io::Result<()> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
    Ok(move_mount(mount, c"", rustix::fs::CWD, c"/", flags)?)
}

#[repr(C)]
struct MountAttr {
    set: u64,
    clear: u64,
    propagation: u64,
    user_namespace: u64,
}

const MOUNT_ATTR_IDMAP: u64 = 0x0010_0000;

/// Changes what a detached mount allows; with a user namespace, files on it belong to that
/// namespace's ids.
///
/// # Errors
/// The kernel's; EINVAL also when the file system cannot map ids.
pub fn set_attributes(
    mount: BorrowedFd<'_>,
    set: MountAttrFlags,
    user_namespace: Option<BorrowedFd<'_>>,
    recursive: bool,
) -> io::Result<()> {
    let attributes = MountAttr {
        set: u64::from(set.bits()) | if user_namespace.is_some() { MOUNT_ATTR_IDMAP } else { 0 },
        clear: 0,
        propagation: 0,
        user_namespace: user_namespace.map_or(0, |fd| u64::from(fd.as_raw_fd().unsigned_abs())),
    };
    let flags = libc::AT_EMPTY_PATH | if recursive { libc::AT_RECURSIVE } else { 0 };
    // SAFETY: the structure and the path live across the call, and its size is told.
    answer(unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            flags,
            &raw const attributes,
            size_of::<MountAttr>(),
        )
    })?;
    Ok(())
}
