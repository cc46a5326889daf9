//! What systemd as init is told so that its guest can move while it runs.
//!
//! `ProtectHostname=` gives a service a host name of its own (a UTS namespace), which CRIU cannot
//! write down; stock distributions have it on for logind and others. In a guest it protects
//! nothing that matters to the host. All other sandboxing stays as it is.
//!
//! The drop-in stands in `/run`: nothing on the guest's disk is changed, and who wants it otherwise
//! overrides it by a file of the same name in `/etc/systemd/system/service.d`.

use std::{
    fs::File,
    io::{self, Write as _},
    os::fd::BorrowedFd,
};

use nix::libc;
use rustix::fs::{Mode, OFlags, mkdirat, openat, readlinkat};

use crate::{
    spec::Spec,
    sys::{c_string, open_inside},
};

const DROP_IN: &str = "[Service]\nProtectHostname=no\n";

/// Whether the guest's init is systemd, as its name says: a link to it. The link is not followed,
/// so that nothing in the guest can lead elsewhere.
pub(super) fn is_init(root: BorrowedFd<'_>, spec: &Spec) -> bool {
    let find = || -> io::Result<bool> {
        let init = c_string(spec.init.first().map_or("", String::as_str))?;
        let link = open_inside(root, &init, libc::O_PATH | libc::O_NOFOLLOW, true)?;
        let target = readlinkat(&link, c"", Vec::new())?;
        Ok(target.to_bytes().rsplit(|byte| *byte == b'/').next() == Some(b"systemd"))
    };
    find().unwrap_or(false)
}

/// Writes it into the guest's new and empty `/run`.
pub(super) fn prepare(run: BorrowedFd<'_>) -> io::Result<()> {
    let mode = Mode::from_raw_mode(0o755);
    for directory in [c"systemd", c"systemd/system", c"systemd/system/service.d"] {
        mkdirat(run, directory, mode)?;
    }
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
    let mode = Mode::from_raw_mode(0o644);
    let path = c"systemd/system/service.d/zz-stapes-move.conf";
    File::from(openat(run, path, flags, mode)?).write_all(DROP_IN.as_bytes())
}

#[cfg(test)]
mod tests {
    use std::{fs, os::fd::AsFd as _, os::unix::fs::symlink};

    use super::*;

    #[test]
    fn the_drop_in_is_written_once_and_read_by_all() {
        let directory = tempfile::tempdir().unwrap();
        let run = File::open(directory.path()).unwrap();
        prepare(run.as_fd()).unwrap();
        let path = "systemd/system/service.d/zz-stapes-move.conf";
        assert_eq!(fs::read_to_string(directory.path().join(path)).unwrap(), DROP_IN);
    }

    #[test]
    fn an_init_is_known_by_what_it_is_a_link_to() {
        let directory = tempfile::tempdir().unwrap();
        let root = File::open(directory.path()).unwrap();
        let link = |target: &str| {
            let path = directory.path().join("init");
            let _ = fs::remove_file(&path);
            symlink(target, &path).unwrap();
            let link = open_inside(root.as_fd(), c"init", libc::O_PATH | libc::O_NOFOLLOW, true);
            let target = readlinkat(link.unwrap(), c"", Vec::new()).unwrap();
            target.to_bytes().rsplit(|byte| *byte == b'/').next() == Some(b"systemd")
        };
        assert!(link("/lib/systemd/systemd") && link("../lib/systemd/systemd") && link("systemd"));
        assert!(!link("busybox") && !link("/bin/systemd-not") && !link("/systemd/"));
    }
}
