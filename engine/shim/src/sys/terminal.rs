//! Pseudo-terminals of a guest's own devpts.

use std::{
    io,
    os::fd::{AsRawFd as _, BorrowedFd, OwnedFd},
};

use nix::libc;

use super::{answer, descriptor, open_inside};

/// Group `tty`, as devpts is mounted.
const TTY_GROUP: u32 = 5;

/// A terminal: the side of who looks at it, and the side of who runs in it.
#[derive(Debug)]
pub struct Terminal {
    pub master: OwnedFd,
    pub slave: OwnedFd,
}

/// Opens a new terminal of the devpts whose root is `devpts`.
///
/// # Errors
/// The kernel's.
pub fn open(devpts: BorrowedFd<'_>) -> io::Result<Terminal> {
    let master = open_inside(devpts, c"ptmx", libc::O_RDWR | libc::O_NOCTTY, false)?;
    let unlocked: libc::c_int = 0;
    let flags = libc::O_RDWR | libc::O_NOCTTY | libc::O_CLOEXEC;
    // SAFETY: TIOCSPTLCK reads an int, TIOCGPTPEER takes flags and makes a descriptor.
    let slave = unsafe {
        answer(libc::c_long::from(libc::ioctl(
            master.as_raw_fd(),
            libc::TIOCSPTLCK,
            &raw const unlocked,
        )))?;
        descriptor(libc::c_long::from(libc::ioctl(master.as_raw_fd(), libc::TIOCGPTPEER, flags)))?
    };
    Ok(Terminal { master, slave })
}

/// As CRIU names a terminal one side of which is not the guest's: by its number and its devpts.
///
/// # Errors
/// The kernel's.
pub fn name(terminal: &Terminal) -> io::Result<String> {
    let state = rustix::fs::fstat(&terminal.slave)?;
    Ok(format!("tty[{:x}:{:x}]", state.st_rdev, state.st_dev))
}

/// Gives the slave to `owner` (as this process counts ids) and the group tty.
///
/// # Errors
/// The kernel's.
pub fn give_to(slave: BorrowedFd<'_>, owner: u32, group_base: u32) -> io::Result<()> {
    let group = group_base + TTY_GROUP;
    // SAFETY: a plain call with numbers.
    unsafe { answer(libc::c_long::from(libc::fchown(slave.as_raw_fd(), owner, group))) }?;
    Ok(())
}

/// # Errors
/// The kernel's.
pub fn resize(terminal: BorrowedFd<'_>, columns: u16, rows: u16) -> io::Result<()> {
    let size = libc::winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: TIOCSWINSZ reads a winsize.
    unsafe {
        answer(libc::c_long::from(libc::ioctl(
            terminal.as_raw_fd(),
            libc::TIOCSWINSZ,
            &raw const size,
        )))
    }?;
    Ok(())
}

/// Begins a session whose terminal is `slave`, and makes it standard input, output and error.
///
/// # Errors
/// The kernel's.
pub fn take(slave: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: plain calls with numbers.
    unsafe {
        // Fails only for who leads a session already.
        libc::setsid();
        answer(libc::c_long::from(libc::ioctl(slave.as_raw_fd(), libc::TIOCSCTTY, 0)))?;
    }
    for number in 0..3 {
        super::duplicate_to(slave, number)?;
    }
    Ok(())
}
