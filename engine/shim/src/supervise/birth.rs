//! A shim's first moments: what it inherits, and how it takes over a guest whose shim was killed.

use std::{
    io::{self, Write as _},
    os::fd::{AsFd as _, FromRawFd as _, OwnedFd, RawFd},
};

use nix::libc;

use super::{Begun, hello};
use crate::{
    fault::{Doing as _, Fault, Result},
    live,
    protocol::Hello,
    record,
    spec::{Restore, Spec},
    start::{self, Started},
    sys::{self, process, terminal},
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
pub(crate) fn log(text: &str) {
    let _ = writeln!(io::stderr(), "{text}");
}

/// A guest that begins.
pub(super) fn start(spec: &Spec) -> Result<Begun> {
    let (guest, console) = start::start(spec)?;
    let hello = hello(spec, guest.pid, false).doing("look at init")?;
    let hello = Hello { problems: guest.problems.clone(), ..hello };
    Ok(Begun { guest, console, shown: Vec::new(), hello, hold: None })
}

/// A guest that goes on here, held.
pub(super) fn restore(spec: &Spec, from: &Restore, directory: &OwnedFd) -> Result<Begun> {
    let restored = live::restore(spec, from, directory)?;
    let live::Restored { guest, console, shown, started_at_us, hold } = restored;
    let hello = hello(spec, guest.pid, false).doing("look at init")?;
    let hello = Hello { started_at_us, held: hold.held(), ..hello };
    Ok(Begun { guest, console, shown, hello, hold: Some(hold) })
}

/// Takes over the guest that the record `state` names: its init runs, its shim is gone.
pub(super) fn rescue(spec: &Spec, directory: &OwnedFd) -> Result<Begun> {
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
    let name = terminal::name(&console).doing(words)?;
    let own_clocks = process::has_own_clocks(state.pid).doing(words)?;
    let problems = Vec::new();
    let guest = Started {
        pid: state.pid,
        pidfd,
        devpts,
        console: name,
        console_home: None,
        own_clocks,
        doors,
        root: None,
        problems,
    };
    let started_at_us = state.started_at_us;
    let hold = live::Hold::find(directory, spec)?;
    let held = hold.as_ref().and_then(live::Hold::held);
    let hello = hello(spec, state.pid, true).doing(words)?;
    let hello = Hello { started_at_us, held, ..hello };
    Ok(Begun { guest, console, shown: Vec::new(), hello, hold })
}
