//! Which signal asks an init to shut down.
//!
//! There is no common one, so init is looked at: what it blocks (to read it from a signalfd or
//! with sigwait) or catches is what it understands. The kernel does not show as blocked what a
//! process waits for in this very moment, as busybox does all the time: that is read from the
//! process's memory. An init that is not that far yet understands nothing; it is looked at again.

use std::{fs::File, io, os::unix::fs::FileExt as _};

use nix::libc;

/// `SIGRTMIN+3` as the kernel counts: systemd halts. No other init listens to it.
const SYSTEMD_HALT: i32 = 37;
const SIGUSR1: i32 = 10;
const SIGUSR2: i32 = 12;
const SIGTERM: i32 = 15;
const SIGPWR: i32 = 30;

/// The signal for the process, or none when it understands none (yet).
pub(crate) fn signal_for(pid: i32) -> io::Result<Option<i32>> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    Ok(choose(heard(&status) | waited_for(pid).unwrap_or(0)))
}

/// The signals that the process waits for now, as a mask.
fn waited_for(pid: i32) -> Option<u64> {
    let call = std::fs::read_to_string(format!("/proc/{pid}/syscall")).ok()?;
    let address = sigtimedwait_argument(&call)?;
    let mut mask = [0; size_of::<u64>()];
    File::open(format!("/proc/{pid}/mem")).ok()?.read_exact_at(&mut mask, address).ok()?;
    Some(u64::from_ne_bytes(mask))
}

/// Where the set of signals is, if this (of `/proc/<pid>/syscall`) is a call of sigtimedwait.
fn sigtimedwait_argument(call: &str) -> Option<u64> {
    let mut words = call.split(' ');
    let number: libc::c_long = words.next()?.parse().ok()?;
    let first = words.next()?.strip_prefix("0x")?;
    (number == libc::SYS_rt_sigtimedwait).then(|| u64::from_str_radix(first, 16).ok())?
}

/// The signals that a process blocks or catches, as a mask.
fn heard(status: &str) -> u64 {
    let mask = |key: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(key))?;
        u64::from_str_radix(line.trim(), 16).ok()
    };
    mask("SigBlk:").unwrap_or(0) | mask("SigCgt:").unwrap_or(0)
}

fn choose(heard: u64) -> Option<i32> {
    let hears = |signal: i32| heard & (1 << (signal - 1)) != 0;
    if hears(SYSTEMD_HALT) {
        Some(SYSTEMD_HALT)
    } else if hears(SIGUSR1) && hears(SIGUSR2) && hears(SIGTERM) {
        // busybox (Alpine's init, too) and s6: power off. To busybox SIGTERM means reboot.
        Some(SIGUSR2)
    } else if hears(SIGPWR) {
        // sysvinit: the power is failing.
        Some(SIGPWR)
    } else if hears(SIGTERM) {
        // openrc-init, and programs that are no init at all.
        Some(SIGTERM)
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mask(signals: &[i32]) -> u64 {
        signals.iter().map(|signal| 1 << (signal - 1)).sum()
    }

    #[test]
    fn each_init_gets_the_signal_that_it_understands() {
        let cases = [
            (mask(&[SYSTEMD_HALT, SIGTERM, SIGPWR, SIGUSR1, SIGUSR2]), Some(SYSTEMD_HALT)),
            (mask(&[SIGUSR1, SIGUSR2, SIGTERM, SIGPWR]), Some(SIGUSR2)),
            (mask(&[SIGPWR, SIGUSR1]), Some(SIGPWR)),
            (mask(&[SIGTERM]), Some(SIGTERM)),
            (mask(&[17]), None),
            (0, None),
        ];
        for (heard, signal) in cases {
            assert_eq!(choose(heard), signal, "{heard:x}");
        }
    }

    #[test]
    fn a_wait_for_signals_is_recognised() {
        let number = libc::SYS_rt_sigtimedwait;
        let call = format!("{number} 0x5eb308 0x0 0x0 0x8 0x0 0x0 0x7ffc 0x4167");
        assert_eq!(sigtimedwait_argument(&call), Some(0x5e_b308));
        assert_eq!(sigtimedwait_argument("running"), None);
        assert_eq!(sigtimedwait_argument(&format!("{} 0x1", number + 1)), None);
    }

    #[test]
    fn blocked_and_caught_signals_are_read() {
        let status = "Name:\tinit\nSigBlk:\t0000000000000001\nSigCgt:\t0000000000004000\n";
        assert_eq!(heard(status), mask(&[1, SIGTERM]));
    }
}
