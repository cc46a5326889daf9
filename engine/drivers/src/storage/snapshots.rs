//! Snapshots: read-only copies of a volume's tree, kept beside the volumes.
//!
//! A subvolume that a guest made inside a plain volume is not part of its snapshots: btrfs leaves
//! an empty directory in its place. Overlays have none.

use stapes_core::{
    ids::{SnapshotId, VolumeId},
    spec::Incarnation,
};

use super::{
    error::DriverError,
    layout,
    pool::{Pool, exchange, rename},
    replaced,
    trash::Sweeper,
    trees::Access,
};

impl Pool {
    pub(super) fn no_snapshot(&self, volume: VolumeId, snapshot: SnapshotId) -> DriverError {
        let pool = &self.room.pool;
        DriverError::NotFound(format!("snapshot {snapshot} of volume {volume} in pool {pool}"))
    }

    pub(super) fn snapshot_ids(&self, volume: VolumeId) -> Result<Vec<SnapshotId>, DriverError> {
        let names = layout::names(&self.layout.snapshots(volume))?;
        Ok(names.iter().filter_map(|name| name.parse().ok()).collect())
    }

    pub(super) fn create_snapshot(
        &self,
        volume: VolumeId,
        snapshot: SnapshotId,
    ) -> Result<(), DriverError> {
        self.kind(volume)?;
        let at = self.layout.snapshot(volume, snapshot);
        if layout::exists(&at)? {
            return Ok(());
        }
        self.room.check()?;
        layout::make_dir(&self.layout.snapshots(volume))?;
        self.steps.at("snapshots' directory made")?;
        let from = self.layout.volume(volume);
        if self.trees.copies_at_once() {
            self.trees.copy(&from, &at, Access::ReadOnly)?;
            return self.steps.at("snapshot taken");
        }
        let staged = self.stage(&snapshot.to_string())?;
        self.trees.copy(&from, &staged, Access::ReadOnly)?;
        self.steps.at("snapshot staged")?;
        rename(&staged, &at)?;
        self.steps.at("snapshot placed")?;
        self.trees.commit(&self.layout.snapshots(volume))?;
        self.steps.at("snapshot committed")
    }

    pub(super) fn delete_snapshot(
        &self,
        volume: VolumeId,
        snapshot: SnapshotId,
    ) -> Result<(), DriverError> {
        let at = self.layout.snapshot(volume, snapshot);
        if self.trees.copies_at_once() {
            // Going is as quick as coming there; making it writable for the trash takes longer.
            self.trees.delete(&at)?;
        } else {
            self.throw_away(&at)?;
        }
        self.steps.at("snapshot thrown away")?;
        self.throw_away(&self.layout.tmp().join(snapshot.to_string()))?;
        self.throw_away(&self.layout.arrival(volume, snapshot))?;
        Sweeper::sweep_in_background(&self.sweeper);
        Ok(())
    }

    /// The new content is made ready beside the old, and they change places.
    pub(super) fn restore_snapshot(
        &self,
        volume: VolumeId,
        snapshot: SnapshotId,
        request: Incarnation,
    ) -> Result<(), DriverError> {
        self.kind(volume)?;
        let at = self.layout.volume(volume);
        let staged = self.layout.tmp().join(volume.to_string());
        if replaced::at(&at, volume)? < Some(request) {
            let from = self.layout.snapshot(volume, snapshot);
            if !layout::exists(&from)? {
                return Err(self.no_snapshot(volume, snapshot));
            }
            let limit = self.trees.usage(&at)?.limit_bytes;
            self.stage(&volume.to_string())?;
            self.trees.copy(&from, &staged, Access::Writable)?;
            self.steps.at("restored content staged")?;
            self.trees.set_limit(&staged, limit)?;
            replaced::mark(&staged, volume, request)?;
            self.steps.at("restored content limited and marked")?;
            exchange(&staged, &at)?;
            self.steps.at("contents exchanged")?;
        }
        self.trees.commit(&self.layout.volumes())?;
        self.steps.at("exchange committed")?;
        self.throw_away(&staged)?;
        Sweeper::sweep_in_background(&self.sweeper);
        self.steps.at("old content thrown away")
    }
}
