//! How a guest ended, from how its init did.

use std::{
    io,
    os::fd::{AsFd as _, AsRawFd as _, BorrowedFd},
    time::Duration,
};

use nix::libc;

use crate::{
    protocol::Cause,
    sys::process::{self, Ended},
};

/// reboot(2) in a pid namespace kills its init by one of two signals, which nothing else can.
const REBOOTED: i32 = libc::SIGHUP;
const HALTED: i32 = libc::SIGINT;

/// What is known beside the status of init.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Circumstances {
    /// We killed it.
    pub(crate) forced: bool,
    /// We killed it because its lease was over.
    pub(crate) expired: bool,
    pub(crate) out_of_memory: bool,
    /// It was another shim's child: of a reboot or a halt only the kill is seen.
    pub(crate) rescued: bool,
}

pub(crate) fn cause(ended: Option<Ended>, circumstances: Circumstances) -> Cause {
    let Circumstances { forced, expired, out_of_memory, rescued } = circumstances;
    match ended {
        None if forced => Cause::Forced,
        None if expired => Cause::LeaseExpired,
        None => Cause::Unknown,
        Some(Ended::Status(0) | Ended::Signal(HALTED)) => Cause::Shutdown,
        Some(Ended::Signal(REBOOTED)) => Cause::Reboot,
        Some(Ended::Signal(libc::SIGKILL)) if forced => Cause::Forced,
        Some(Ended::Signal(libc::SIGKILL)) if expired => Cause::LeaseExpired,
        Some(Ended::Signal(libc::SIGKILL)) if out_of_memory => Cause::OutOfMemory,
        Some(Ended::Signal(libc::SIGKILL)) if rescued => Cause::Shutdown,
        Some(Ended::Status(status)) => Cause::Status(status),
        Some(Ended::Signal(signal)) => Cause::Signal(signal),
    }
}

/// How a process ended that is not our child: what the kernel keeps in its pidfd. It says neither
/// reboot nor halt: those stand only in the status that a parent reaps, and show as SIGKILL here.
fn of_a_stranger(pidfd: BorrowedFd<'_>) -> Option<Ended> {
    #[repr(C)]
    #[derive(Default)]
    struct PidfdInfo {
        mask: u64,
        cgroup: u64,
        ids: [u32; 11],
        exit_code: i32,
        rest: [u32; 2],
    }
    const PIDFD_INFO_EXIT: u64 = 1 << 3;
    // _IOWR(0xFF, 11, struct pidfd_info)
    let question = (3_u64 << 30) | ((size_of::<PidfdInfo>() as u64) << 16) | (0xFF_u64 << 8) | 11;
    let mut info = PidfdInfo { mask: PIDFD_INFO_EXIT, ..PidfdInfo::default() };
    // SAFETY: the kernel writes at most the size that the number tells.
    let asked = unsafe { libc::ioctl(pidfd.as_raw_fd(), question as _, &raw mut info) };
    if asked != 0 || info.mask & PIDFD_INFO_EXIT == 0 {
        return None;
    }
    let signal = info.exit_code & 0x7f;
    Some(if signal == 0 {
        Ended::Status((info.exit_code >> 8) & 0xff)
    } else {
        Ended::Signal(signal)
    })
}

/// The same, when its new parent has reaped it, which it may take a moment to do.
fn await_stranger(pidfd: BorrowedFd<'_>) -> Option<Ended> {
    const LOOKS: u32 = 400;
    for _ in 0..LOOKS {
        if let Some(ended) = of_a_stranger(pidfd) {
            return Some(ended);
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    None
}

/// Looks whether init has ended: `None` while it lives; then how, as far as that can be known.
pub(crate) fn of_init(pidfd: &std::os::fd::OwnedFd) -> Option<Option<Ended>> {
    match process::reap(pidfd.as_fd()) {
        Ok(None) => None,
        Ok(ended) => Some(ended),
        Err(error) if error.kind() == io::ErrorKind::Interrupted => None,
        Err(_) => Some(await_stranger(pidfd.as_fd())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn causes_follow_from_status_and_circumstances() {
        let forced = Circumstances { forced: true, ..Circumstances::default() };
        let hungry = Circumstances { out_of_memory: true, ..Circumstances::default() };
        let rescued = Circumstances { rescued: true, ..Circumstances::default() };
        let expired = Circumstances { expired: true, ..rescued };
        let plain = Circumstances::default();
        let cases = [
            (Some(Ended::Status(0)), plain, Cause::Shutdown),
            (Some(Ended::Signal(2)), plain, Cause::Shutdown),
            (Some(Ended::Signal(1)), plain, Cause::Reboot),
            (Some(Ended::Signal(9)), forced, Cause::Forced),
            (Some(Ended::Signal(9)), hungry, Cause::OutOfMemory),
            (Some(Ended::Signal(9)), plain, Cause::Signal(9)),
            (Some(Ended::Signal(9)), rescued, Cause::Shutdown),
            (Some(Ended::Signal(9)), expired, Cause::LeaseExpired),
            (Some(Ended::Signal(2)), forced, Cause::Shutdown),
            (Some(Ended::Status(3)), hungry, Cause::Status(3)),
            (None, plain, Cause::Unknown),
            (None, forced, Cause::Forced),
        ];
        for (ended, circumstances, expected) in cases {
            assert_eq!(cause(ended, circumstances), expected, "{ended:?}");
        }
    }
}
