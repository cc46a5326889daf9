//! The guest's console: a terminal of its own devpts, on `/dev/console`.

use std::{
    io,
    os::fd::{AsFd as _, BorrowedFd, OwnedFd},
};

use nix::libc;

use crate::{
    fault::{Doing as _, Fault, Result},
    sys::{
        mount, open_inside,
        process::{self, Forked},
        terminal::{self, Terminal},
    },
    transport,
};

/// Makes it, by the guest's root, inside.
pub(super) fn make(devpts: BorrowedFd<'_>, root: BorrowedFd<'_>) -> Result<Terminal> {
    let console = terminal::open(devpts).doing("open a terminal")?;
    terminal::give_to(console.slave.as_fd(), 0, 0).doing("own the console")?;
    place(&console, root).doing("mount /dev/console")?;
    Ok(console)
}

fn place(console: &Terminal, root: BorrowedFd<'_>) -> io::Result<()> {
    let slave = mount::clone_of_open(console.slave.as_fd())?;
    let target = open_inside(root, c"dev/console", libc::O_PATH, false)?;
    mount::attach(slave.as_fd(), target.as_fd())
}

/// Takes the console's mount away, so that CRIU does not meet it: in the mount namespaces of services
/// it could not make it again, for it is no directory. Whoever has the console open keeps it.
pub(crate) fn unplug(guest: BorrowedFd<'_>, cgroup: BorrowedFd<'_>) -> Result<()> {
    inside(guest, cgroup, "take the console away", take_away)
}

/// Fine when nothing is mounted there. A shim that took over in the middle of a move may have put
/// one on top of another.
fn take_away() -> io::Result<()> {
    const MOUNTS_MAX: u32 = 8;
    for _ in 0..MOUNTS_MAX {
        match rustix::mount::unmount(c"/dev/console", rustix::mount::UnmountFlags::DETACH) {
            Err(rustix::io::Errno::INVAL) => break,
            answer => answer?,
        }
    }
    Ok(())
}

/// Puts the console's mount back in its place, or into that of a guest that is new here.
pub(crate) fn plug(
    guest: BorrowedFd<'_>,
    cgroup: BorrowedFd<'_>,
    console: &Terminal,
) -> Result<()> {
    // A terminal of the guest's own devpts can only be mounted from inside, one of the shim's only
    // from here.
    let ours = mount::clone_of_open(console.slave.as_fd()).ok();
    inside(guest, cgroup, "put the console back", || {
        let here = rustix::fs::open(c"/", rustix::fs::OFlags::PATH, rustix::fs::Mode::empty())?;
        match &ours {
            Some(slave) => {
                let target = open_inside(here.as_fd(), c"dev/console", libc::O_PATH, false)?;
                mount::attach(slave.as_fd(), target.as_fd())
            }
            None => place(console, here.as_fd()),
        }
    })
}

/// Does something as the guest's root, where its init sees its mounts.
fn inside(
    guest: BorrowedFd<'_>,
    cgroup: BorrowedFd<'_>,
    doing: &'static str,
    act: impl FnOnce() -> io::Result<()>,
) -> Result<()> {
    match process::fork(0, cgroup).doing(doing)? {
        Forked::Child => {
            let done = process::enter(guest, libc::CLONE_NEWNS | libc::CLONE_NEWUSER)
                .and_then(|()| crate::sys::become_root())
                .and_then(|()| act());
            let errno = |error: io::Error| error.raw_os_error().unwrap_or(libc::EIO);
            process::leave(done.map_or_else(errno, |()| 0))
        }
        Forked::Parent { pidfd, .. } => {
            let status = rustix::process::waitid(
                rustix::process::WaitId::PidFd(pidfd.as_fd()),
                rustix::process::WaitIdOptions::EXITED,
            )
            .doing(doing)?;
            match status.and_then(|status| status.exit_status()) {
                Some(0) => Ok(()),
                Some(errno) => Err(Fault::new(doing, io::Error::from_raw_os_error(errno))),
                None => Err(Fault::because(doing, "it was killed meanwhile")),
            }
        }
    }
}

/// Gives a running guest, whose shim died and took the console's master along, a new console:
/// otherwise each line that its init writes there costs it a second of retries. Answers it and
/// the root of devpts.
pub(crate) fn replace(
    guest: BorrowedFd<'_>,
    cgroup: BorrowedFd<'_>,
    privileged: bool,
) -> Result<(Terminal, OwnedFd)> {
    let (ours, theirs) = transport::pair().doing("make a socket pair")?;
    match process::fork(0, cgroup).doing("fork")? {
        Forked::Child => {
            let made = replace_inside(guest, privileged);
            let said = match made {
                Ok((console, devpts)) => {
                    let fds = [console.master.as_fd(), console.slave.as_fd(), devpts.as_fd()];
                    transport::send(&theirs, &String::new(), &fds)
                }
                Err(error) => transport::send(&theirs, &error.to_string(), &[]),
            };
            process::leave(i32::from(said.is_err()))
        }
        Forked::Parent { pidfd, .. } => {
            drop(theirs);
            let answer = transport::receive::<String>(&ours).doing("replace the console");
            let _ = rustix::process::waitid(
                rustix::process::WaitId::PidFd(pidfd.as_fd()),
                rustix::process::WaitIdOptions::EXITED,
            );
            let why = |text: &str| Fault::because("replace the console", text);
            let (text, fds) = answer?.ok_or_else(|| why("no answer"))?;
            let [master, slave, devpts] = <[OwnedFd; 3]>::try_from(fds).map_err(|_| why(&text))?;
            Ok((Terminal { master, slave }, devpts))
        }
    }
}

fn replace_inside(guest: BorrowedFd<'_>, privileged: bool) -> io::Result<(Terminal, OwnedFd)> {
    let user = if privileged { 0 } else { libc::CLONE_NEWUSER };
    process::enter(guest, libc::CLONE_NEWNS | user)?;
    crate::sys::become_root()?;
    let flags = libc::O_RDONLY | libc::O_DIRECTORY;
    let here = rustix::fs::open(c"/", rustix::fs::OFlags::PATH, rustix::fs::Mode::empty())?;
    let devpts = open_inside(here.as_fd(), c"dev/pts", flags, false)?;
    let console = terminal::open(devpts.as_fd())?;
    terminal::give_to(console.slave.as_fd(), 0, 0)?;
    take_away()?;
    place(&console, here.as_fd())?;
    Ok((console, devpts))
}
