//! A guest that may run elsewhere runs on a lease: the shim kills it when nobody renews that, for then
//! its node may be cut off from the others, or its daemon be dead, and the others start it.

use std::{
    io,
    os::fd::{AsFd as _, BorrowedFd, OwnedFd},
};

use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
    timerfd_settime,
};

/// How soon a guest is killed again that did not die.
const AGAIN: Timespec = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };
const NEVER: Timespec = Timespec { tv_sec: 0, tv_nsec: 0 };
/// Zero would mean never.
const AT_ONCE: Timespec = Timespec { tv_sec: 0, tv_nsec: 1 };

#[derive(Debug, Default)]
pub(super) struct Lease {
    /// None before the first lease.
    timer: Option<OwnedFd>,
    /// It was over once.
    pub(super) expired: bool,
}

impl Lease {
    /// Readable when it is over.
    pub(super) fn timer(&self) -> Option<BorrowedFd<'_>> {
        self.timer.as_ref().map(OwnedFd::as_fd)
    }

    /// In seconds and nanoseconds since boot; none: for ever.
    pub(super) fn set(&mut self, until: Option<(u64, u32)>) -> io::Result<()> {
        let timer = if let Some(timer) = &self.timer {
            timer
        } else {
            let flags = TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK;
            // The clock that counts while the machine sleeps.
            self.timer.insert(timerfd_create(TimerfdClockId::Boottime, flags)?)
        };
        let at = until.map_or(NEVER, |(seconds, nanoseconds)| {
            let tv_sec = i64::try_from(seconds).unwrap_or(i64::MAX);
            Timespec { tv_sec, tv_nsec: nanoseconds.into() }.max(AT_ONCE)
        });
        let spec = Itimerspec { it_interval: AGAIN, it_value: at };
        timerfd_settime(timer, TimerfdTimerFlags::ABSTIME, &spec)?;
        Ok(())
    }

    /// Takes note that it is over.
    pub(super) fn expire(&mut self) {
        self.expired = true;
        if let Some(timer) = &self.timer {
            let mut times = [0; size_of::<u64>()];
            // It is readable again if the guest is not gone by then.
            let _ = rustix::io::read(timer, &mut times);
        }
    }
}
