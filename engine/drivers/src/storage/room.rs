//! Refuses new things before a disk is full: a full btrfs stops every guest on it, and a full disk
//! below a loop file looks to them like a broken one.

use std::path::{Path, PathBuf};

use stapes_core::port::storage::Usage;

use super::error::{Context, DriverError};

const KEPT_MIN_BYTES: u64 = 64 << 20;
/// More than this is not kept even on a large disk, where it would be a waste.
const KEPT_MAX_BYTES: u64 = 1 << 30;
const KEPT_SHARE: u64 = 20;

#[derive(Clone, Debug)]
pub(crate) struct Room {
    pub(super) pool: String,
    pub(super) root: PathBuf,
    /// Where the loop file is, if there is one.
    pub(super) below: Option<PathBuf>,
}

impl Room {
    /// # Errors
    /// [`DriverError::Full`] when nothing more should be made.
    pub(crate) fn check(&self) -> Result<(), DriverError> {
        let pool = usage(&self.root)?;
        if let Some(numbers) = shortage(pool) {
            return Err(DriverError::Full(format!(
                "pool {} is full: {numbers}. Nothing was made. Delete instances, snapshots or \
                 images, or make the pool larger",
                self.pool
            )));
        }
        let Some(below) = &self.below else { return Ok(()) };
        if let Some(numbers) = shortage(usage(below)?) {
            return Err(DriverError::Full(format!(
                "the disk below pool {} is full ({}): {numbers}. Nothing was made. Free space on \
                 that disk; the guests of the pool fail when it runs out",
                self.pool,
                below.display()
            )));
        }
        Ok(())
    }
}

pub(super) fn usage(path: &Path) -> Result<Usage, DriverError> {
    let disk = rustix::fs::statvfs(path).context(|| format!("looking at {}", path.display()))?;
    let total_bytes = disk.f_blocks * disk.f_frsize;
    let free_bytes = disk.f_bavail * disk.f_frsize;
    Ok(Usage { used_bytes: total_bytes.saturating_sub(free_bytes), total_bytes })
}

fn shortage(usage: Usage) -> Option<String> {
    let free = usage.total_bytes - usage.used_bytes.min(usage.total_bytes);
    let kept = (usage.total_bytes / KEPT_SHARE).clamp(KEPT_MIN_BYTES, KEPT_MAX_BYTES);
    let mib = |bytes: u64| bytes >> 20;
    (free < kept).then(|| {
        let total = mib(usage.total_bytes);
        format!("{} MiB of {total} MiB are free, and {} MiB are kept", mib(free), mib(kept))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_of_the_disk_is_kept_within_bounds() {
        let short = |total: u64, free: u64| {
            let usage = Usage { used_bytes: (total - free) << 20, total_bytes: total << 20 };
            shortage(usage).is_some()
        };
        for (total_mib, kept_mib) in [(512, 64), (10_000, 500), (1 << 20, 1024)] {
            assert!(!short(total_mib, kept_mib), "{total_mib}");
            assert!(short(total_mib, kept_mib - 1), "{total_mib}");
        }
    }
}
