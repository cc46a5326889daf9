//! The guest's `/dev`: a small tmpfs that the host makes, for only the host may make nodes.
//!
//! It is made with the guest's ids, so that the nodes belong to the guest's root; mapping the ids of
//! the mount would do the same, but a tmpfs can do that since Linux 6.3 only. It stays the host's
//! file system: hence its limits, which the guest cannot change.

use std::{ffi::CStr, os::fd::OwnedFd};

use rustix::{
    fs::{FileType, Mode, makedev, mkdirat, mknodat, symlinkat},
    mount::MountAttrFlags,
};

use crate::{
    fault::{Doing as _, Result},
    spec::Ids,
    sys::{
        acting_as, c_string,
        mount::{self, Parameter},
    },
};

/// Name, major, minor.
const NODES: [(&CStr, u32, u32); 8] = [
    (c"null", 1, 3),
    (c"zero", 1, 5),
    (c"full", 1, 7),
    (c"random", 1, 8),
    (c"urandom", 1, 9),
    (c"tty", 5, 0),
    (c"fuse", 10, 229),
    (c"net/tun", 10, 200),
];

const DIRECTORIES: [(&CStr, u32); 4] =
    [(c"pts", 0o755), (c"shm", 0o1777), (c"mqueue", 0o755), (c"net", 0o755)];

const LINKS: [(&CStr, &CStr); 5] = [
    (c"pts/ptmx", c"ptmx"),
    (c"/proc/self/fd", c"fd"),
    (c"/proc/self/fd/0", c"stdin"),
    (c"/proc/self/fd/1", c"stdout"),
    (c"/proc/self/fd/2", c"stderr"),
];

pub(super) fn make(ids: Option<Ids>) -> Result<OwnedFd> {
    let owner =
        c_string(ids.map_or(0, |ids| ids.base).to_string()).doing("name the owner of /dev")?;
    let parameters = [
        Parameter::Value(c"uid", &owner),
        Parameter::Value(c"gid", &owner),
        Parameter::Value(c"size", c"512k"),
        Parameter::Value(c"nr_inodes", c"4096"),
        Parameter::Value(c"mode", c"755"),
    ];
    let attributes = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    let devices = mount::make(c"tmpfs", &parameters, attributes)?;
    let fill = || fill(&devices);
    match ids {
        Some(ids) => acting_as(ids.base, fill),
        None => fill(),
    }
    .doing("fill /dev")?;
    Ok(devices)
}

/// The shim's umask is 0, so that modes are as written.
fn fill(devices: &OwnedFd) -> std::io::Result<()> {
    for (name, mode) in DIRECTORIES {
        mkdirat(devices, name, Mode::from_raw_mode(mode))?;
    }
    for (name, major, minor) in NODES {
        let mode = Mode::from_raw_mode(0o666);
        mknodat(devices, name, FileType::CharacterDevice, mode, makedev(major, minor))?;
    }
    // Below the console's terminal, which is not there for a moment when the guest is moved: what is
    // written in this moment is lost, and nothing worse.
    let mode = Mode::from_raw_mode(0o600);
    mknodat(devices, c"console", FileType::CharacterDevice, mode, makedev(1, 3))?;
    for (target, name) in LINKS {
        symlinkat(target, devices, name)?;
    }
    Ok(())
}
