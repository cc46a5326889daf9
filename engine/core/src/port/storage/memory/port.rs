//! The port as the fake answers it: every call is one step on the state.

use std::{
    collections::{BTreeMap, BTreeSet},
    os::fd::OwnedFd,
    path::PathBuf,
};

use async_trait::async_trait;

use super::{
    super::{RootLayers, Storage, Usage},
    DIR_POOL_BYTES, DriverError, MemoryStorage, Pool, Tree, Volume,
    stream::{self, Parcel},
};
use crate::{
    ids::{Fingerprint, PoolId, SnapshotId, VolumeId},
    spec::{Incarnation, PoolDriver, PoolSpec, RootSource},
};

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

    async fn has_image(&self, pool: PoolId, image: &Fingerprint) -> Result<bool, DriverError> {
        Ok(self.state().pool(pool)?.images.contains(image))
    }

    async fn send_image(
        &self,
        pool: PoolId,
        image: &Fingerprint,
        into: OwnedFd,
    ) -> Result<u64, DriverError> {
        if !self.has_image(pool, image).await? {
            return Err(DriverError::NotFound(format!("image {image} in the pool")));
        }
        let (subject, image) = (image.to_string(), Some(image.clone()));
        let parcel = Parcel { subject, parent: None, image, tree: BTreeMap::new() };
        stream::write(parcel, into).await
    }

    async fn receive_image(
        &self,
        pool: PoolId,
        image: &Fingerprint,
        from: OwnedFd,
    ) -> Result<u64, DriverError> {
        let (_, bytes) = stream::read(image.to_string(), from).await?;
        self.ensure_image(pool, image).await.map(|()| bytes)
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
            if pool.volume(volume).is_ok() {
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
        at: Incarnation,
    ) -> Result<(), DriverError> {
        self.change(|state| {
            let pool = state.pool(pool)?;
            if pool.volume(volume)?.replaced_at >= Some(at) {
                return Ok(());
            }
            let (image, tree) = pool.source_tree(source)?;
            pool.insert(volume, image, tree, quota_bytes)?;
            pool.volume(volume)?.replaced_at = Some(at);
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
        at: Incarnation,
    ) -> Result<(), DriverError> {
        self.change(|state| {
            let volume = state.pool(pool)?.volume(volume)?;
            if volume.replaced_at < Some(at) {
                volume.tree = volume.snapshot(snapshot)?.clone();
                volume.replaced_at = Some(at);
            }
            Ok(())
        })
    }

    async fn snapshots(
        &self,
        pool: PoolId,
        volume: VolumeId,
    ) -> Result<Vec<SnapshotId>, DriverError> {
        let mut state = self.state();
        let found = state.pool(pool)?.volumes.get(&volume);
        Ok(found.map_or_else(Vec::new, |volume| volume.snapshots.keys().copied().collect()))
    }

    async fn send(
        &self,
        pool: PoolId,
        volume: VolumeId,
        snapshot: SnapshotId,
        parent: Option<SnapshotId>,
        into: OwnedFd,
    ) -> Result<u64, DriverError> {
        let parcel = {
            let mut state = self.state();
            let volume = state.pool(pool)?.received(volume)?;
            if let Some(parent) = parent {
                volume.snapshot(parent)?;
            }
            let tree = volume.snapshot(snapshot)?.clone();
            let tree = tree.into_iter().map(|(name, content)| (name, content.into())).collect();
            Parcel { subject: snapshot.to_string(), parent, image: volume.image.clone(), tree }
        };
        stream::write(parcel, into).await
    }

    async fn receive(
        &self,
        pool: PoolId,
        volume: VolumeId,
        snapshot: SnapshotId,
        parent: Option<SnapshotId>,
        from: OwnedFd,
    ) -> Result<u64, DriverError> {
        let known =
            self.state().pool(pool)?.received(volume).map(|it| it.snapshot(snapshot).is_ok());
        if known == Ok(true) {
            return Ok(0);
        }
        let (parcel, bytes) = stream::read(snapshot.to_string(), from).await?;
        self.change(|state| {
            let pool = state.pool(pool)?;
            pool.check_room()?;
            if let Some(needed) = parcel.parent {
                if parent != Some(needed) {
                    return Err(DriverError::Refused("the stream builds on another parent".into()));
                }
                pool.received(volume)?.snapshot(needed)?;
            }
            let volume = pool.volumes.entry(volume).or_insert_with(|| Volume {
                rooted: false,
                image: parcel.image,
                quota_bytes: None,
                tree: Tree::new(),
                replaced_at: None,
                snapshots: BTreeMap::new(),
            });
            let tree = parcel.tree.into_iter().map(|(name, content)| (name, content.into()));
            volume.snapshots.entry(snapshot).or_insert_with(|| tree.collect());
            Ok(bytes)
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

    async fn flush(&self) -> Result<(), DriverError> {
        if let Some(before) = &mut self.state().before {
            before.clear();
        }
        Ok(())
    }
}
