//! The files beside the control socket: what a shim is told and what it leaves behind.
//!
//! | file    | written by | says |
//! |---------|------------|------|
//! | `spec`  | driver     | what to run ([`crate::spec::Spec`]) |
//! | `state` | shim       | what runs ([`crate::protocol::Hello`]) |
//! | `exit`  | shim       | how it ended ([`crate::protocol::Exit`]) |
//! | `ctl`   | shim       | the control socket |
//! | `log`   | shim       | its standard error |
//! | `hold`  | shim       | who holds a guest that is being moved ([`crate::live`]) |
//!
//! The directory itself is locked (`flock`) from before the shim is started until it ends.

use std::{
    fs::File,
    io::{self, Read as _, Write as _},
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::PathBuf,
};

use rustix::fs::{AtFlags, Mode, OFlags, openat, renameat, unlinkat};
use serde::{Serialize, de::DeserializeOwned};

pub const SPEC: &str = "spec";
pub const STATE: &str = "state";
pub const EXIT: &str = "exit";
pub const CONTROL: &str = "ctl";
pub const LOG: &str = "log";

/// Nothing here is longer.
const RECORD_BYTES_MAX: u64 = 1 << 20;

/// Writes a record whole or not at all. `durable` waits until the disk has it.
///
/// # Errors
/// The kernel's; what was there before still is.
pub fn write<R: Serialize>(
    directory: impl AsFd,
    name: &str,
    record: &R,
    durable: bool,
) -> io::Result<()> {
    let directory = directory.as_fd();
    let bytes = rmp_serde::to_vec_named(record).map_err(io::Error::other)?;
    let new = format!("{name}.new");
    let flags =
        OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let mut file = File::from(openat(directory, new.as_str(), flags, Mode::RUSR | Mode::WUSR)?);
    file.write_all(&bytes)?;
    if durable {
        file.sync_data()?;
    }
    renameat(directory, new.as_str(), directory, name)?;
    if durable {
        sync(directory)?;
    }
    Ok(())
}

/// Waits until the disk has what is in the directory's list.
///
/// # Errors
/// The kernel's.
pub fn sync(directory: BorrowedFd<'_>) -> io::Result<()> {
    Ok(rustix::fs::fsync(directory)?)
}

/// Reads a record; `None` when there is none, or one that never got to the disk.
///
/// # Errors
/// The kernel's, or `InvalidData` when it cannot be read.
pub fn read<R: DeserializeOwned>(directory: impl AsFd, name: &str) -> io::Result<Option<R>> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let file = match openat(directory, name, flags, Mode::empty()) {
        Ok(file) => File::from(file),
        Err(rustix::io::Errno::NOENT) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let mut bytes = Vec::new();
    file.take(RECORD_BYTES_MAX).read_to_end(&mut bytes)?;
    // The host lost its power before the disk had what was written.
    if bytes.is_empty() {
        return Ok(None);
    }
    let record = rmp_serde::from_slice(&bytes)
        .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
    Ok(Some(record))
}

/// Removes a record; fine when there is none.
///
/// # Errors
/// The kernel's.
pub fn remove(directory: impl AsFd, name: &str) -> io::Result<()> {
    match unlinkat(directory, name, AtFlags::empty()) {
        Ok(()) | Err(rustix::io::Errno::NOENT) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// The directory's own path.
///
/// # Errors
/// The kernel's.
pub fn path(directory: &OwnedFd) -> io::Result<PathBuf> {
    use std::os::fd::AsRawFd as _;
    std::fs::read_link(format!("/proc/self/fd/{}", directory.as_raw_fd()))
}

/// The path of `name` in `directory` that is short enough for a socket's address, whatever the
/// directory's own path.
#[must_use]
pub fn short_path(directory: &OwnedFd, name: &str) -> PathBuf {
    use std::os::fd::AsRawFd as _;
    PathBuf::from(format!("/proc/self/fd/{}/{name}", directory.as_raw_fd()))
}
