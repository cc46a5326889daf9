//! Storage in memory: the simulator's. Trees are maps from a file's name to its content, so that
//! what a snapshot keeps and what a restore brings back can be seen.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    path::PathBuf,
    sync::{Mutex, MutexGuard},
};

use async_trait::async_trait;

use super::{DriverError, RootLayers, Storage, Usage};
use crate::{
    ids::{Fingerprint, PoolId, SnapshotId, VolumeId},
    spec::{PoolDriver, PoolSpec, RootSource},
};

/// The one file that every image here has. Its content is the image's fingerprint.
pub const IMAGE_FILE: &str = "image";

/// Of a pool whose driver knows no size.
const DIR_POOL_BYTES: u64 = 1 << 40;
/// What every volume and image occupies besides its content.
const TREE_BYTES: u64 = 4096;

type Tree = BTreeMap<String, Vec<u8>>;

#[derive(Debug, Default)]
pub struct MemoryStorage {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    pools: BTreeMap<PoolId, Pool>,
    faults: VecDeque<DriverError>,
    /// Steps that are still taken before the storage is "killed".
    steps: Option<u32>,
}

#[derive(Debug)]
struct Pool {
    total_bytes: u64,
    /// Whether volumes can have quotas.
    quotas: bool,
    /// What somebody else occupies.
    occupied_bytes: u64,
    images: BTreeSet<Fingerprint>,
    volumes: BTreeMap<VolumeId, Volume>,
}

#[derive(Clone, Debug)]
struct Volume {
    image: Option<Fingerprint>,
    quota_bytes: Option<u64>,
    tree: Tree,
    snapshots: BTreeMap<SnapshotId, Tree>,
}

impl MemoryStorage {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no holder panics")
    }

    /// The next call that changes something answers this instead.
    pub fn fail_next(&self, error: DriverError) {
        self.state().faults.push_back(error);
    }

    /// Calls that change something stop after this many steps, as though the daemon were killed:
    /// before their work, or after it and before the answer. `None` lets them run again.
    pub fn interrupt_after(&self, steps: Option<u32>) {
        self.state().steps = steps;
    }

    /// Occupies so much of the pool that nothing can be made in it, or gives it back.
    pub fn fill(&self, pool: PoolId, full: bool) {
        if let Some(pool) = self.state().pools.get_mut(&pool) {
            pool.occupied_bytes = if full { pool.total_bytes } else { 0 };
        }
    }

    /// Writes a file as the guest would.
    ///
    /// # Errors
    /// [`DriverError::Full`] when the quota forbids it.
    pub fn write(
        &self,
        pool: PoolId,
        volume: VolumeId,
        name: &str,
        content: &[u8],
    ) -> Result<(), DriverError> {
        let mut state = self.state();
        let volume = state.pool(pool)?.volume(volume)?;
        let before = volume.tree.get(name).map_or(0, |old| old.len() as u64);
        let after = volume.used_bytes() - before + content.len() as u64;
        if volume.quota_bytes.is_some_and(|quota| after > quota) {
            return Err(DriverError::Full(format!("the quota leaves no room for {name}")));
        }
        volume.tree.insert(name.to_owned(), content.to_vec());
        Ok(())
    }

    /// Reads a file as the guest would.
    #[must_use]
    pub fn read(&self, pool: PoolId, volume: VolumeId, name: &str) -> Option<Vec<u8>> {
        let mut state = self.state();
        let volume = state.pool(pool).ok()?.volume(volume).ok()?;
        volume.tree.get(name).cloned()
    }

    /// One call that changes something: what it does is done whole or not at all, and it may be
    /// interrupted before and after.
    fn change<T>(
        &self,
        act: impl FnOnce(&mut State) -> Result<T, DriverError>,
    ) -> Result<T, DriverError> {
        let mut state = self.state();
        if let Some(fault) = state.faults.pop_front() {
            return Err(fault);
        }
        state.step()?;
        let answer = act(&mut state)?;
        state.step()?;
        Ok(answer)
    }
}

impl State {
    fn step(&mut self) -> Result<(), DriverError> {
        match &mut self.steps {
            Some(0) => Err(DriverError::Failed("interrupted".into())),
            Some(left) => {
                *left -= 1;
                Ok(())
            }
            None => Ok(()),
        }
    }

    fn pool(&mut self, id: PoolId) -> Result<&mut Pool, DriverError> {
        self.pools.get_mut(&id).ok_or_else(|| DriverError::NotFound(format!("pool {id}")))
    }
}

impl Pool {
    fn volume(&mut self, id: VolumeId) -> Result<&mut Volume, DriverError> {
        self.volumes.get_mut(&id).ok_or_else(|| DriverError::NotFound(format!("volume {id}")))
    }

    fn used_bytes(&self) -> u64 {
        let images = self.images.len() as u64 * TREE_BYTES;
        self.occupied_bytes + images + self.volumes.values().map(Volume::used_bytes).sum::<u64>()
    }

    fn check_room(&self) -> Result<(), DriverError> {
        if self.used_bytes() + TREE_BYTES > self.total_bytes {
            return Err(DriverError::Full("the pool is full".into()));
        }
        Ok(())
    }

    fn check_quota(&self, quota_bytes: Option<u64>) -> Result<(), DriverError> {
        if quota_bytes.is_some() && !self.quotas {
            return Err(DriverError::Refused("a dir pool has no quotas: use a btrfs pool".into()));
        }
        Ok(())
    }

    fn insert(
        &mut self,
        id: VolumeId,
        image: Option<Fingerprint>,
        tree: Tree,
        quota_bytes: Option<u64>,
    ) -> Result<(), DriverError> {
        self.check_quota(quota_bytes)?;
        self.check_room()?;
        self.volumes.insert(id, Volume { image, quota_bytes, tree, snapshots: BTreeMap::new() });
        Ok(())
    }

    fn source_tree(
        &mut self,
        source: &RootSource,
    ) -> Result<(Option<Fingerprint>, Tree), DriverError> {
        match source {
            RootSource::Image(image) => {
                if !self.images.contains(image) {
                    return Err(DriverError::NotFound(format!("image {image} in the pool")));
                }
                let file = (IMAGE_FILE.to_owned(), image.as_str().as_bytes().to_vec());
                Ok((Some(image.clone()), Tree::from([file])))
            }
            RootSource::Volume { volume, snapshot: None, image: _ } => {
                let volume = self.volume(*volume)?;
                Ok((volume.image.clone(), volume.tree.clone()))
            }
            RootSource::Volume { volume, snapshot: Some(snapshot), image: _ } => {
                let volume = self.volume(*volume)?;
                Ok((volume.image.clone(), volume.snapshot(*snapshot)?.clone()))
            }
            RootSource::Empty => Ok((None, Tree::new())),
        }
    }
}

impl Volume {
    fn snapshot(&self, id: SnapshotId) -> Result<&Tree, DriverError> {
        self.snapshots.get(&id).ok_or_else(|| DriverError::NotFound(format!("snapshot {id}")))
    }

    fn used_bytes(&self) -> u64 {
        TREE_BYTES + self.tree.values().map(|content| content.len() as u64).sum::<u64>()
    }
}

#[async_trait]
impl Storage for MemoryStorage {
    async fn ensure_pool(&self, spec: &PoolSpec) -> Result<(), DriverError> {
        let (total_bytes, quotas) = match spec.driver {
            PoolDriver::Dir { source: _ } => (DIR_POOL_BYTES, false),
            PoolDriver::Btrfs { source: _, size_bytes } => (size_bytes, true),
        };
        self.change(|state| {
            let pool = state.pools.entry(spec.pool).or_insert_with(|| Pool {
                total_bytes,
                quotas,
                occupied_bytes: 0,
                images: BTreeSet::new(),
                volumes: BTreeMap::new(),
            });
            pool.total_bytes = total_bytes;
            Ok(())
        })
    }

    async fn remove_pool(&self, pool: PoolId) -> Result<(), DriverError> {
        self.change(|state| {
            if let Some(found) = state.pools.get(&pool)
                && !found.volumes.is_empty()
            {
                let count = found.volumes.len();
                return Err(DriverError::Refused(format!("the pool holds {count} volumes")));
            }
            state.pools.remove(&pool);
            Ok(())
        })
    }

    async fn pool_usage(&self, pool: PoolId) -> Result<Usage, DriverError> {
        let mut state = self.state();
        let pool = state.pool(pool)?;
        Ok(Usage { used_bytes: pool.used_bytes(), total_bytes: pool.total_bytes })
    }

    async fn ensure_image(&self, pool: PoolId, image: &Fingerprint) -> Result<(), DriverError> {
        self.change(|state| {
            let pool = state.pool(pool)?;
            if !pool.images.contains(image) {
                pool.check_room()?;
                pool.images.insert(image.clone());
            }
            Ok(())
        })
    }

    async fn remove_image(&self, pool: PoolId, image: &Fingerprint) -> Result<(), DriverError> {
        self.change(|state| {
            state.pool(pool)?.images.remove(image);
            Ok(())
        })
    }

    async fn create_root(
        &self,
        pool: PoolId,
        volume: VolumeId,
        source: &RootSource,
        quota_bytes: Option<u64>,
    ) -> Result<(), DriverError> {
        self.change(|state| {
            let pool = state.pool(pool)?;
            if pool.volumes.contains_key(&volume) {
                return Ok(());
            }
            let (image, tree) = pool.source_tree(source)?;
            pool.insert(volume, image, tree, quota_bytes)
        })
    }

    async fn replace_root(
        &self,
        pool: PoolId,
        volume: VolumeId,
        source: &RootSource,
        quota_bytes: Option<u64>,
    ) -> Result<(), DriverError> {
        self.change(|state| {
            let pool = state.pool(pool)?;
            let snapshots = pool.volume(volume)?.snapshots.clone();
            let (image, tree) = pool.source_tree(source)?;
            pool.insert(volume, image, tree, quota_bytes)?;
            pool.volume(volume)?.snapshots = snapshots;
            Ok(())
        })
    }

    async fn create_volume(
        &self,
        pool: PoolId,
        volume: VolumeId,
        quota_bytes: Option<u64>,
    ) -> Result<(), DriverError> {
        self.create_root(pool, volume, &RootSource::Empty, quota_bytes).await
    }

    async fn delete_volume(&self, pool: PoolId, volume: VolumeId) -> Result<(), DriverError> {
        self.change(|state| {
            state.pool(pool)?.volumes.remove(&volume);
            Ok(())
        })
    }

    async fn set_quota(
        &self,
        pool: PoolId,
        volume: VolumeId,
        quota_bytes: Option<u64>,
    ) -> Result<(), DriverError> {
        self.change(|state| {
            let pool = state.pool(pool)?;
            pool.check_quota(quota_bytes)?;
            pool.volume(volume)?.quota_bytes = quota_bytes;
            Ok(())
        })
    }

    async fn volume_usage(&self, pool: PoolId, volume: VolumeId) -> Result<Usage, DriverError> {
        let mut state = self.state();
        let pool = state.pool(pool)?;
        let pool_bytes = pool.total_bytes;
        let volume = pool.volume(volume)?;
        let total_bytes = volume.quota_bytes.unwrap_or(pool_bytes);
        Ok(Usage { used_bytes: volume.used_bytes(), total_bytes })
    }

    async fn create_snapshot(
        &self,
        pool: PoolId,
        volume: VolumeId,
        snapshot: SnapshotId,
    ) -> Result<(), DriverError> {
        self.change(|state| {
            let pool = state.pool(pool)?;
            let taken = pool.volume(volume)?.snapshots.contains_key(&snapshot);
            if !taken {
                pool.check_room()?;
                let volume = pool.volume(volume)?;
                volume.snapshots.insert(snapshot, volume.tree.clone());
            }
            Ok(())
        })
    }

    async fn delete_snapshot(
        &self,
        pool: PoolId,
        volume: VolumeId,
        snapshot: SnapshotId,
    ) -> Result<(), DriverError> {
        self.change(|state| {
            if let Some(volume) = state.pool(pool)?.volumes.get_mut(&volume) {
                volume.snapshots.remove(&snapshot);
            }
            Ok(())
        })
    }

    async fn restore_snapshot(
        &self,
        pool: PoolId,
        volume: VolumeId,
        snapshot: SnapshotId,
    ) -> Result<(), DriverError> {
        self.change(|state| {
            let volume = state.pool(pool)?.volume(volume)?;
            volume.tree = volume.snapshot(snapshot)?.clone();
            Ok(())
        })
    }

    async fn root_layers(
        &self,
        pool: PoolId,
        volume: VolumeId,
        _image: Option<&Fingerprint>,
    ) -> Result<RootLayers, DriverError> {
        let mut state = self.state();
        let made_from = &state.pool(pool)?.volume(volume)?.image;
        let base = PathBuf::from(format!("/memory/{pool}"));
        let path = base.join(format!("volumes/{volume}"));
        Ok(match made_from {
            Some(image) => RootLayers::Overlay {
                lower: base.join(format!("images/{image}/rootfs")),
                volume: path,
            },
            None => RootLayers::Plain { root: path.join("rootfs") },
        })
    }

    async fn volume_path(&self, pool: PoolId, volume: VolumeId) -> Result<PathBuf, DriverError> {
        self.state().pool(pool)?.volume(volume)?;
        Ok(PathBuf::from(format!("/memory/{pool}/volumes/{volume}/rootfs")))
    }

    async fn volumes(&self, pool: PoolId) -> Result<Vec<VolumeId>, DriverError> {
        Ok(self.state().pool(pool)?.volumes.keys().copied().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::laws::{self, Subject},
        *,
    };

    #[async_trait]
    impl Subject for MemoryStorage {
        fn storage(&self) -> &dyn Storage {
            self
        }
        fn pool(&self) -> PoolSpec {
            let driver = PoolDriver::Btrfs { source: None, size_bytes: 512 << 20 };
            PoolSpec { pool: PoolId::derive(&["laws"]), name: "laws".into(), driver }
        }
        fn quotas(&self) -> bool {
            true
        }
        async fn write(&self, volume: VolumeId, name: &str, content: &[u8]) -> bool {
            Self::write(self, self.pool().pool, volume, name, content).is_ok()
        }
        async fn read(&self, volume: VolumeId, name: &str) -> Option<Vec<u8>> {
            Self::read(self, self.pool().pool, volume, name)
        }
        async fn fill(&self, full: bool) {
            Self::fill(self, self.pool().pool, full);
        }
        fn interrupt_after(&self, steps: Option<u32>) {
            Self::interrupt_after(self, steps);
        }
    }

    #[tokio::test]
    async fn memory_obeys_the_laws() {
        laws::all(&MemoryStorage::default()).await;
    }
}
