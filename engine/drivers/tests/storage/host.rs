//! A pool under test with all that is needed around it, and the proof that nothing stays behind.

use std::{
    collections::BTreeMap,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
};

use async_trait::async_trait;
use stapes_core::{
    ids::{Fingerprint, PoolId, VolumeId},
    port::{
        DriverError,
        storage::{
            IMAGE_FILE, RootLayers, Storage, UPPER,
            laws::{self, Subject},
        },
    },
    spec::{PoolDriver, PoolSpec, RootSource},
};
use stapes_drivers::storage::{HostStorage, Interruption, StorageConfig, Unpacker};
use tempfile::TempDir;

/// One test at a time. A namespace that one makes copies the mounts of all others, and a process
/// that one starts has everybody's files until it executes: both keep a pool busy, so that nobody
/// could prove that nothing is left behind.
pub(crate) async fn alone() -> tokio::sync::MutexGuard<'static, ()> {
    static ALONE: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());
    ALONE.lock().await
}

pub(crate) const POOL_BYTES: u64 = 512 << 20;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Btrfs,
    /// On a tmpfs of its own, so that it can be filled.
    Dir,
}

/// A directory that holds everything, and nothing afterwards.
#[derive(Debug)]
pub(crate) struct Ground {
    pub(crate) directory: TempDir,
    pub(crate) kind: Kind,
    /// Instead of the kind's own.
    pub(crate) source: Option<PathBuf>,
}

impl Ground {
    pub(crate) fn new(kind: Kind) -> Self {
        let directory = tempfile::Builder::new().prefix("stapes-storage-").tempdir().unwrap();
        let ground = Self { directory, kind, source: None };
        if kind == Kind::Dir {
            std::fs::create_dir(ground.source()).unwrap();
            rustix::mount::mount(
                "stapes-test",
                ground.source(),
                "tmpfs",
                rustix::mount::MountFlags::empty(),
                c"size=300m",
            )
            .unwrap();
        }
        ground
    }

    fn source(&self) -> PathBuf {
        self.directory.path().join("source")
    }

    pub(crate) fn pools(&self) -> PathBuf {
        self.directory.path().join("pools")
    }

    pub(crate) fn spec(&self) -> PoolSpec {
        let mut spec = spec(self.kind, self.directory.path());
        match &mut spec.driver {
            PoolDriver::Btrfs { source, size_bytes: _ } | PoolDriver::Dir { source } => {
                *source = self.source.clone().or_else(|| source.clone());
            }
        }
        spec
    }

    pub(crate) fn root(&self) -> PathBuf {
        match self.kind {
            Kind::Btrfs => self.pools().join(self.spec().pool.to_string()),
            Kind::Dir => self.source(),
        }
    }

    /// After the pool was removed: no mount, no loop device, no file.
    pub(crate) fn assert_empty(&self) {
        assert_eq!(loops(self.directory.path()), Vec::<String>::new());
        assert_eq!(std::fs::read_dir(self.pools()).map_or(0, Iterator::count), 0);
        let mut mounts = mounts(self.directory.path());
        if self.kind == Kind::Dir {
            assert_eq!(std::fs::read_dir(self.source()).unwrap().count(), 0);
            mounts.retain(|mount| *mount != self.source());
        }
        assert_eq!(mounts, Vec::<PathBuf>::new());
    }
}

impl Drop for Ground {
    fn drop(&mut self) {
        for mount in mounts(self.directory.path()).into_iter().rev() {
            let flags = rustix::mount::UnmountFlags::DETACH;
            rustix::mount::unmount(&mount, flags).unwrap();
        }
    }
}

pub(crate) fn spec(kind: Kind, directory: &Path) -> PoolSpec {
    let driver = match kind {
        Kind::Btrfs => PoolDriver::Btrfs { source: None, size_bytes: POOL_BYTES },
        Kind::Dir => PoolDriver::Dir { source: Some(directory.join("source")) },
    };
    // Two file systems of one uuid cannot be mounted at once.
    let pool = PoolId::derive(&["test", &directory.to_string_lossy()]);
    PoolSpec { pool, name: "test".into(), driver }
}

pub(crate) fn config(directory: &Path) -> StorageConfig {
    let images = Arc::new(TestImages);
    StorageConfig { pools_dir: directory.join("pools"), images, tag: "stapes".into() }
}

/// Mounts below the directory, the outermost first.
pub(crate) fn mounts(directory: &Path) -> Vec<PathBuf> {
    let text = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    let points = text.lines().filter_map(|line| line.split(' ').nth(4)).map(PathBuf::from);
    points.filter(|point| point.starts_with(directory)).collect()
}

/// Loop devices whose file is below the directory.
pub(crate) fn loops(directory: &Path) -> Vec<String> {
    let directory = directory.to_str().unwrap();
    let devices = std::fs::read_dir("/sys/block").unwrap().map(|entry| entry.unwrap().path());
    let files =
        devices.filter_map(|device| std::fs::read_to_string(device.join("loop/backing_file")).ok());
    files.filter(|file| file.contains(directory)).collect()
}

/// Every image holds [`IMAGE_FILE`] with its own fingerprint.
#[derive(Debug)]
pub(crate) struct TestImages;

#[async_trait]
impl Unpacker for TestImages {
    async fn unpack(&self, image: &Fingerprint, target: &Path) -> Result<(), DriverError> {
        let rootfs = target.join("rootfs");
        std::fs::create_dir(&rootfs).unwrap();
        std::fs::write(rootfs.join(IMAGE_FILE), image.as_str()).unwrap();
        std::fs::create_dir(rootfs.join("replaced")).unwrap();
        std::fs::write(rootfs.join("replaced/old"), "old").unwrap();
        std::fs::write(target.join("metadata.yaml"), "architecture: x86_64\n").unwrap();
        Ok(())
    }
}

/// All that can be seen of a tree but for when it was made and where it lies.
pub(crate) fn describe(top: &Path) -> BTreeMap<PathBuf, String> {
    let mut found = BTreeMap::new();
    let mut left = vec![PathBuf::new()];
    while let Some(path) = left.pop() {
        let at = top.join(&path);
        let stat = std::fs::symlink_metadata(&at).unwrap();
        let content = if stat.is_file() {
            blake3::hash(&std::fs::read(&at).unwrap()).to_string()
        } else if stat.is_symlink() {
            format!("{:?}", std::fs::read_link(&at).unwrap())
        } else {
            String::new()
        };
        if stat.is_dir() {
            let inside = std::fs::read_dir(&at).unwrap().map(|entry| entry.unwrap().file_name());
            left.extend(inside.map(|name| path.join(name)));
        }
        // A directory's size and count of links are its file system's affair.
        let shape = if stat.is_dir() { (0, 0) } else { (stat.size(), stat.nlink()) };
        let time = (stat.mtime(), stat.mtime_nsec());
        let owner = (stat.uid(), stat.gid(), stat.rdev());
        let kind = format!("{:o} {owner:?} {shape:?} {time:?}", stat.mode());
        found.insert(path, format!("{kind} {:?} {content}", attributes(&at)));
    }
    found
}

fn attributes(at: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut names = vec![0; 1 << 16];
    let length = rustix::fs::llistxattr(at, &mut names[..]).unwrap();
    let names = String::from_utf8(names[..length].to_vec()).unwrap();
    let read = |name: &str| {
        let mut value = vec![0; 1 << 16];
        let length = rustix::fs::lgetxattr(at, name, &mut value[..]).unwrap();
        (name.to_owned(), value[..length].to_vec())
    };
    names.split_terminator('\0').map(read).collect()
}

/// Interrupts after so many steps.
#[derive(Debug, Default)]
pub(crate) struct Countdown(Mutex<Option<u32>>);

impl Interruption for Countdown {
    fn at(&self, step: &'static str) -> Result<(), DriverError> {
        match &mut *self.0.lock().unwrap() {
            Some(0) => Err(DriverError::Failed(format!("interrupted: {step}"))),
            Some(left) => {
                *left -= 1;
                Ok(())
            }
            None => Ok(()),
        }
    }
}

#[derive(Debug)]
pub(crate) struct Host {
    pub(crate) ground: Ground,
    pub(crate) storage: HostStorage,
    countdown: Arc<Countdown>,
}

impl Host {
    pub(crate) fn new(kind: Kind) -> Self {
        let ground = Ground::new(kind);
        let countdown = Arc::new(Countdown::default());
        let config = config(ground.directory.path());
        let storage = HostStorage::interrupted_by(config, countdown.clone());
        Self { ground, storage, countdown }
    }
}

impl Host {
    pub(crate) fn id(&self) -> PoolId {
        self.ground.spec().pool
    }

    /// A daemon that has just started.
    pub(crate) fn restart(&mut self) {
        self.storage = HostStorage::new(config(self.ground.directory.path()));
    }

    pub(crate) async fn create_from_image(&self, volume: VolumeId) {
        self.storage.ensure_pool(&self.ground.spec()).await.unwrap();
        self.storage.ensure_image(self.id(), &laws::image()).await.unwrap();
        let source = RootSource::Image(laws::image());
        self.storage.create_root(self.id(), volume, &source, None).await.unwrap();
    }

    /// Deletes everything and proves it.
    pub(crate) async fn finish(&self) {
        for volume in self.storage.volumes(self.id()).await.unwrap() {
            self.storage.delete_volume(self.id(), volume).await.unwrap();
        }
        self.storage.remove_pool(self.id()).await.unwrap();
        self.ground.assert_empty();
    }
}

/// Where the guest's files are: what it wrote, and what it sees below that.
async fn trees(storage: &dyn Storage, pool: PoolId, volume: VolumeId) -> (PathBuf, PathBuf) {
    match storage.root_layers(pool, volume, None).await.unwrap() {
        RootLayers::Overlay { lower, volume } => (volume.join(UPPER), lower),
        RootLayers::Plain { root } => (root.clone(), root),
    }
}

#[async_trait]
impl Subject for Host {
    fn storage(&self) -> &dyn Storage {
        &self.storage
    }

    fn pool(&self) -> PoolSpec {
        self.ground.spec()
    }

    fn quotas(&self) -> bool {
        self.ground.kind == Kind::Btrfs
    }

    async fn write(&self, volume: VolumeId, name: &str, content: &[u8]) -> bool {
        let (upper, _) = trees(&self.storage, self.ground.spec().pool, volume).await;
        let path = upper.join(name);
        let written = std::fs::write(&path, content);
        if written.is_err() {
            std::fs::remove_file(&path).unwrap();
        }
        // What is written is accounted when it reaches the disk.
        rustix::fs::syncfs(std::fs::File::open(upper).unwrap()).unwrap();
        written.is_ok()
    }

    async fn read(&self, volume: VolumeId, name: &str) -> Option<Vec<u8>> {
        let (upper, lower) = trees(&self.storage, self.ground.spec().pool, volume).await;
        std::fs::read(upper.join(name)).or_else(|_| std::fs::read(lower.join(name))).ok()
    }

    async fn fill(&self, full: bool) {
        let root = self.ground.root();
        let filler = root.join("filler");
        if full {
            let disk = rustix::fs::statvfs(&root).unwrap();
            let file = std::fs::File::create(&filler).unwrap();
            let bytes = disk.f_bavail * disk.f_frsize - (48 << 20);
            rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, bytes).unwrap();
        } else {
            std::fs::remove_file(&filler).unwrap();
        }
        rustix::fs::syncfs(std::fs::File::open(root).unwrap()).unwrap();
    }

    fn interrupt_after(&self, steps: Option<u32>) {
        *self.countdown.0.lock().unwrap() = steps;
    }
}
