//! Storage in memory: the simulator's. Trees are maps from a file's name to its content, so that
//! what a snapshot keeps and what a restore brings back can be seen.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::{Mutex, MutexGuard},
};

use super::DriverError;
use crate::{
    ids::{Fingerprint, PoolId, SnapshotId, VolumeId},
    spec::{Incarnation, RootSource},
};

mod port;
mod stream;

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
    /// The pools before each change that is not on the disk, oldest first, where power may be lost.
    before: Option<Vec<BTreeMap<PoolId, Pool>>>,
}

#[derive(Clone, Debug)]
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
    /// Whether there is more than received snapshots.
    rooted: bool,
    image: Option<Fingerprint>,
    quota_bytes: Option<u64>,
    tree: Tree,
    /// The owner's request that the content was last replaced for.
    replaced_at: Option<Incarnation>,
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

    /// From now on changes are on the disk only when they are flushed.
    pub fn expect_loss_of_power(&self) {
        self.state().before = Some(Vec::new());
    }

    /// Takes back all but so many of the changes that are not on the disk.
    pub fn lose_power(&self, kept: usize) {
        let mut state = self.state();
        let mut before = state.before.take().unwrap_or_default();
        if kept < before.len() {
            state.pools = before.swap_remove(kept);
        }
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
        state.begin();
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
        state.begin();
        let answer = act(&mut state)?;
        state.step()?;
        Ok(answer)
    }
}

impl State {
    fn begin(&mut self) {
        if let Some(before) = &mut self.before {
            before.push(self.pools.clone());
        }
    }

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
        let found = self.volumes.get_mut(&id).filter(|volume| volume.rooted);
        found.ok_or_else(|| DriverError::NotFound(format!("volume {id}")))
    }

    /// The volume even if it is nothing but snapshots.
    fn received(&mut self, id: VolumeId) -> Result<&mut Volume, DriverError> {
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
        let snapshots = self.volumes.remove(&id).map(|it| it.snapshots).unwrap_or_default();
        let volume =
            Volume { rooted: true, image, quota_bytes, tree, replaced_at: None, snapshots };
        self.volumes.insert(id, volume);
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
                let volume = self.received(*volume)?;
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

#[cfg(test)]
mod tests {
    use async_trait::async_trait;

    use super::{
        super::{
            Storage,
            laws::{self, Subject},
        },
        *,
    };
    use crate::spec::{PoolDriver, PoolSpec};

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
