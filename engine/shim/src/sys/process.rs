//! Making processes, entering namespaces, and naming processes without mistake.

use std::{
    io,
    os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd},
};

use nix::libc;

use super::{answer, descriptor};

/// All the namespaces of a guest but the user's.
pub const NAMESPACES: i32 = libc::CLONE_NEWNS
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWNET
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUTS;

const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;
const CLONE_CLEAR_SIGHAND: u64 = 0x1_0000_0000;

/// Asks a pidfd for a namespace of its process.
const PIDFD_GET_NET_NAMESPACE: libc::c_ulong = 0xFF04;
const PIDFD_GET_USER_NAMESPACE: libc::c_ulong = 0xFF09;

#[repr(C)]
#[derive(Default)]
struct CloneArgs {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
    set_tid: u64,
    set_tid_size: u64,
    cgroup: u64,
}

/// Which side of a fork this is.
#[derive(Debug)]
pub enum Forked {
    Child,
    Parent { pid: i32, pidfd: OwnedFd },
}

/// Forks, the child born in new `namespaces` and in the cgroup.
///
/// # Errors
/// The kernel's.
pub fn fork(namespaces: i32, cgroup: BorrowedFd<'_>) -> io::Result<Forked> {
    clone(namespaces, CLONE_INTO_CGROUP, u64::from(cgroup.as_raw_fd().unsigned_abs()))
}

fn clone(namespaces: i32, flags: u64, cgroup: u64) -> io::Result<Forked> {
    let mut pidfd: libc::c_int = -1;
    let mut arguments = CloneArgs {
        flags: u64::from(namespaces.unsigned_abs())
            | u64::from(libc::CLONE_PIDFD.unsigned_abs())
            | CLONE_CLEAR_SIGHAND
            | flags,
        pidfd: (&raw mut pidfd) as u64,
        exit_signal: u64::from(libc::SIGCHLD.unsigned_abs()),
        cgroup,
        ..CloneArgs::default()
    };
    // SAFETY: without CLONE_VM this is fork(2): the child has a copy of all memory. The process
    // has one thread, so that no lock is held by anybody who is missing in the child.
    let pid = answer(unsafe {
        libc::syscall(libc::SYS_clone3, &raw mut arguments, size_of::<CloneArgs>())
    })?;
    if pid == 0 {
        return Ok(Forked::Child);
    }
    let pid = i32::try_from(pid).map_err(io::Error::other)?;
    // SAFETY: the kernel made this descriptor for us.
    Ok(Forked::Parent { pid, pidfd: unsafe { OwnedFd::from_raw_fd(pidfd) } })
}

/// Forks, the child born in new `namespaces` and where this process is in every cgroup.
///
/// # Errors
/// The kernel's.
pub fn fork_here(namespaces: i32) -> io::Result<Forked> {
    clone(namespaces, 0, 0)
}

/// Enters the namespaces of the pidfd's process, or the one that the descriptor is of.
///
/// # Errors
/// The kernel's.
pub fn enter(pidfd: BorrowedFd<'_>, namespaces: i32) -> io::Result<()> {
    // SAFETY: a plain call with numbers; one thread.
    unsafe { answer(libc::c_long::from(libc::setns(pidfd.as_raw_fd(), namespaces))) }?;
    Ok(())
}

/// Leaves the cgroup namespace for a new one with its root here.
///
/// # Errors
/// The kernel's.
pub fn new_cgroup_namespace() -> io::Result<()> {
    // SAFETY: a plain call with a number; one thread.
    unsafe { answer(libc::c_long::from(libc::unshare(libc::CLONE_NEWCGROUP))) }?;
    Ok(())
}

/// The user namespace of the pidfd's process.
///
/// # Errors
/// The kernel's.
pub fn user_namespace(pidfd: BorrowedFd<'_>, pid: i32) -> io::Result<OwnedFd> {
    namespace(pidfd, pid, PIDFD_GET_USER_NAMESPACE, "user")
}

/// The network namespace of the pidfd's process.
///
/// # Errors
/// The kernel's.
pub fn net_namespace(pidfd: BorrowedFd<'_>, pid: i32) -> io::Result<OwnedFd> {
    namespace(pidfd, pid, PIDFD_GET_NET_NAMESPACE, "net")
}

fn namespace(
    pidfd: BorrowedFd<'_>,
    pid: i32,
    question: libc::c_ulong,
    name: &str,
) -> io::Result<OwnedFd> {
    // SAFETY: this ioctl takes no argument and makes a new descriptor.
    let answer =
        unsafe { descriptor(libc::c_long::from(libc::ioctl(pidfd.as_raw_fd(), question as _, 0))) };
    // Kernels before 6.11 do not know the question. The process is our child and not reaped, so
    // its pid is its own.
    answer.or_else(|_| Ok(std::fs::File::open(format!("/proc/{pid}/ns/{name}"))?.into()))
}

/// Whether it counts time since its boot otherwise than this process.
///
/// # Errors
/// The kernel's.
pub fn has_own_clocks(pid: i32) -> io::Result<bool> {
    let ours = std::fs::read_link("/proc/self/ns/time");
    match ours {
        // A kernel without such namespaces.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        ours => Ok(ours? != std::fs::read_link(format!("/proc/{pid}/ns/time"))?),
    }
}

/// When the process began, in clock ticks after boot.
///
/// # Errors
/// The kernel's, or `InvalidData`.
pub fn start_ticks(pid: i32) -> io::Result<u64> {
    Ok(stat(pid)?.1)
}

/// Whether the process that began then still runs; one that waits to be reaped does not.
#[must_use]
pub fn is_running(pid: i32, since_ticks: u64) -> bool {
    stat(pid).is_ok_and(|(state, ticks)| ticks == since_ticks && !matches!(state, 'Z' | 'X'))
}

/// Its state and when it began.
fn stat(pid: i32) -> io::Result<(char, u64)> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The name may hold anything, even a closing bracket; what follows the last one is plain.
    let mut fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields).split_whitespace();
    let state = fields.next().and_then(|field| field.chars().next());
    let ticks = fields.nth(18).and_then(|field| field.parse().ok());
    state.zip(ticks).ok_or_else(|| io::Error::from(io::ErrorKind::InvalidData))
}

/// How a child ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    Status(i32),
    Signal(i32),
}

/// Reaps the pidfd's child; `None` while it lives.
///
/// # Errors
/// The kernel's; ECHILD when it is not our child.
pub fn reap(pidfd: BorrowedFd<'_>) -> io::Result<Option<Ended>> {
    use rustix::process::{WaitId, WaitIdOptions, waitid};
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG;
    let Some(status) = waitid(WaitId::PidFd(pidfd), options)? else { return Ok(None) };
    let signal = status.terminating_signal().map(Ended::Signal);
    Ok(signal.or_else(|| status.exit_status().map(Ended::Status)))
}

/// Sends a signal to the pidfd's process; fine when it has ended.
///
/// # Errors
/// The kernel's.
pub fn signal(pidfd: BorrowedFd<'_>, number: i32) -> io::Result<()> {
    // SAFETY: a plain call with numbers.
    let sent = answer(unsafe {
        libc::syscall(
            libc::SYS_pidfd_send_signal,
            pidfd.as_raw_fd(),
            number,
            std::ptr::null::<libc::siginfo_t>(),
            0,
        )
    });
    match sent {
        Err(error) if error.raw_os_error() == Some(libc::ESRCH) => Ok(()),
        Err(error) => Err(error),
        Ok(_) => Ok(()),
    }
}

/// Ends this process at once, running nothing of the parent's.
pub fn leave(status: i32) -> ! {
    // SAFETY: it does not return.
    unsafe { libc::_exit(status) }
}
