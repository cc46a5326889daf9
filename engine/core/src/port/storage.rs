//! The storage port: pools, root volumes and their snapshots on one node.
//!
//! Every method may be repeated: it looks at what is there, finishes or undoes what a killed
//! predecessor began, and answers as if it had run once. Volumes are named by id, never by name.
//!
//! What was done is seen by everybody at once and gets to the disk within seconds, in order: a loss
//! of power takes the newest changes and no others. [`Storage::flush`] waits for the disk.
//!
//! An image stays on the pool's disk for as long as a volume is made from it: removing it while it
//! is used says that nobody may use it anew, and the last volume takes it along.
//!
//! [`laws`] are what every implementation is run against.

use std::{os::fd::OwnedFd, path::PathBuf};

use async_trait::async_trait;

use super::DriverError;
use crate::{
    ids::{Fingerprint, PoolId, SnapshotId, VolumeId},
    spec::{Incarnation, PoolSpec, RootSource},
};

pub mod laws;
mod memory;
pub use memory::{IMAGE_FILE, MemoryStorage};

/// Holds what a guest wrote over the image, inside an overlay's volume.
pub const UPPER: &str = "u";
/// The overlay's own scratch space, beside [`UPPER`] on the same file system.
pub const WORK: &str = "w";

/// What the shim mounts as a guest's root.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RootLayers {
    /// An overlay: `lower` (read-only, shared) below [`UPPER`] and [`WORK`] inside `volume`.
    Overlay { lower: PathBuf, volume: PathBuf },
    /// A directory with the whole tree.
    Plain { root: PathBuf },
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    pub used_bytes: u64,
    pub total_bytes: u64,
}

#[async_trait]
pub trait Storage: Send + Sync + std::fmt::Debug + 'static {
    /// Makes the pool or finds it, and mounts it.
    async fn ensure_pool(&self, spec: &PoolSpec) -> Result<(), DriverError>;
    /// Unmounts the pool and removes what stapes made for it. Refused while it holds volumes.
    async fn remove_pool(&self, pool: PoolId) -> Result<(), DriverError>;
    async fn pool_usage(&self, pool: PoolId) -> Result<Usage, DriverError>;

    /// Unpacks the image into the pool unless it is there.
    async fn ensure_image(&self, pool: PoolId, image: &Fingerprint) -> Result<(), DriverError>;
    /// Fine when there is none. Volumes made from it keep it until the last of them is deleted.
    async fn remove_image(&self, pool: PoolId, image: &Fingerprint) -> Result<(), DriverError>;

    /// Whether the image is in the pool, for new volumes.
    async fn has_image(&self, pool: PoolId, image: &Fingerprint) -> Result<bool, DriverError>;
    /// Writes the unpacked image into the pipe, for [`Self::receive_image`] of another node.
    async fn send_image(
        &self,
        pool: PoolId,
        image: &Fingerprint,
        into: OwnedFd,
    ) -> Result<u64, DriverError>;
    /// As [`Self::ensure_image`], from another node's unpacked one. Whole or not at all.
    async fn receive_image(
        &self,
        pool: PoolId,
        image: &Fingerprint,
        from: OwnedFd,
    ) -> Result<u64, DriverError>;

    /// Makes an instance's root volume. There is either no volume or the whole one. The image must
    /// be in the pool, the volume to copy too. A volume that was received becomes a root from its
    /// own snapshot; what it is then has reached the disk before this answers.
    async fn create_root(
        &self,
        pool: PoolId,
        volume: VolumeId,
        source: &RootSource,
        quota_bytes: Option<u64>,
    ) -> Result<(), DriverError>;
    /// The volume's content becomes the source's; its snapshots stay. The old content is there until
    /// the new one is. Done once for a request: a volume whose content was replaced `at` this
    /// incarnation of its owner, or a later one, is left as it is.
    async fn replace_root(
        &self,
        pool: PoolId,
        volume: VolumeId,
        source: &RootSource,
        quota_bytes: Option<u64>,
        at: Incarnation,
    ) -> Result<(), DriverError>;
    /// Makes an empty volume for data.
    async fn create_volume(
        &self,
        pool: PoolId,
        volume: VolumeId,
        quota_bytes: Option<u64>,
    ) -> Result<(), DriverError>;
    /// Deletes the volume with its snapshots. Fine when there is none.
    async fn delete_volume(&self, pool: PoolId, volume: VolumeId) -> Result<(), DriverError>;
    async fn set_quota(
        &self,
        pool: PoolId,
        volume: VolumeId,
        quota_bytes: Option<u64>,
    ) -> Result<(), DriverError>;
    /// What the volume and only it occupies; in total its quota, or else the pool's size.
    async fn volume_usage(&self, pool: PoolId, volume: VolumeId) -> Result<Usage, DriverError>;

    async fn create_snapshot(
        &self,
        pool: PoolId,
        volume: VolumeId,
        snapshot: SnapshotId,
    ) -> Result<(), DriverError>;
    async fn delete_snapshot(
        &self,
        pool: PoolId,
        volume: VolumeId,
        snapshot: SnapshotId,
    ) -> Result<(), DriverError>;
    /// The volume's content becomes the snapshot's. The old content is there until the new one is.
    /// Done once for a request, as [`Self::replace_root`].
    async fn restore_snapshot(
        &self,
        pool: PoolId,
        volume: VolumeId,
        snapshot: SnapshotId,
        at: Incarnation,
    ) -> Result<(), DriverError>;

    /// Those that are there whole, also of a volume that was received and has no root yet.
    async fn snapshots(
        &self,
        pool: PoolId,
        volume: VolumeId,
    ) -> Result<Vec<SnapshotId>, DriverError>;

    /// Writes the snapshot into the pipe and says how many bytes that were: as the difference to
    /// `parent` where the pool can, else whole. Fails when nobody reads any more.
    async fn send(
        &self,
        pool: PoolId,
        volume: VolumeId,
        snapshot: SnapshotId,
        parent: Option<SnapshotId>,
        into: OwnedFd,
    ) -> Result<u64, DriverError>;
    /// Makes what another node sent a snapshot of this volume, which needs not have a root here.
    /// There is either no snapshot or the whole one, on the disk; when it is there nothing is read.
    /// `parent` is a snapshot of this volume that the stream may build on.
    ///
    /// # Errors
    /// [`DriverError::Failed`] when the stream ends early, [`DriverError::Refused`] when it is of
    /// another snapshot, format or parent.
    async fn receive(
        &self,
        pool: PoolId,
        volume: VolumeId,
        snapshot: SnapshotId,
        parent: Option<SnapshotId>,
        from: OwnedFd,
    ) -> Result<u64, DriverError>;

    /// Where the parts of the root are; `image` is what the volume was made from.
    async fn root_layers(
        &self,
        pool: PoolId,
        volume: VolumeId,
        image: Option<&Fingerprint>,
    ) -> Result<RootLayers, DriverError>;
    /// Where a data volume is.
    async fn volume_path(&self, pool: PoolId, volume: VolumeId) -> Result<PathBuf, DriverError>;
    /// Everything that is there, half-received volumes too: what the reconciler compares with the log.
    async fn volumes(&self, pool: PoolId) -> Result<Vec<VolumeId>, DriverError>;

    /// What was done in any pool before this was called survives a loss of power once it answers.
    async fn flush(&self) -> Result<(), DriverError>;
}
