//! Storage on this host: the port on btrfs and on plain directories.
//!
//! [`HostStorage`] finds a pool by its id and lets [`pool::Pool`] do the work on a thread that may
//! block. A [`place::Place`] is where a pool is on the host (loop file, device, directory); a
//! [`trees::Trees`] is what its file system can do. Everything else (names, order, what a kill
//! leaves behind) is the same for all drivers, and in one place.
//!
//! Architecture Invariant: no path below `u/`, `w/` or `rootfs/` of a volume is ever resolved by
//! name. A guest controls what is there.

use std::{
    collections::BTreeMap,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicBool, Ordering},
    },
};

use async_trait::async_trait;
use stapes_core::{
    ids::{Fingerprint, PoolId, SnapshotId, VolumeId},
    port::storage::{RootLayers, Storage, Usage},
    spec::{Incarnation, PoolSpec, RootSource},
};

use tokio::sync::{OwnedRwLockReadGuard, OwnedRwLockWriteGuard, RwLock};

use error::DriverError;
use place::Place;
use pool::Pool;
use record::{Record, State};
use steps::Steps;

mod btrfs;
mod dir;
pub(crate) mod envelope;
pub(crate) mod error;
mod images;
mod layout;
mod place;
mod pool;
mod record;
mod replaced;
pub(crate) mod room;
mod snapshots;
mod steps;
pub(crate) mod transfer;
mod trash;
mod trees;

pub use steps::Interruption;

/// Unpacks images that this node holds.
#[async_trait]
pub trait Unpacker: Send + Sync + std::fmt::Debug + 'static {
    /// Fills the empty directory `target` with the image's `rootfs/` and, if it has them,
    /// `metadata.yaml` and `templates/`. What it leaves there when it fails is thrown away.
    async fn unpack(&self, image: &Fingerprint, target: &Path) -> Result<(), DriverError>;
}

#[derive(Clone, Debug)]
pub struct StorageConfig {
    /// Holds the pools' records, loop files and mounts. Nobody else's.
    pub pools_dir: PathBuf,
    pub images: Arc<dyn Unpacker>,
    /// Label of the file systems that are made.
    pub tag: String,
}

/// The storage of one node.
#[derive(Debug)]
pub struct HostStorage {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    config: StorageConfig,
    steps: Steps,
    slots: Mutex<BTreeMap<PoolId, Arc<Slot>>>,
}

/// A pool, open or not. Whoever opens or removes it holds it alone; who uses it shares it.
type Slot = RwLock<Option<Arc<Pool>>>;
type InUse = OwnedRwLockReadGuard<Option<Arc<Pool>>, Pool>;

impl HostStorage {
    #[must_use]
    pub fn new(config: StorageConfig) -> Self {
        Self::with_steps(config, Steps::default())
    }

    /// For tests: calls stop where `interruption` says.
    #[must_use]
    pub fn interrupted_by(config: StorageConfig, interruption: Arc<dyn Interruption>) -> Self {
        Self::with_steps(config, Steps::interrupted_by(interruption))
    }

    fn with_steps(config: StorageConfig, steps: Steps) -> Self {
        Self { shared: Arc::new(Shared { config, steps, slots: Mutex::default() }) }
    }

    /// Runs `work` on the pool, which is opened if it is known and not open.
    async fn on<T: Send + 'static>(
        &self,
        pool: PoolId,
        work: impl FnOnce(&Pool) -> Result<T, DriverError> + Send + 'static,
    ) -> Result<T, DriverError> {
        let pool = self.shared.open(pool).await?;
        blocking(move || work(&pool)).await
    }
}

impl Shared {
    fn slots(&self) -> MutexGuard<'_, BTreeMap<PoolId, Arc<Slot>>> {
        self.slots.lock().expect("no holder panics")
    }

    fn slot(&self, pool: PoolId) -> Arc<Slot> {
        self.slots().entry(pool).or_default().clone()
    }

    fn forget(&self, pool: PoolId) {
        let mut slots = self.slots();
        // Only the map has it: nobody uses it or waits for it.
        if slots.get(&pool).is_some_and(|slot| Arc::strong_count(slot) == 1) {
            slots.remove(&pool);
        }
    }

    fn place<'a>(&'a self, spec: &'a PoolSpec) -> Place<'a> {
        Place { config: &self.config, steps: &self.steps, spec }
    }

    fn record(&self, pool: PoolId) -> Result<Option<Record>, DriverError> {
        Record::read(&self.config.pools_dir, pool)
    }

    /// The pool of this id: open, or opened by what is recorded of it. It stays while this is held.
    async fn open(self: &Arc<Self>, id: PoolId) -> Result<InUse, DriverError> {
        if let Some(pool) = in_use(self.slot(id).read_owned().await) {
            return Ok(pool);
        }
        let mut slot = self.slot(id).write_owned().await;
        let shared = self.clone();
        let opened = blocking(move || {
            shared.open_recorded(&mut slot, id)?;
            Ok(OwnedRwLockWriteGuard::downgrade(slot))
        });
        let opened = opened.await.and_then(|slot| in_use(slot).ok_or_else(|| no_pool(id)));
        if opened.is_err() {
            self.forget(id);
        }
        opened
    }

    fn open_recorded(&self, slot: &mut Option<Arc<Pool>>, id: PoolId) -> Result<(), DriverError> {
        if slot.is_some() {
            return Ok(());
        }
        let record = self.record(id)?.ok_or_else(|| no_pool(id))?;
        match record.state {
            State::Ready => *slot = Some(Arc::new(self.place(&record.spec).open()?)),
            State::Making => {}
            State::Removing => self.finish_removal(&record)?,
        }
        Ok(())
    }

    fn ensure(&self, slot: &mut Option<Arc<Pool>>, spec: &PoolSpec) -> Result<(), DriverError> {
        let record = self.record(spec.pool)?;
        if let Some(record) = record.as_ref().filter(|record| record.state == State::Removing) {
            self.finish_removal(record)?;
        }
        *slot = Some(Arc::new(self.place(spec).open()?));
        Ok(())
    }

    /// Whether the pool is open and as it is asked for.
    async fn is_open(&self, spec: &PoolSpec) -> Result<bool, DriverError> {
        let slot = self.slot(spec.pool).read_owned().await;
        if slot.is_none() {
            return Ok(false);
        }
        let record = self.record(spec.pool)?;
        Ok(record.is_some_and(|record| record.spec == *spec && record.state == State::Ready))
    }

    fn finish_removal(&self, record: &Record) -> Result<(), DriverError> {
        let place = self.place(&record.spec);
        // What cannot be opened has nothing in it that must be removed one by one.
        let pool = place.open().ok();
        place.remove(pool.as_ref())
    }

    fn remove(&self, slot: &mut Option<Arc<Pool>>, id: PoolId) -> Result<(), DriverError> {
        let Some(record) = self.record(id)? else {
            *slot = None;
            return Ok(());
        };
        if record.state == State::Removing {
            *slot = None;
            return self.finish_removal(&record);
        }
        let place = self.place(&record.spec);
        let pool = match slot.take() {
            Some(pool) => Some(pool),
            None if place.is_missing()? => None,
            None => Some(Arc::new(place.open()?)),
        };
        if let Some(pool) = &pool {
            let volumes = pool.volume_ids()?.len();
            if volumes > 0 {
                let text = format!(
                    "pool {} holds {volumes} volumes. Nothing was changed. Delete them first",
                    record.spec.name
                );
                *slot = Some(pool.clone());
                return Err(DriverError::Refused(text));
            }
        }
        place.remove(pool.as_deref())
    }
}

fn in_use(slot: OwnedRwLockReadGuard<Option<Arc<Pool>>>) -> Option<InUse> {
    OwnedRwLockReadGuard::try_map(slot, |pool| pool.as_deref()).ok()
}

fn no_pool(id: PoolId) -> DriverError {
    DriverError::NotFound(format!("pool {id}"))
}

/// Runs what blocks on a thread that may. It runs to its end even if the caller does not wait.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, DriverError> + Send + 'static,
) -> Result<T, DriverError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(answer) => answer,
        Err(error) => Err(DriverError::Failed(format!("the work stopped in the middle: {error}"))),
    }
}

/// Tells the thread that receives that nobody waits for it any more.
#[derive(Debug, Default)]
pub(crate) struct Abandoned(Arc<AtomicBool>);

impl Abandoned {
    pub(crate) fn flag(&self) -> Arc<AtomicBool> {
        self.0.clone()
    }
}

impl Drop for Abandoned {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[async_trait]
impl Storage for HostStorage {
    async fn ensure_pool(&self, spec: &PoolSpec) -> Result<(), DriverError> {
        if self.shared.is_open(spec).await? {
            return Ok(());
        }
        let mut slot = self.shared.slot(spec.pool).write_owned().await;
        let (shared, spec) = (self.shared.clone(), spec.clone());
        blocking(move || shared.ensure(&mut slot, &spec)).await
    }

    async fn remove_pool(&self, pool: PoolId) -> Result<(), DriverError> {
        let mut slot = self.shared.slot(pool).write_owned().await;
        let shared = self.shared.clone();
        blocking(move || shared.remove(&mut slot, pool)).await?;
        self.shared.forget(pool);
        Ok(())
    }

    async fn pool_usage(&self, pool: PoolId) -> Result<Usage, DriverError> {
        self.on(pool, Pool::usage).await
    }

    async fn ensure_image(&self, pool: PoolId, image: &Fingerprint) -> Result<(), DriverError> {
        let pool = Arc::new(self.shared.open(pool).await?);
        images::ensure(&pool, image, self.shared.config.images.as_ref()).await
    }

    async fn remove_image(&self, pool: PoolId, image: &Fingerprint) -> Result<(), DriverError> {
        let pool = Arc::new(self.shared.open(pool).await?);
        images::remove(&pool, image).await
    }

    async fn has_image(&self, pool: PoolId, image: &Fingerprint) -> Result<bool, DriverError> {
        let image = image.clone();
        self.on(pool, move |pool| pool.is_wanted(&image)).await
    }

    async fn send_image(
        &self,
        pool: PoolId,
        image: &Fingerprint,
        into: OwnedFd,
    ) -> Result<u64, DriverError> {
        let image = image.clone();
        self.on(pool, move |pool| pool.send_image(&image, into)).await
    }

    async fn receive_image(
        &self,
        pool: PoolId,
        image: &Fingerprint,
        from: OwnedFd,
    ) -> Result<u64, DriverError> {
        let pool = Arc::new(self.shared.open(pool).await?);
        images::receive(&pool, image, from).await
    }

    async fn create_root(
        &self,
        pool: PoolId,
        volume: VolumeId,
        source: &RootSource,
        quota_bytes: Option<u64>,
    ) -> Result<(), DriverError> {
        let source = source.clone();
        self.on(pool, move |pool| pool.create(volume, &source, quota_bytes)).await
    }

    async fn replace_root(
        &self,
        pool: PoolId,
        volume: VolumeId,
        source: &RootSource,
        quota_bytes: Option<u64>,
        at: Incarnation,
    ) -> Result<(), DriverError> {
        let source = source.clone();
        self.on(pool, move |pool| pool.replace(volume, &source, quota_bytes, at)).await
    }

    async fn create_volume(
        &self,
        pool: PoolId,
        volume: VolumeId,
        quota_bytes: Option<u64>,
    ) -> Result<(), DriverError> {
        self.on(pool, move |pool| pool.create(volume, &RootSource::Empty, quota_bytes)).await
    }

    async fn delete_volume(&self, pool: PoolId, volume: VolumeId) -> Result<(), DriverError> {
        self.on(pool, move |pool| pool.delete(volume)).await
    }

    async fn set_quota(
        &self,
        pool: PoolId,
        volume: VolumeId,
        quota_bytes: Option<u64>,
    ) -> Result<(), DriverError> {
        self.on(pool, move |pool| pool.set_quota(volume, quota_bytes)).await
    }

    async fn volume_usage(&self, pool: PoolId, volume: VolumeId) -> Result<Usage, DriverError> {
        self.on(pool, move |pool| pool.volume_usage(volume)).await
    }

    async fn create_snapshot(
        &self,
        pool: PoolId,
        volume: VolumeId,
        snapshot: SnapshotId,
    ) -> Result<(), DriverError> {
        self.on(pool, move |pool| pool.create_snapshot(volume, snapshot)).await
    }

    async fn delete_snapshot(
        &self,
        pool: PoolId,
        volume: VolumeId,
        snapshot: SnapshotId,
    ) -> Result<(), DriverError> {
        self.on(pool, move |pool| pool.delete_snapshot(volume, snapshot)).await
    }

    async fn restore_snapshot(
        &self,
        pool: PoolId,
        volume: VolumeId,
        snapshot: SnapshotId,
        at: Incarnation,
    ) -> Result<(), DriverError> {
        self.on(pool, move |pool| pool.restore_snapshot(volume, snapshot, at)).await
    }

    async fn snapshots(
        &self,
        pool: PoolId,
        volume: VolumeId,
    ) -> Result<Vec<SnapshotId>, DriverError> {
        self.on(pool, move |pool| pool.snapshot_ids(volume)).await
    }

    async fn send(
        &self,
        pool: PoolId,
        volume: VolumeId,
        snapshot: SnapshotId,
        parent: Option<SnapshotId>,
        into: OwnedFd,
    ) -> Result<u64, DriverError> {
        self.on(pool, move |pool| pool.send(volume, snapshot, parent, into)).await
    }

    async fn receive(
        &self,
        pool: PoolId,
        volume: VolumeId,
        snapshot: SnapshotId,
        parent: Option<SnapshotId>,
        from: OwnedFd,
    ) -> Result<u64, DriverError> {
        let abandoned = Abandoned::default();
        let flag = abandoned.flag();
        self.on(pool, move |pool| pool.receive(volume, snapshot, parent, from, &flag)).await
    }

    async fn root_layers(
        &self,
        pool: PoolId,
        volume: VolumeId,
        image: Option<&Fingerprint>,
    ) -> Result<RootLayers, DriverError> {
        let image = image.cloned();
        self.on(pool, move |pool| pool.layers(volume, image.as_ref())).await
    }

    async fn volume_path(&self, pool: PoolId, volume: VolumeId) -> Result<PathBuf, DriverError> {
        self.on(pool, move |pool| pool.path(volume)).await
    }

    async fn volumes(&self, pool: PoolId) -> Result<Vec<VolumeId>, DriverError> {
        self.on(pool, Pool::volume_ids).await
    }

    async fn flush(&self) -> Result<(), DriverError> {
        // In a pool that is not open nothing was done.
        let slots: Vec<_> = self.shared.slots().values().cloned().collect();
        for slot in slots {
            if let Some(pool) = in_use(slot.read_owned().await) {
                blocking(move || pool.flush()).await?;
            }
        }
        Ok(())
    }
}
