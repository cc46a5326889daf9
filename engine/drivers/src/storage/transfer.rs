//! Snapshots and images on their way to and from other nodes.
//!
//! What arrives grows in `tmp` and is named last. On btrfs it is a subvolume that stays writable in
//! `incoming` beside the read-only snapshot that was taken of it: the next round goes on in it, and
//! the last one becomes the root by its name, so that the quota counts all that it wrote. Should it
//! be missing (the daemon was killed in between), a copy of the snapshot does as well.

use std::{
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
};

use stapes_core::{
    ids::{Fingerprint, SnapshotId, VolumeId},
    port::storage::{UPPER, WORK},
};

use super::{
    envelope::{Inlet, Label, Outlet, foreign, given_up, sending},
    error::{Context, DriverError},
    layout::{self, ROOTFS, VolumeKind},
    pool::{Pool, rename},
    trash::Sweeper,
    trees::Access,
};
use crate::image::{Refusal, baggage, unpack};

/// How trees travel that are no subvolumes: images, and volumes of dir pools.
pub(super) const TREE_FORMAT: &str = "tree-1";

impl Pool {
    pub(super) fn send(
        &self,
        volume: VolumeId,
        snapshot: SnapshotId,
        parent: Option<SnapshotId>,
        into: OwnedFd,
    ) -> Result<u64, DriverError> {
        let at = self.existing_snapshot(volume, snapshot)?;
        let below = parent.map(|parent| self.existing_snapshot(volume, parent)).transpose()?;
        let format = self.trees.stream_format();
        let parent = parent.filter(|_| self.trees.sends_differences());
        let label = Label { format: format.into(), subject: snapshot.to_string(), parent };
        let mut outlet = Outlet::open(into, &label)?;
        let below = below.as_deref().filter(|_| parent.is_some());
        self.trees.send(&at, below, &mut outlet)?;
        outlet.close()
    }

    fn existing_snapshot(
        &self,
        volume: VolumeId,
        snapshot: SnapshotId,
    ) -> Result<PathBuf, DriverError> {
        let at = self.layout.snapshot(volume, snapshot);
        if layout::exists(&at)? { Ok(at) } else { Err(self.no_snapshot(volume, snapshot)) }
    }

    pub(super) fn receive(
        &self,
        volume: VolumeId,
        snapshot: SnapshotId,
        parent: Option<SnapshotId>,
        from: OwnedFd,
        abandoned: &AtomicBool,
    ) -> Result<u64, DriverError> {
        if layout::exists(&self.layout.snapshot(volume, snapshot))? {
            return Ok(0);
        }
        let mut inlet = Inlet::new(from, abandoned, Some(&self.room));
        let needed = inlet.open(self.trees.stream_format(), &snapshot.to_string())?;
        if needed.is_some() && needed != parent {
            return Err(foreign("it builds on another snapshot"));
        }
        // Others may receive the same at the same time; the first to be whole is kept.
        let staged = self.layout.tmp().join(uuid::Uuid::new_v4().to_string());
        let done = self.receive_in(&staged, volume, snapshot, needed, inlet);
        if done.is_err() {
            // Best effort: what stays here is thrown away when the pool is opened again.
            let _stays = self.throw_away(&staged);
            Sweeper::sweep_in_background(&self.sweeper);
        }
        done
    }

    fn receive_in(
        &self,
        staged: &Path,
        volume: VolumeId,
        snapshot: SnapshotId,
        parent: Option<SnapshotId>,
        mut inlet: Inlet<'_>,
    ) -> Result<u64, DriverError> {
        let below = parent.map(|parent| self.existing_snapshot(volume, parent)).transpose()?;
        self.begin_arrival(staged, volume, parent)?;
        self.steps.at("arrival begun")?;
        self.trees.receive(staged, below.as_deref(), &mut inlet)?;
        self.steps.at("arrival written")?;
        let abandoned = inlet.abandoned();
        let bytes = inlet.close()?;
        let kind = self.check_arrival(staged)?;
        let _used = match &kind {
            VolumeKind::Overlay { image } => Some(self.use_image(image, volume, false)?),
            VolumeKind::Plain => None,
        };
        if abandoned.load(Ordering::Relaxed) {
            return Err(given_up());
        }
        self.place_arrival(staged, volume, snapshot)?;
        Ok(bytes)
    }

    /// Makes the tree that the stream is written into.
    fn begin_arrival(
        &self,
        staged: &Path,
        volume: VolumeId,
        parent: Option<SnapshotId>,
    ) -> Result<(), DriverError> {
        let Some(parent) = parent else { return self.trees.create(staged) };
        let before = self.layout.arrival(volume, parent);
        if layout::exists(&before)? {
            return rename(&before, staged);
        }
        self.trees.copy(&self.layout.snapshot(volume, parent), staged, Access::Writable)
    }

    /// A guest's root must be what it says: nothing in it may lead elsewhere.
    fn check_arrival(&self, staged: &Path) -> Result<VolumeKind, DriverError> {
        let is = |name: &str, right: fn(&std::fs::Metadata) -> bool| {
            std::fs::symlink_metadata(staged.join(name)).is_ok_and(|found| right(&found))
        };
        let kind = if is(layout::VOLUME_FILE, std::fs::Metadata::is_file) {
            layout::read_kind(staged)?
        } else {
            None
        };
        let whole = match &kind {
            Some(VolumeKind::Overlay { image: _ }) => {
                is(UPPER, std::fs::Metadata::is_dir) && is(WORK, std::fs::Metadata::is_dir)
            }
            Some(VolumeKind::Plain) => is(ROOTFS, std::fs::Metadata::is_dir),
            None => false,
        };
        kind.filter(|_| whole).ok_or_else(|| foreign("it holds no instance's root"))
    }

    fn place_arrival(
        &self,
        staged: &Path,
        volume: VolumeId,
        snapshot: SnapshotId,
    ) -> Result<(), DriverError> {
        let at = self.layout.snapshot(volume, snapshot);
        layout::make_dir(&self.layout.snapshots(volume))?;
        if layout::exists(&at)? {
            self.throw_away(staged)?;
            Sweeper::sweep_in_background(&self.sweeper);
            return Ok(());
        }
        if !self.trees.copies_at_once() {
            self.trees.flush(staged)?;
            rename(staged, &at)?;
            self.steps.at("arrival placed")?;
            self.trees.commit(&self.layout.snapshots(volume))?;
            return self.steps.at("arrival committed");
        }
        self.trees.copy(staged, &at, Access::ReadOnly)?;
        self.steps.at("arrival placed")?;
        self.trees.forget_origin(staged)?;
        layout::make_dir(&self.layout.arrivals(volume))?;
        let beside = self.layout.arrival(volume, snapshot);
        self.throw_away(&beside)?;
        rename(staged, &beside)?;
        self.steps.at("arrival kept writable")
    }

    /// The tree that arrived and is still writable becomes `at`, if there is one.
    pub(super) fn adopt_arrival(
        &self,
        volume: VolumeId,
        snapshot: SnapshotId,
        at: &Path,
        quota_bytes: Option<u64>,
    ) -> Result<bool, DriverError> {
        let arrived = self.layout.arrival(volume, snapshot);
        if !layout::exists(&arrived)? {
            return Ok(false);
        }
        self.trees.set_limit(&arrived, quota_bytes)?;
        self.steps.at("arrival limited")?;
        rename(&arrived, at)?;
        self.steps.at("arrival made a root")?;
        Ok(true)
    }

    pub(super) fn send_image(
        &self,
        image: &Fingerprint,
        into: OwnedFd,
    ) -> Result<u64, DriverError> {
        let _in_use = self.image_use.begin(image);
        self.check_present(image)?;
        let label = Label { format: TREE_FORMAT.into(), subject: image.to_string(), parent: None };
        let mut outlet = Outlet::open(into, &label)?;
        pack(&self.layout.image(image), &mut outlet)?;
        outlet.close()
    }

    /// Fills the empty tree at `staged`.
    pub(super) fn receive_image(
        &self,
        image: &Fingerprint,
        staged: &Path,
        from: OwnedFd,
        abandoned: &AtomicBool,
    ) -> Result<u64, DriverError> {
        let mut inlet = Inlet::new(from, abandoned, Some(&self.room));
        inlet.open(TREE_FORMAT, image.as_str())?;
        unpack_into(staged, &mut inlet)?;
        inlet.close()
    }
}

pub(crate) fn pack(tree: &Path, outlet: &mut Outlet) -> Result<(), DriverError> {
    let mut buffered = std::io::BufWriter::with_capacity(256 << 10, outlet);
    let packed = baggage::pack(tree, &mut buffered);
    packed.and_then(|()| std::io::Write::flush(&mut buffered)).map_err(|error| sending(&error))
}

pub(crate) fn unpack_into(tree: &Path, inlet: &mut Inlet<'_>) -> Result<(), DriverError> {
    use rustix::fs::{Mode, OFlags};
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let top = rustix::fs::open(tree, flags, Mode::empty());
    let top = top.context(|| format!("opening {}", tree.display()))?;
    unpack::baggage::unpack(inlet, top).map_err(|refusal| match (inlet.take_failure(), refusal) {
        (Some(failure), _) => failure,
        (None, Refusal::Truncated) => inlet.reading(&std::io::ErrorKind::UnexpectedEof.into()),
        (None, refusal) => refusal.into_error("nothing was kept of it"),
    })
}
