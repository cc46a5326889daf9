//! What the log does to its disk, small enough to be replaced by a disk that fails.

use std::{
    fmt,
    fs::File,
    io,
    os::unix::fs::FileExt,
    sync::atomic::{AtomicBool, Ordering},
};

use rustix::fs::FallocateFlags;

/// Zeros are written and synced in pieces of this size, so that an append never waits behind a
/// whole segment of them.
const PIECE_BYTES: usize = 1 << 20;

pub(crate) trait Disk: Send + Sync + fmt::Debug {
    fn write(&self, file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
        file.write_all_at(bytes, offset)
    }

    /// What was written to `file` is on the disk.
    fn sync(&self, file: &File) -> io::Result<()> {
        file.sync_data()
    }

    /// Makes an empty `file` `length` bytes of zeros, on the disk. Ends early with
    /// [`io::ErrorKind::Interrupted`] once `stop` is set.
    fn reserve(&self, file: &File, length: u64, stop: &AtomicBool) -> io::Result<()> {
        // Room for all of it first: a full disk is noticed before anything is written.
        rustix::fs::fallocate(file, FallocateFlags::empty(), 0, length).or_else(|error| {
            // Some filesystems cannot reserve; writing the zeros does it as well.
            if error == rustix::io::Errno::OPNOTSUPP { Ok(()) } else { Err(error) }
        })?;
        let zeros = vec![0; PIECE_BYTES];
        let mut at = 0;
        while at < length {
            if stop.load(Ordering::Relaxed) {
                return Err(io::ErrorKind::Interrupted.into());
            }
            let piece = usize::try_from(length - at).map_or(PIECE_BYTES, |l| l.min(PIECE_BYTES));
            file.write_all_at(&zeros[..piece], at)?;
            file.sync_data()?;
            at += piece as u64;
        }
        file.sync_all()
    }
}

#[derive(Debug)]
pub(crate) struct RealDisk;

impl Disk for RealDisk {}

/// Whether there was no room; a limit on the size of files counts as such.
pub(crate) fn is_full(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge
    )
}
