//! What a privileged guest may not see or change in `/proc` and `/sys`.
//!
//! Its root is the host's root, so that the kernel's own checks let it pass. A guest in a user
//! namespace needs none of this: those files belong to nobody there, and covering any of them
//! would keep it from mounting `/proc` again, which services of systemd do (ProtectProc=).

use std::{
    ffi::CStr,
    io,
    os::fd::{AsFd as _, BorrowedFd},
};

use nix::libc;
use rustix::mount::MountAttrFlags;

use crate::{
    fault::{Doing as _, Result},
    sys::{mount, open_inside},
};

const HIDDEN: [&CStr; 6] = [
    c"proc/kcore",
    c"proc/keys",
    c"proc/timer_list",
    c"proc/sched_debug",
    c"proc/latency_stats",
    c"proc/sysrq-trigger",
];
const HIDDEN_DIRECTORIES: [&CStr; 2] = [c"sys/firmware", c"proc/acpi"];
/// Read-only, but for what follows.
const FIXED: [&CStr; 3] = [c"proc/sys", c"proc/irq", c"proc/bus"];
const FREE: [&CStr; 1] = [c"proc/sys/net"];

pub(super) fn cover(root: BorrowedFd<'_>) -> Result<()> {
    // What stays free is looked up before it is covered.
    let mut free = Vec::new();
    for place in FREE {
        free.push((place, copy(root, place, MountAttrFlags::empty()).doing("open /proc/sys")?));
    }
    for place in FIXED {
        let words = || format!("make /{} read-only", place.to_string_lossy());
        let copy = copy(root, place, MountAttrFlags::MOUNT_ATTR_RDONLY).doing_with(words)?;
        put(root, place, copy).doing_with(words)?;
    }
    for (place, copy) in free {
        put(root, place, copy).doing("open /proc/sys")?;
    }
    for place in HIDDEN {
        let words = || format!("hide /{}", place.to_string_lossy());
        let null = copy(root, c"dev/null", MountAttrFlags::empty()).doing_with(words)?;
        put(root, place, null).doing_with(words)?;
    }
    for place in HIDDEN_DIRECTORIES {
        let attributes = mount::NO_SUID_DEV_EXEC | MountAttrFlags::MOUNT_ATTR_RDONLY;
        let empty = mount::make(c"tmpfs", &[], attributes)?;
        put(root, place, Some(empty)).doing("hide a directory")?;
    }
    Ok(())
}

/// Nothing where this kernel has no such file.
fn copy(
    root: BorrowedFd<'_>,
    place: &CStr,
    attributes: MountAttrFlags,
) -> io::Result<Option<std::os::fd::OwnedFd>> {
    let Some(original) = find(root, place)? else { return Ok(None) };
    let copy = mount::clone_of_open(original.as_fd())?;
    mount::set_attributes(copy.as_fd(), attributes, None, false)?;
    Ok(Some(copy))
}

fn put(root: BorrowedFd<'_>, place: &CStr, mount: Option<std::os::fd::OwnedFd>) -> io::Result<()> {
    match (mount, find(root, place)?) {
        (Some(mount), Some(target)) => mount::attach(mount.as_fd(), target.as_fd()),
        _ => Ok(()),
    }
}

fn find(root: BorrowedFd<'_>, place: &CStr) -> io::Result<Option<std::os::fd::OwnedFd>> {
    match open_inside(root, place, libc::O_PATH, false) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        answer => answer.map(Some),
    }
}
