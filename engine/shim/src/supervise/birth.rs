//! A shim's first moments: what it inherits, and how it takes over a guest whose shim was killed.

use std::{
    io::{self, Write as _},
    os::fd::{AsFd as _, FromRawFd as _, OwnedFd, RawFd},
};

use nix::libc;

use super::hello;
use crate::{
    fault::{Doing as _, Fault, Result},
    protocol::Hello,
    record,
    spec::Spec,
    start::{self, Started},
    sys::{self, process, terminal::Terminal},
};

/// Takes the descriptors that it was born with, and leaves its parent's ways.
pub(super) fn inherit() -> io::Result<(OwnedFd, OwnedFd)> {
    // First: nothing that the daemon had open may ever be seen in a guest.
    sys::close_on_exec_from(3);
    let first = take(0)?;
    let directory = take(1)?;
    let null = std::fs::OpenOptions::new().read(true).write(true).open("/dev/null")?;
    sys::duplicate_to(null.as_fd(), 0)?;
    sys::duplicate_to(null.as_fd(), 1)?;
    // SAFETY: plain calls with numbers and a set that sigfillset initialises.
    unsafe {
        // Modes of what it makes are as written.
        libc::umask(0);
        // A guest must not look into it, not even in the moment in which it enters the guest.
        libc::prctl(libc::PR_SET_DUMPABLE, 0);
        libc::setsid();
        libc::chdir(c"/".as_ptr());
        // Ignored signals stay ignored in the guest's programs: ignore none, block all instead.
        for signal in 1..=64 {
            libc::signal(signal, libc::SIG_DFL);
        }
        let mut all = std::mem::zeroed();
        libc::sigfillset(&raw mut all);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const all, std::ptr::null_mut());
    }
    Ok((first, directory))
}

fn take(number: RawFd) -> io::Result<OwnedFd> {
    const FIRST_FREE: libc::c_int = 3;
    // SAFETY: the copy is new and ours; the original is replaced by /dev/null.
    unsafe {
        let copy = libc::fcntl(number, libc::F_DUPFD_CLOEXEC, FIRST_FREE);
        sys::answer(libc::c_long::from(copy))?;
        Ok(OwnedFd::from_raw_fd(copy))
    }
}

/// The log is a file of a few lines, if any: what there was nobody to tell.
pub(super) fn log(text: &str) {
    let _ = writeln!(io::stderr(), "{text}");
}

/// Takes over the guest that the record `state` names: its init runs, its shim is gone.
pub(super) fn rescue(spec: &Spec, directory: &OwnedFd) -> Result<(Started, Terminal, Hello)> {
    let words = "take the guest over";
    let state: Hello = record::read(directory, record::STATE)
        .doing(words)?
        .ok_or_else(|| Fault::because(words, "nothing says which process it is"))?;
    let pid = rustix::process::Pid::from_raw(state.pid)
        .ok_or_else(|| Fault::because(words, "its pid is none"))?;
    let pidfd =
        rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()).doing(words)?;
    // Held by the pidfd, the pid cannot become another's while it is looked at.
    if process::start_ticks(state.pid).doing(words)? != state.start_ticks {
        return Err(Fault::because(words, "its pid is another process's now"));
    }
    let group = spec.cgroups.group(&spec.instance);
    let doors = group.doors()?;
    let leaf = group.exec_leaf().doing(words)?;
    let privileged = spec.ids.is_none();
    let (console, devpts) = start::replace_console(pidfd.as_fd(), leaf.as_fd(), privileged)?;
    let guest = Started { pid: state.pid, pidfd, devpts, doors, problems: Vec::new() };
    let started_at_us = state.started_at_us;
    let hello = Hello { started_at_us, ..hello(spec, state.pid, true).doing(words)? };
    Ok((guest, console, hello))
}
