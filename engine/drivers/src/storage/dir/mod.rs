//! Directories on any file system: copies take as long as the data (unless it can share blocks),
//! and there are no quotas.

use std::{
    collections::BTreeMap,
    fs::File,
    path::{Path, PathBuf},
    sync::Mutex,
    time::{Duration, Instant},
};

use super::{
    envelope::{Inlet, Outlet},
    error::{Context, DriverError},
    layout, transfer,
    trees::{Access, TreeUsage, Trees},
};

mod copy;
mod measure;
mod remove;

/// The kernel puts no upper layer of an overlay on these.
const OVERLAY_MAGIC: u64 = 0x794c_7630;
const NFS_MAGIC: u64 = 0x6969;
/// A measured size is good for so long.
const MEASURED_FOR: Duration = Duration::from_secs(60);
const MEASURED_MAX: usize = 1024;

#[derive(Debug)]
pub(super) struct DirTrees {
    overlays: bool,
    measured: Mutex<BTreeMap<PathBuf, (Instant, u64)>>,
}

impl DirTrees {
    pub(super) fn on(root: &Path) -> Result<Self, DriverError> {
        let found = rustix::fs::statfs(root);
        let found = found.context(|| format!("looking at {}", root.display()))?;
        let kind = u64::try_from(found.f_type).unwrap_or_default();
        let overlays = kind != OVERLAY_MAGIC && kind != NFS_MAGIC;
        Ok(Self { overlays, measured: Mutex::default() })
    }
}

impl Trees for DirTrees {
    fn create(&self, at: &Path) -> Result<(), DriverError> {
        layout::make_dir(at)
    }

    fn copy(&self, from: &Path, to: &Path, _access: Access) -> Result<(), DriverError> {
        copy::tree(from, to)?;
        self.flush(to)
    }

    fn copies_at_once(&self) -> bool {
        false
    }

    fn set_access(&self, _at: &Path, _access: Access) -> Result<(), DriverError> {
        // Guests reach images through a read-only layer, and snapshots not at all.
        Ok(())
    }

    fn delete(&self, at: &Path) -> Result<(), DriverError> {
        remove::tree(at).context(|| format!("deleting {}", at.display()))
    }

    fn stream_format(&self) -> &'static str {
        transfer::TREE_FORMAT
    }

    fn sends_differences(&self) -> bool {
        false
    }

    fn send(
        &self,
        from: &Path,
        _parent: Option<&Path>,
        outlet: &mut Outlet,
    ) -> Result<(), DriverError> {
        transfer::pack(from, outlet)
    }

    fn receive(
        &self,
        staged: &Path,
        _parent: Option<&Path>,
        inlet: &mut Inlet<'_>,
    ) -> Result<(), DriverError> {
        transfer::unpack_into(staged, inlet)
    }

    fn forget_origin(&self, _at: &Path) -> Result<(), DriverError> {
        Ok(())
    }

    fn overlays(&self) -> bool {
        self.overlays
    }

    fn check_limit(&self, bytes: Option<u64>) -> Result<(), DriverError> {
        match bytes {
            None => Ok(()),
            Some(_) => Err(DriverError::Refused(
                "a pool of the driver dir cannot limit the size of a volume. Nothing was changed. \
                 Leave the size out, or use a pool of the driver btrfs"
                    .into(),
            )),
        }
    }

    fn set_limit(&self, _at: &Path, bytes: Option<u64>) -> Result<(), DriverError> {
        self.check_limit(bytes)
    }

    fn usage(&self, at: &Path) -> Result<TreeUsage, DriverError> {
        let lock = || self.measured.lock().expect("no holder panics");
        let known = lock().get(at).copied();
        if let Some((_, used_bytes)) = known.filter(|(when, _)| when.elapsed() < MEASURED_FOR) {
            return Ok(TreeUsage { used_bytes, limit_bytes: None });
        }
        let used_bytes = measure::tree(at).context(|| format!("measuring {}", at.display()))?;
        let mut measured = lock();
        if measured.len() >= MEASURED_MAX {
            measured.clear();
        }
        measured.insert(at.to_owned(), (Instant::now(), used_bytes));
        Ok(TreeUsage { used_bytes, limit_bytes: None })
    }

    fn flush(&self, at: &Path) -> Result<(), DriverError> {
        let flush = || rustix::fs::syncfs(File::open(at)?).map_err(std::io::Error::from);
        flush().context(|| format!("flushing {}", at.display()))
    }

    fn commit(&self, directory: &Path) -> Result<(), DriverError> {
        let commit = || File::open(directory)?.sync_all();
        commit().context(|| format!("flushing {}", directory.display()))
    }

    fn tidy(&self) -> Result<(), DriverError> {
        Ok(())
    }
}
