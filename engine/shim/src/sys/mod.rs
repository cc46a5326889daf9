//! The kernel's calls that no library has in the form that is needed here.

use std::{
    ffi::{CStr, CString},
    io,
    os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd, RawFd},
};

use nix::libc;

pub mod capability;
pub mod mount;
pub mod netlink;
pub mod process;
pub mod seccomp;
pub mod terminal;

/// The kernel's answer, with its error.
///
/// # Errors
/// The kernel's.
pub fn answer(returned: libc::c_long) -> io::Result<libc::c_long> {
    if returned < 0 { Err(io::Error::last_os_error()) } else { Ok(returned) }
}

/// A descriptor that the kernel answered with.
///
/// # Errors
/// The kernel's.
///
/// # Safety
/// `returned` is what a call returned that makes a new descriptor.
pub unsafe fn descriptor(returned: libc::c_long) -> io::Result<OwnedFd> {
    let raw = RawFd::try_from(answer(returned)?).map_err(io::Error::other)?;
    // SAFETY: the caller says that it is new, so nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(raw) })
}

/// Text for the kernel.
///
/// # Errors
/// When there is a NUL in it.
pub fn c_string(text: impl Into<Vec<u8>>) -> io::Result<CString> {
    CString::new(text).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))
}

/// Opens a path of a guest as the guest's root directory `root` sees it, never leaving it.
/// `symlinks`: whether links may be followed (inside `root`).
///
/// # Errors
/// The kernel's.
pub fn open_inside(
    root: BorrowedFd<'_>,
    path: &CStr,
    flags: libc::c_int,
    symlinks: bool,
) -> io::Result<OwnedFd> {
    use rustix::fs::{Mode, OFlags, ResolveFlags, openat2};
    let mut resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    if !symlinks {
        resolve |= ResolveFlags::NO_SYMLINKS;
    }
    let flags = OFlags::from_bits_retain(flags.unsigned_abs()) | OFlags::CLOEXEC;
    Ok(openat2(root, path, flags, Mode::empty(), resolve)?)
}

/// Makes the ids of this thread 0:0 in its user namespace, with no further groups.
///
/// # Errors
/// The kernel's.
pub fn become_root() -> io::Result<()> {
    become_user(0, 0)
}

/// Makes the ids of this thread `user:group`, with no further groups.
///
/// # Errors
/// The kernel's.
pub fn become_user(user: u32, group: u32) -> io::Result<()> {
    // SAFETY: plain calls with numbers. They are made directly because the C library would
    // change every thread, and there is one.
    unsafe {
        answer(libc::syscall(libc::SYS_setgroups, 0, std::ptr::null::<libc::gid_t>()))?;
        answer(libc::syscall(libc::SYS_setresgid, group, group, group))?;
        answer(libc::syscall(libc::SYS_setresuid, user, user, user))?;
    }
    Ok(())
}

const SECBIT_NO_SETUID_FIXUP: libc::c_ulong = 1 << 2;

/// Acts with the host's id `id` as effective user and group, capabilities kept.
///
/// The creator of a user namespace is charged for what it uses, and the file system checks who
/// mounts: both must be the guest's own root, or all guests share one account.
///
/// # Errors
/// The kernel's, or those of `act`.
pub fn acting_as<T>(id: u32, act: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    set_secure_bits(SECBIT_NO_SETUID_FIXUP)?;
    set_effective(id)?;
    let answer = act();
    set_effective(0)?;
    set_secure_bits(0)?;
    answer
}

/// Undoes what [`acting_as`] did to a child that was made within.
///
/// # Errors
/// The kernel's.
pub fn reset_secure_bits() -> io::Result<()> {
    set_secure_bits(0)
}

fn set_secure_bits(bits: libc::c_ulong) -> io::Result<()> {
    // SAFETY: a plain call with numbers.
    unsafe { answer(libc::c_long::from(libc::prctl(libc::PR_SET_SECUREBITS, bits))) }?;
    Ok(())
}

fn set_effective(id: u32) -> io::Result<()> {
    const KEEP: libc::c_long = -1;
    // Back to 0 the user comes first, for only it may then set the group.
    let (first, second) = if id == 0 {
        (libc::SYS_setresuid, libc::SYS_setresgid)
    } else {
        (libc::SYS_setresgid, libc::SYS_setresuid)
    };
    for call in [first, second] {
        // SAFETY: plain calls with numbers.
        unsafe { answer(libc::syscall(call, KEEP, libc::c_long::from(id), KEEP)) }?;
    }
    Ok(())
}

/// Unix time in microseconds.
#[must_use]
pub fn now_us() -> i64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Realtime);
    now.tv_sec * 1_000_000 + now.tv_nsec / 1000
}

/// The id of this boot of the host.
///
/// # Errors
/// The kernel's.
pub fn boot_id() -> io::Result<String> {
    Ok(std::fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim().to_owned())
}

/// Closes everything from `first` on at the next execve.
pub fn close_on_exec_from(first: RawFd) {
    // SAFETY: a plain call with numbers; descriptors stay open.
    unsafe {
        libc::syscall(libc::SYS_close_range, first, libc::c_uint::MAX, libc::CLOSE_RANGE_CLOEXEC)
    };
}

/// Lets a descriptor stay open across the next execve.
///
/// # Errors
/// The kernel's.
pub fn keep_on_exec(descriptor: BorrowedFd<'_>) -> io::Result<()> {
    Ok(rustix::io::fcntl_setfd(descriptor, rustix::io::FdFlags::empty())?)
}

/// Makes `from` be descriptor `number` too, open across execve.
///
/// # Errors
/// The kernel's.
pub fn duplicate_to(from: BorrowedFd<'_>, number: RawFd) -> io::Result<()> {
    // SAFETY: a plain call with numbers; what `number` was is closed on purpose.
    unsafe { answer(libc::c_long::from(libc::dup2(from.as_raw_fd(), number))) }?;
    if from.as_raw_fd() == number {
        // dup2 onto itself leaves close-on-exec as it was.
        // SAFETY: as above.
        unsafe { answer(libc::c_long::from(libc::fcntl(number, libc::F_SETFD, 0))) }?;
    }
    Ok(())
}
