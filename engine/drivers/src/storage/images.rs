//! Images in a pool: unpacked once, shared by the volumes made from them, gone with the last.
//!
//! A volume marks its image as used before it is there itself, so that a kill in between leaves a
//! mark without a volume, which counts for nothing, and never a volume without its image.

use std::{
    collections::{BTreeMap, btree_map::Entry},
    os::fd::OwnedFd,
    path::Path,
    sync::{Arc, Mutex, MutexGuard},
};

use stapes_core::ids::{Fingerprint, VolumeId};

use super::{
    Abandoned, InUse, Unpacker,
    error::{Context, DriverError},
    layout::{self, ROOTFS},
    pool::{Pool, rename},
    trash::Sweeper,
    trees::Access,
};

/// Which images calls of this process are about to use, and which are being unpacked.
#[derive(Clone, Debug, Default)]
pub(super) struct ImageUse(Arc<Mutex<Current>>);

#[derive(Debug, Default)]
struct Current {
    using: BTreeMap<Fingerprint, usize>,
    unpacking: BTreeMap<Fingerprint, Arc<tokio::sync::Mutex<()>>>,
}

/// While this lives, the image is not swept away.
#[derive(Debug)]
pub(super) struct ImageInUse {
    images: ImageUse,
    image: Fingerprint,
}

impl ImageUse {
    fn current(&self) -> MutexGuard<'_, Current> {
        self.0.lock().expect("no holder panics")
    }

    pub(super) fn begin(&self, image: &Fingerprint) -> ImageInUse {
        *self.current().using.entry(image.clone()).or_default() += 1;
        ImageInUse { images: self.clone(), image: image.clone() }
    }

    /// Whoever holds the lock unpacks or removes the image.
    fn turn(&self, image: &Fingerprint) -> Arc<tokio::sync::Mutex<()>> {
        let mut current = self.current();
        // Turns that nobody holds or waits for are forgotten.
        current.unpacking.retain(|_, turn| Arc::strong_count(turn) > 1);
        current.unpacking.entry(image.clone()).or_default().clone()
    }
}

impl Drop for ImageInUse {
    fn drop(&mut self) {
        if let Entry::Occupied(mut users) = self.images.current().using.entry(self.image.clone()) {
            *users.get_mut() -= 1;
            if *users.get() == 0 {
                users.remove();
            }
        }
    }
}

impl Pool {
    fn no_image(&self, image: &Fingerprint) -> DriverError {
        DriverError::NotFound(format!("image {image} in pool {}", self.room.pool))
    }

    /// Whether the image is there for new volumes.
    pub(super) fn is_wanted(&self, image: &Fingerprint) -> Result<bool, DriverError> {
        Ok(layout::exists(&self.layout.image(image))?
            && !layout::exists(&self.layout.unwanted(image))?)
    }

    pub(super) fn check_wanted(&self, image: &Fingerprint) -> Result<(), DriverError> {
        if self.is_wanted(image)? { Ok(()) } else { Err(self.no_image(image)) }
    }

    /// Whether the image is there, if only for the volumes that are made from it.
    pub(super) fn check_present(&self, image: &Fingerprint) -> Result<(), DriverError> {
        if layout::exists(&self.layout.image(image))? {
            return Ok(());
        }
        Err(self.no_image(image))
    }

    /// Marks the image as used by the volume, which is about to be made.
    pub(super) fn use_image(
        &self,
        image: &Fingerprint,
        volume: VolumeId,
        wanted: bool,
    ) -> Result<ImageInUse, DriverError> {
        let in_use = self.image_use.begin(image);
        if wanted {
            self.check_wanted(image)?;
        }
        let uses = self.layout.uses(image);
        layout::make_dir(&uses)?;
        let mark = uses.join(volume.to_string());
        let marked = std::fs::File::create(&mark);
        marked.context(|| format!("making {}", mark.display()))?;
        self.steps.at("image marked as used")?;
        Ok(in_use)
    }

    /// The volume is gone.
    pub(super) fn disuse_image(
        &self,
        image: &Fingerprint,
        volume: VolumeId,
    ) -> Result<(), DriverError> {
        layout::remove_file(&self.layout.uses(image).join(volume.to_string()))?;
        self.steps.at("image marked as unused")?;
        self.sweep_image(image)
    }

    /// The volume is gone, and nobody knows what it was made from.
    pub(super) fn disuse_images(&self, volume: VolumeId) -> Result<(), DriverError> {
        for name in layout::names(&self.layout.root.join("uses"))? {
            let Ok(image) = Fingerprint::new(name) else { continue };
            if layout::exists(&self.layout.uses(&image).join(volume.to_string()))? {
                self.disuse_image(&image, volume)?;
            }
        }
        Ok(())
    }

    pub(super) fn sweep_unwanted_images(&self) -> Result<(), DriverError> {
        for name in layout::names(&self.layout.root.join("unwanted"))? {
            let Ok(image) = Fingerprint::new(name) else { continue };
            self.sweep_image(&image)?;
        }
        Ok(())
    }

    /// Throws the image away if nobody wants it and no volume is made from it.
    fn sweep_image(&self, image: &Fingerprint) -> Result<(), DriverError> {
        // Held to the end: nobody may begin to use the image between the look and the rename.
        let current = self.image_use.current();
        let unwanted = self.layout.unwanted(image);
        if current.using.contains_key(image) || !layout::exists(&unwanted)? {
            return Ok(());
        }
        let uses = self.layout.uses(image);
        for volume in layout::names(&uses)? {
            let (volumes, snapshots) = (self.layout.volumes(), self.layout.root.join("snapshots"));
            if layout::exists(&volumes.join(&volume))? || layout::exists(&snapshots.join(&volume))?
            {
                return Ok(());
            }
            layout::remove_file(&uses.join(volume))?;
        }
        self.throw_away(&self.layout.image(image))?;
        self.steps.at("image thrown away")?;
        layout::remove_dir(&uses)?;
        self.steps.at("uses removed")?;
        layout::remove_file(&unwanted)?;
        drop(current);
        Sweeper::sweep_in_background(&self.sweeper);
        self.steps.at("image forgotten")
    }

    fn remove_image(&self, image: &Fingerprint) -> Result<(), DriverError> {
        if layout::exists(&self.layout.image(image))? {
            let unwanted = self.layout.unwanted(image);
            let marked = std::fs::File::create(&unwanted);
            marked.context(|| format!("making {}", unwanted.display()))?;
            self.steps.at("image marked as unwanted")?;
        }
        self.sweep_image(image)
    }

    /// Whether the image is there; it is wanted again if it was not.
    fn find_image(&self, image: &Fingerprint) -> Result<bool, DriverError> {
        let at = self.layout.image(image);
        if !layout::exists(&at)? {
            return Ok(false);
        }
        self.trees.set_access(&at, Access::ReadOnly)?;
        layout::remove_file(&self.layout.unwanted(image))?;
        Ok(true)
    }

    fn place_image(&self, staged: &Path, image: &Fingerprint) -> Result<(), DriverError> {
        let rootfs = std::fs::symlink_metadata(staged.join(ROOTFS));
        if !rootfs.is_ok_and(|rootfs| rootfs.is_dir()) {
            self.throw_away(staged)?;
            let text = format!("image {image} has no directory rootfs: it is no container's");
            return Err(DriverError::Refused(text));
        }
        self.trees.flush(staged)?;
        self.steps.at("image flushed")?;
        let at = self.layout.image(image);
        rename(staged, &at)?;
        self.steps.at("image placed")?;
        self.trees.set_access(&at, Access::ReadOnly)?;
        self.steps.at("image sealed")?;
        self.trees.commit(&self.layout.root.join("images"))?;
        self.steps.at("image committed")
    }
}

/// Unpacks the image unless it is there. Callers at the same time wait for the first.
pub(super) async fn ensure(
    pool: &Arc<InUse>,
    image: &Fingerprint,
    unpacker: &dyn Unpacker,
) -> Result<(), DriverError> {
    make(pool, image, async |staged| unpacker.unpack(image, staged).await).await.map(drop)
}

/// As [`ensure`], from what another node unpacked. Says how much that was.
pub(super) async fn receive(
    pool: &Arc<InUse>,
    image: &Fingerprint,
    from: OwnedFd,
) -> Result<u64, DriverError> {
    let abandoned = Abandoned::default();
    let made = make(pool, image, async |staged| {
        let (staged, flag) = (staged.to_owned(), abandoned.flag());
        blocking(pool, image, move |pool, image| pool.receive_image(image, &staged, from, &flag))
            .await
    });
    Ok(made.await?.unwrap_or_default())
}

/// Makes the image unless it is there; `fill` fills its tree. Callers at the same time wait for the
/// first.
async fn make<T>(
    pool: &Arc<InUse>,
    image: &Fingerprint,
    fill: impl AsyncFnOnce(&Path) -> Result<T, DriverError>,
) -> Result<Option<T>, DriverError> {
    let turn = pool.image_use.turn(image);
    let _turn = turn.lock().await;
    if blocking(pool, image, |pool, image| pool.find_image(image)).await? {
        return Ok(None);
    }
    let _in_use = pool.image_use.begin(image);
    let staged = blocking(pool, image, |pool, image| {
        pool.room.check()?;
        let staged = pool.stage(image.as_str())?;
        pool.trees.create(&staged)?;
        pool.steps.at("image's tree made")?;
        Ok(staged)
    })
    .await?;
    let filled = match fill(&staged).await {
        Ok(filled) => filled,
        Err(error) => {
            let leftover = staged.clone();
            blocking(pool, image, move |pool, _| {
                pool.throw_away(&leftover)?;
                Sweeper::sweep_in_background(&pool.sweeper);
                Ok(())
            })
            .await?;
            return Err(error);
        }
    };
    pool.steps.at("image unpacked")?;
    blocking(pool, image, move |pool, image| pool.place_image(&staged, image)).await?;
    Ok(Some(filled))
}

pub(super) async fn remove(pool: &Arc<InUse>, image: &Fingerprint) -> Result<(), DriverError> {
    let turn = pool.image_use.turn(image);
    let _turn = turn.lock().await;
    blocking(pool, image, |pool, image| pool.remove_image(image)).await
}

async fn blocking<T: Send + 'static>(
    pool: &Arc<InUse>,
    image: &Fingerprint,
    work: impl FnOnce(&Pool, &Fingerprint) -> Result<T, DriverError> + Send + 'static,
) -> Result<T, DriverError> {
    let (pool, image) = (pool.clone(), image.clone());
    super::blocking(move || work(&pool, &image)).await
}
