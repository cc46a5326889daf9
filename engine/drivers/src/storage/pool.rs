//! An open pool: how volumes come, go and are described. Snapshots, images and the trash are in
//! modules of their own. Everything here blocks.
//!
//! Each call does its work under a name in `tmp` and renames it last. A call that finds what a
//! killed predecessor left under that name throws it away and begins anew.

use std::{
    collections::BTreeSet,
    os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
    sync::Arc,
};

use stapes_core::{
    ids::{Fingerprint, SnapshotId, VolumeId},
    port::storage::{RootLayers, UPPER, Usage, WORK},
    spec::{Incarnation, RootSource},
};

use super::{
    error::{Context, DriverError},
    images::ImageUse,
    layout::{self, Layout, ROOTFS, VolumeKind},
    replaced,
    room::{self, Room},
    steps::Steps,
    trash::Sweeper,
    trees::{Access, Trees},
};

#[derive(Debug)]
pub(super) struct Pool {
    pub(super) layout: Layout,
    pub(super) trees: Arc<dyn Trees>,
    pub(super) room: Room,
    pub(super) steps: Steps,
    pub(super) image_use: ImageUse,
    pub(super) sweeper: Arc<Sweeper>,
}

impl Pool {
    /// Opens what is at the layout's root, and finishes what a killed predecessor began.
    pub(super) fn open(
        room: Room,
        trees: Arc<dyn Trees>,
        steps: Steps,
    ) -> Result<Self, DriverError> {
        let layout = Layout { root: room.root.clone() };
        layout.make()?;
        steps.at("layout made")?;
        let sweeper = Arc::new(Sweeper::new(layout.trash(), trees.clone()));
        let image_use = ImageUse::default();
        let pool = Self { layout, trees, room, steps, image_use, sweeper };
        for left in layout::names(&pool.layout.tmp())? {
            pool.throw_away(&pool.layout.tmp().join(left))?;
        }
        pool.sweep_unwanted_images()?;
        pool.trees.tidy()?;
        Sweeper::sweep_in_background(&pool.sweeper);
        Ok(pool)
    }

    /// Those that so far only have snapshots, too.
    pub(super) fn volume_ids(&self) -> Result<Vec<VolumeId>, DriverError> {
        let mut found = BTreeSet::new();
        for part in ["volumes", "snapshots", "incoming"] {
            let part = self.layout.root.join(part);
            for name in layout::names(&part)? {
                let Ok(volume) = name.parse::<VolumeId>() else { continue };
                // The directory of a volume's snapshots outlives the last of them.
                if !layout::names(&part.join(name))?.is_empty() {
                    found.insert(volume);
                }
            }
        }
        Ok(found.into_iter().collect())
    }

    /// What was done here so far survives a loss of power.
    pub(super) fn flush(&self) -> Result<(), DriverError> {
        self.trees.flush(&self.layout.root)
    }

    pub(super) fn kind(&self, volume: VolumeId) -> Result<VolumeKind, DriverError> {
        layout::read_kind(&self.layout.volume(volume))?.ok_or_else(|| self.no_volume(volume))
    }

    pub(super) fn no_volume(&self, volume: VolumeId) -> DriverError {
        DriverError::NotFound(format!("volume {volume} in pool {}", self.room.pool))
    }

    pub(super) fn create(
        &self,
        volume: VolumeId,
        source: &RootSource,
        quota_bytes: Option<u64>,
    ) -> Result<(), DriverError> {
        let at = self.layout.volume(volume);
        self.trees.check_limit(quota_bytes)?;
        if layout::exists(&at)? {
            // A copy has its limit after its name.
            self.trees.set_limit(&at, quota_bytes)?;
        } else {
            match source {
                RootSource::Image(image) => self.create_from_image(volume, image, quota_bytes)?,
                RootSource::Volume { volume: source, snapshot, image: _ } => {
                    self.create_copy(volume, *source, *snapshot, quota_bytes)?;
                }
                RootSource::Empty => self.create_empty(volume, quota_bytes)?,
            }
        }
        self.keep_arrived(volume, source)
    }

    /// What arrived and became a root may be the only copy from now on.
    fn keep_arrived(&self, volume: VolumeId, source: &RootSource) -> Result<(), DriverError> {
        match source {
            RootSource::Volume { volume: source, snapshot: Some(_), image: _ }
                if *source == volume =>
            {
                self.trees.flush(&self.layout.volume(volume))?;
                self.steps.at("root flushed")
            }
            RootSource::Volume { volume: _, snapshot: _, image: _ }
            | RootSource::Image(_)
            | RootSource::Empty => Ok(()),
        }
    }

    /// The new content is made under another volume's name, and they change places. Images that
    /// the volume's snapshots lie on stay marked as used by it.
    pub(super) fn replace(
        &self,
        volume: VolumeId,
        source: &RootSource,
        quota_bytes: Option<u64>,
        request: Incarnation,
    ) -> Result<(), DriverError> {
        self.kind(volume)?;
        let stand_in = VolumeId::derive(&["replacement", &volume.to_string()]);
        self.delete(stand_in)?;
        let (new, old) = (self.layout.volume(stand_in), self.layout.volume(volume));
        if replaced::at(&old, volume)? < Some(request) {
            self.create(stand_in, source, quota_bytes)?;
            let _used = match self.kind(stand_in)? {
                VolumeKind::Overlay { image } => Some(self.use_image(&image, volume, false)?),
                VolumeKind::Plain => None,
            };
            replaced::mark(&new, volume, request)?;
            exchange(&new, &old)?;
            self.steps.at("roots exchanged")?;
        }
        self.trees.commit(&self.layout.volumes())?;
        self.keep_arrived(volume, source)?;
        self.delete(stand_in)
    }

    fn create_from_image(
        &self,
        volume: VolumeId,
        image: &Fingerprint,
        quota_bytes: Option<u64>,
    ) -> Result<(), DriverError> {
        if !self.trees.overlays() {
            let _used = self.image_use.begin(image);
            self.check_wanted(image)?;
            self.room.check()?;
            return self.place(volume, quota_bytes, |staged| {
                self.trees.copy(&self.layout.image(image), staged, Access::Writable)?;
                layout::write_kind(staged, &VolumeKind::Plain)
            });
        }
        let _used = self.use_image(image, volume, true)?;
        self.room.check()?;
        let kind = VolumeKind::Overlay { image: image.clone() };
        self.place(volume, quota_bytes, |staged| {
            self.trees.create(staged)?;
            self.steps.at("tree made")?;
            make_upper(&self.layout.image(image).join(ROOTFS), &staged.join(UPPER))?;
            make_private(&staged.join(WORK))?;
            layout::write_kind(staged, &kind)
        })
    }

    fn create_empty(&self, volume: VolumeId, quota_bytes: Option<u64>) -> Result<(), DriverError> {
        self.room.check()?;
        self.place(volume, quota_bytes, |staged| {
            self.trees.create(staged)?;
            self.steps.at("tree made")?;
            let rootfs = staged.join(ROOTFS);
            layout::make_dir(&rootfs)?;
            let public = std::fs::set_permissions(&rootfs, PermissionsExt::from_mode(0o755));
            public.context(|| format!("opening {}", rootfs.display()))?;
            layout::write_kind(staged, &VolumeKind::Plain)
        })
    }

    fn create_copy(
        &self,
        volume: VolumeId,
        source: VolumeId,
        snapshot: Option<SnapshotId>,
        quota_bytes: Option<u64>,
    ) -> Result<(), DriverError> {
        let from = match snapshot {
            None => self.layout.volume(source),
            Some(snapshot) => self.layout.snapshot(source, snapshot),
        };
        let kind = layout::read_kind(&from)?.ok_or_else(|| match snapshot {
            None => self.no_volume(source),
            Some(snapshot) => self.no_snapshot(source, snapshot),
        })?;
        let _used = match &kind {
            VolumeKind::Overlay { image } => {
                let used = self.use_image(image, volume, false)?;
                // A received volume may be here before its image.
                self.check_present(image)?;
                Some(used)
            }
            VolumeKind::Plain => None,
        };
        self.room.check()?;
        if !self.trees.copies_at_once() {
            return self.place(volume, quota_bytes, |staged| {
                self.trees.copy(&from, staged, Access::Writable)
            });
        }
        let at = self.layout.volume(volume);
        if let Some(snapshot) = snapshot
            && self.adopt_arrival(source, snapshot, &at, quota_bytes)?
        {
            return Ok(());
        }
        self.trees.copy(&from, &at, Access::Writable)?;
        self.steps.at("copy made")?;
        self.trees.set_limit(&at, quota_bytes)?;
        self.steps.at("copy limited")
    }

    /// Makes a tree under a temporary name and gives it the volume's.
    fn place(
        &self,
        volume: VolumeId,
        quota_bytes: Option<u64>,
        make: impl FnOnce(&Path) -> Result<(), DriverError>,
    ) -> Result<(), DriverError> {
        let staged = self.stage(&volume.to_string())?;
        make(&staged)?;
        self.steps.at("volume staged")?;
        self.trees.set_limit(&staged, quota_bytes)?;
        self.steps.at("volume limited")?;
        rename(&staged, &self.layout.volume(volume))?;
        self.steps.at("volume placed")?;
        self.trees.commit(&self.layout.volumes())?;
        self.steps.at("volume committed")
    }

    /// A name in `tmp` that nothing has.
    pub(super) fn stage(&self, name: &str) -> Result<PathBuf, DriverError> {
        let staged = self.layout.tmp().join(name);
        self.throw_away(&staged)?;
        self.steps.at("leftover thrown away")?;
        Ok(staged)
    }

    pub(super) fn delete(&self, volume: VolumeId) -> Result<(), DriverError> {
        let at = self.layout.volume(volume);
        self.throw_away(&at)?;
        self.steps.at("volume thrown away")?;
        self.throw_away(&self.layout.snapshots(volume))?;
        self.steps.at("snapshots thrown away")?;
        self.throw_away(&self.layout.arrivals(volume))?;
        self.steps.at("arrivals thrown away")?;
        self.throw_away(&self.layout.tmp().join(volume.to_string()))?;
        // The volume's snapshots may lie on other images than its root.
        self.disuse_images(volume)?;
        Sweeper::sweep_in_background(&self.sweeper);
        self.steps.at("image given back")
    }

    pub(super) fn set_quota(
        &self,
        volume: VolumeId,
        quota_bytes: Option<u64>,
    ) -> Result<(), DriverError> {
        self.kind(volume)?;
        self.trees.check_limit(quota_bytes)?;
        self.trees.set_limit(&self.layout.volume(volume), quota_bytes)?;
        self.steps.at("quota set")
    }

    pub(super) fn usage(&self) -> Result<Usage, DriverError> {
        room::usage(&self.layout.root)
    }

    pub(super) fn volume_usage(&self, volume: VolumeId) -> Result<Usage, DriverError> {
        self.kind(volume)?;
        let tree = self.trees.usage(&self.layout.volume(volume))?;
        let total_bytes = match tree.limit_bytes {
            Some(limit) => limit,
            None => self.usage()?.total_bytes,
        };
        Ok(Usage { used_bytes: tree.used_bytes, total_bytes })
    }

    pub(super) fn layers(
        &self,
        volume: VolumeId,
        expected: Option<&Fingerprint>,
    ) -> Result<RootLayers, DriverError> {
        let at = self.layout.volume(volume);
        match self.kind(volume)? {
            VolumeKind::Plain => Ok(RootLayers::Plain { root: at.join(ROOTFS) }),
            VolumeKind::Overlay { image } => {
                if let Some(expected) = expected.filter(|expected| **expected != image) {
                    return Err(DriverError::Refused(format!(
                        "volume {volume} is made from image {image}, not from {expected}"
                    )));
                }
                let lower = self.layout.image(&image).join(ROOTFS);
                if !layout::exists(&lower)? {
                    return Err(DriverError::Refused(format!(
                        "image {image}, which volume {volume} is made from, is missing in pool {}: \
                         put it back from a backup of the pool",
                        self.room.pool
                    )));
                }
                Ok(RootLayers::Overlay { lower, volume: at })
            }
        }
    }

    pub(super) fn path(&self, volume: VolumeId) -> Result<PathBuf, DriverError> {
        match self.kind(volume)? {
            VolumeKind::Plain => Ok(self.layout.volume(volume).join(ROOTFS)),
            VolumeKind::Overlay { image: _ } => Err(DriverError::Refused(format!(
                "volume {volume} is an instance's root, which has no path of its own"
            ))),
        }
    }
}

/// The upper layer's root is what the guest sees as its `/`, so it is owned and open as the image's.
fn make_upper(lower: &Path, upper: &Path) -> Result<(), DriverError> {
    let make = || {
        let below = std::fs::symlink_metadata(lower)?;
        std::fs::create_dir(upper)?;
        std::os::unix::fs::lchown(upper, Some(below.uid()), Some(below.gid()))?;
        std::fs::set_permissions(upper, PermissionsExt::from_mode(below.mode() & 0o7777))
    };
    make().context(|| format!("making {}", upper.display()))
}

fn make_private(path: &Path) -> Result<(), DriverError> {
    let made = std::fs::DirBuilder::new().mode(0o700).create(path);
    made.context(|| format!("making {}", path.display()))
}

pub(super) fn rename(from: &Path, to: &Path) -> Result<(), DriverError> {
    let renamed = std::fs::rename(from, to);
    renamed.context(|| format!("renaming {} to {}", from.display(), to.display()))
}

/// Two trees change places at once.
pub(super) fn exchange(one: &Path, other: &Path) -> Result<(), DriverError> {
    use rustix::fs::{CWD, RenameFlags, renameat_with};
    let exchanged = renameat_with(CWD, one, CWD, other, RenameFlags::EXCHANGE);
    exchanged.context(|| format!("exchanging {} and {}", one.display(), other.display()))
}
