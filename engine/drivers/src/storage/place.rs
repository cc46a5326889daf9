//! Where a pool is on the host: made, found again and taken away. Blocks.
//!
//! | driver            | root of the pool          | what stapes made, and removes             |
//! |-------------------|---------------------------|-------------------------------------------|
//! | dir               | `<pools>/<pool>/`         | the directory                             |
//! | dir, source       | the source                | what is in it                             |
//! | btrfs             | `<pools>/<pool>/`         | `<pools>/<pool>.img`, mounted by a loop   |
//! | btrfs, a device   | `<pools>/<pool>/`         | the file system on the device             |
//! | btrfs, a directory| the source                | what is in it                             |

use std::{
    os::unix::fs::FileTypeExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use stapes_core::spec::{PoolDriver, PoolSpec};

use super::{
    StorageConfig,
    btrfs::{
        BtrfsTrees, Quotas,
        filesystem::{self, Filesystem},
    },
    dir::DirTrees,
    error::{Context, DriverError},
    layout,
    pool::Pool,
    record::{Record, State},
    room::Room,
    steps::Steps,
    trees::Trees,
};

/// In the root of a pool that is a directory of somebody else: the pool's id.
const CLAIM_FILE: &str = ".stapes-pool";

/// One pool and its surroundings.
#[derive(Debug)]
pub(super) struct Place<'a> {
    pub(super) config: &'a StorageConfig,
    pub(super) steps: &'a Steps,
    pub(super) spec: &'a PoolSpec,
}

/// What the driver's source is.
enum Source<'a> {
    /// Ours, below the pools' directory.
    Own,
    Directory(&'a Path),
    Device(&'a Path),
}

impl Place<'_> {
    /// Opens the pool, after making it if it is new.
    pub(super) fn open(&self) -> Result<Pool, DriverError> {
        let pools = &self.config.pools_dir;
        std::fs::create_dir_all(pools).context(|| format!("making {}", pools.display()))?;
        let known = Record::read(pools, self.spec.pool)?;
        let is_new = known.is_none();
        match self.open_known(known) {
            Err(error @ (DriverError::Refused(_) | DriverError::Full(_))) if is_new => {
                // A refusal changes nothing. What has the pool's name stays: it may be data.
                layout::remove_file(&self.file().with_extension("img.part"))?;
                Record::remove(pools, self.spec.pool)?;
                Err(error)
            }
            opened => opened,
        }
    }

    fn open_known(&self, known: Option<Record>) -> Result<Pool, DriverError> {
        let pools = &self.config.pools_dir;
        let state = known.as_ref().map_or(State::Making, |record| record.state);
        if let Some(record) = &known {
            self.check_same(&record.spec)?;
        }
        if known.as_ref().is_none_or(|record| record.spec != *self.spec) {
            Record { spec: self.spec.clone(), state }.write(pools)?;
            self.steps.at("record begun")?;
        }
        let (root, trees) = self.mount(state)?;
        let below = match (&self.spec.driver, self.source()?) {
            (PoolDriver::Btrfs { source: _, size_bytes: _ }, Source::Own) => Some(pools.clone()),
            (PoolDriver::Btrfs { source: _, size_bytes: _ } | PoolDriver::Dir { source: _ }, _) => {
                None
            }
        };
        let room = Room { pool: self.spec.name.clone(), root, below };
        let pool = Pool::open(room, trees, self.steps.clone())?;
        if state == State::Making {
            Record { spec: self.spec.clone(), state: State::Ready }.write(pools)?;
            self.steps.at("record written")?;
        }
        Ok(pool)
    }

    /// A pool keeps its driver and source; its size may grow.
    fn check_same(&self, known: &PoolSpec) -> Result<(), DriverError> {
        let same = match (&known.driver, &self.spec.driver) {
            (PoolDriver::Dir { source }, PoolDriver::Dir { source: asked }) => source == asked,
            (
                PoolDriver::Btrfs { source, size_bytes: _ },
                PoolDriver::Btrfs { source: asked, size_bytes: _ },
            ) => source == asked,
            (PoolDriver::Dir { source: _ }, PoolDriver::Btrfs { source: _, size_bytes: _ })
            | (PoolDriver::Btrfs { source: _, size_bytes: _ }, PoolDriver::Dir { source: _ }) => {
                false
            }
        };
        if same {
            return Ok(());
        }
        Err(DriverError::Refused(format!(
            "pool {} is there with another driver or source ({:?}). Nothing was changed. Make a \
             new pool and copy its volumes there",
            self.spec.name, known.driver
        )))
    }

    fn mount(&self, state: State) -> Result<(PathBuf, Arc<dyn Trees>), DriverError> {
        let mountpoint = self.mountpoint();
        match (&self.spec.driver, self.source()?) {
            (PoolDriver::Dir { source: _ }, Source::Own) => {
                layout::make_dir(&mountpoint)?;
                let trees = Arc::new(DirTrees::on(&mountpoint)?);
                Ok((mountpoint, trees))
            }
            (PoolDriver::Dir { source: _ }, Source::Directory(source)) => {
                self.claim(source)?;
                Ok((source.to_owned(), Arc::new(DirTrees::on(source)?)))
            }
            (PoolDriver::Dir { source: _ }, Source::Device(source)) => Err(refused_source(source)),
            (PoolDriver::Btrfs { source: _, size_bytes }, Source::Own) => {
                let quotas = self.mount_file(state, *size_bytes)?;
                Ok((mountpoint.clone(), Arc::new(BtrfsTrees { quotas, root: mountpoint })))
            }
            (PoolDriver::Btrfs { source: _, size_bytes: _ }, Source::Device(device)) => {
                let quotas = self.mount_device(state, device)?;
                Ok((mountpoint.clone(), Arc::new(BtrfsTrees { quotas, root: mountpoint })))
            }
            (PoolDriver::Btrfs { source: _, size_bytes: _ }, Source::Directory(source)) => {
                let Some(uuid) = filesystem::uuid_below(source)? else {
                    return Err(DriverError::Refused(format!(
                        "{} is not on a btrfs. Nothing was made. Use the driver dir there, or \
                         leave the source out for a btrfs in a file",
                        source.display()
                    )));
                };
                self.claim(source)?;
                let quotas = filesystem::quotas(uuid);
                Ok((source.to_owned(), Arc::new(BtrfsTrees { quotas, root: source.to_owned() })))
            }
        }
    }

    fn mount_file(&self, state: State, size_bytes: u64) -> Result<Quotas, DriverError> {
        let (filesystem, file) = (self.filesystem(), self.file());
        match state {
            State::Making => filesystem.make_file(&file, size_bytes)?,
            State::Ready | State::Removing if !layout::exists(&file)? => {
                return Err(DriverError::Refused(format!(
                    "{}, which holds pool {}, is missing. Nothing was changed. Put it back from a \
                     backup, or delete the pool",
                    file.display(),
                    self.spec.name
                )));
            }
            State::Ready | State::Removing => {}
        }
        filesystem.mount_file(&file)?;
        filesystem.grow_file(&file, size_bytes)?;
        filesystem.enable_quotas()
    }

    fn mount_device(&self, state: State, device: &Path) -> Result<Quotas, DriverError> {
        let filesystem = self.filesystem();
        if !filesystem.mounted()? {
            // A predecessor may have made the file system and no more.
            if state == State::Making && !filesystem::is_on_device(filesystem.uuid, device)? {
                filesystem.format(device)?;
                self.steps.at("device formatted")?;
            }
            filesystem.mount(device)?;
        }
        filesystem.enable_quotas()
    }

    /// Takes a directory of somebody else's for the pool; it must be empty.
    fn claim(&self, directory: &Path) -> Result<(), DriverError> {
        let (file, id) = (directory.join(CLAIM_FILE), self.spec.pool.to_string());
        match self.claimed(directory) {
            Some(owner) if owner == id => return Ok(()),
            Some(owner) => {
                return Err(DriverError::Refused(format!(
                    "{} holds another pool ({}). Nothing was changed. Name an empty directory",
                    directory.display(),
                    owner
                )));
            }
            None => {}
        }
        if !layout::names(directory)?.is_empty() {
            return Err(DriverError::Refused(format!(
                "{} is not empty. Nothing was changed. Name an empty directory",
                directory.display()
            )));
        }
        std::fs::write(&file, id).context(|| format!("writing {}", file.display()))?;
        self.steps.at("directory claimed")
    }

    /// The id of the pool that the directory was taken for.
    fn claimed(&self, directory: &Path) -> Option<String> {
        let owner = std::fs::read_to_string(directory.join(CLAIM_FILE)).ok()?;
        Some(owner.trim().to_owned())
    }

    /// Takes away what is left of a pool without volumes. `pool` is the open one, if it could be
    /// opened.
    pub(super) fn remove(&self, pool: Option<&Pool>) -> Result<(), DriverError> {
        let pools = &self.config.pools_dir;
        Record { spec: self.spec.clone(), state: State::Removing }.write(pools)?;
        self.steps.at("removal begun")?;
        if let Some(pool) = pool {
            pool.sweeper.close()?;
            self.steps.at("trash emptied")?;
            pool.layout.remove(pool.trees.as_ref())?;
            self.steps.at("layout removed")?;
        }
        let filesystem = self.filesystem();
        match (&self.spec.driver, self.source()?) {
            (PoolDriver::Btrfs { source: _, size_bytes: _ }, Source::Own) => {
                filesystem.unmount()?;
                layout::remove_file(&self.file().with_extension("img.part"))?;
                layout::remove_file(&self.file())?;
            }
            (PoolDriver::Btrfs { source: _, size_bytes: _ }, Source::Device(device)) => {
                filesystem.unmount()?;
                if filesystem::is_on_device(filesystem.uuid, device)? {
                    filesystem::wipe(device)?;
                }
            }
            (
                PoolDriver::Btrfs { source: _, size_bytes: _ } | PoolDriver::Dir { source: _ },
                Source::Directory(source),
            ) => {
                if self.claimed(source).is_some_and(|owner| owner == self.spec.pool.to_string()) {
                    layout::remove_file(&source.join(CLAIM_FILE))?;
                }
            }
            (PoolDriver::Dir { source: _ }, Source::Own | Source::Device(_)) => {
                layout::remove_dir(&self.mountpoint())?;
            }
        }
        self.steps.at("place removed")?;
        Record::remove(pools, self.spec.pool)
    }

    /// Whether nothing is left of what holds the pool.
    pub(super) fn is_missing(&self) -> Result<bool, DriverError> {
        match (&self.spec.driver, self.source()?) {
            (PoolDriver::Btrfs { source: _, size_bytes: _ }, Source::Own) => {
                Ok(!layout::exists(&self.file())? && !self.filesystem().mounted()?)
            }
            (PoolDriver::Btrfs { source: _, size_bytes: _ } | PoolDriver::Dir { source: _ }, _) => {
                Ok(false)
            }
        }
    }

    fn source(&self) -> Result<Source<'_>, DriverError> {
        let (PoolDriver::Dir { source } | PoolDriver::Btrfs { source, size_bytes: _ }) =
            &self.spec.driver;
        let Some(source) = source else { return Ok(Source::Own) };
        match std::fs::metadata(source) {
            Ok(found) if found.is_dir() && source.is_absolute() => Ok(Source::Directory(source)),
            Ok(found) if found.file_type().is_block_device() => Ok(Source::Device(source)),
            Ok(_) | Err(_) => Err(refused_source(source)),
        }
    }

    fn mountpoint(&self) -> PathBuf {
        self.config.pools_dir.join(self.spec.pool.to_string())
    }

    fn file(&self) -> PathBuf {
        self.config.pools_dir.join(format!("{}.img", self.spec.pool))
    }

    fn filesystem(&self) -> Filesystem {
        Filesystem {
            uuid: filesystem::uuid_of(self.spec.pool, &self.config.tag),
            label: self.config.tag.clone(),
            mountpoint: self.mountpoint(),
            steps: self.steps.clone(),
        }
    }
}

fn refused_source(source: &Path) -> DriverError {
    DriverError::Refused(format!(
        "{} is no absolute path of a directory (or, for btrfs, a block device). Nothing was \
         changed. Name one that is there, or leave the source out",
        source.display()
    ))
}
