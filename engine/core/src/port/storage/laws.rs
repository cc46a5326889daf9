//! What every storage must do.
//!
//! The laws work in one pool of at least 256 MiB, with ids that follow from the law's name, and
//! leave nothing in it. The image that they use holds the file [`IMAGE_FILE`] with its own
//! fingerprint as content.

use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;

use super::{DriverError, IMAGE_FILE, Storage};
use crate::{
    ids::{Epoch, Fingerprint, Generation, PoolId, SnapshotId, VolumeId},
    spec::{Incarnation, PoolSpec, RootSource},
};

mod contents;
mod travel;

/// Steps after which a call that is interrupted again and again must have got through.
const STEPS_MAX: u32 = 64;
const MIB: usize = 1 << 20;

/// A storage under test, and what the laws need beside the port.
#[async_trait]
pub trait Subject: Send + Sync {
    fn storage(&self) -> &dyn Storage;
    fn pool(&self) -> PoolSpec;
    /// Whether volumes of this pool can have quotas. Where not, asking for one must be refused.
    fn quotas(&self) -> bool;
    /// Writes a file as a guest would; says whether there was room.
    async fn write(&self, volume: VolumeId, name: &str, content: &[u8]) -> bool;
    /// Reads a file as a guest would.
    async fn read(&self, volume: VolumeId, name: &str) -> Option<Vec<u8>>;
    /// Leaves no room in the pool, or gives it back.
    async fn fill(&self, full: bool);
    /// Calls stop with [`DriverError::Failed`] after this many steps and clean nothing up, as
    /// though they were killed there.
    fn interrupt_after(&self, steps: Option<u32>);
}

/// The image that the laws use.
#[must_use]
pub fn image() -> Fingerprint {
    Fingerprint::new("1a".repeat(32)).expect("64 digits")
}

/// All laws, one after the other, beginning without the pool and ending without it.
///
/// # Panics
/// When a law is broken.
pub async fn all(subject: &dyn Subject) {
    unknown_pools_are_not_found(subject).await;
    let (storage, pool) = (subject.storage(), subject.pool().pool);
    let law = Law { subject, storage, pool, requests: AtomicU64::new(1) };
    for _ in 0..2 {
        law.storage.ensure_pool(&subject.pool()).await.expect("the pool is made");
    }
    law.unknown_things_are_not_found().await;
    law.volumes_come_and_go().await;
    law.a_root_holds_its_image().await;
    law.a_removed_image_stays_until_unused().await;
    law.contents_come_back().await;
    law.copies_are_independent().await;
    law.roots_travel().await;
    law.quotas_hold_or_are_refused().await;
    law.interrupted_calls_converge().await;
    law.many_at_once().await;
    law.a_full_pool_says_so().await;
    law.a_pool_with_volumes_stays().await;
    unknown_pools_are_not_found(subject).await;
}

/// Whatever is asked of a pool that is not there; removing it is fine.
async fn unknown_pools_are_not_found(subject: &dyn Subject) {
    let (storage, pool) = (subject.storage(), subject.pool().pool);
    let volume = VolumeId::derive(&["unknown"]);
    not_found(storage.pool_usage(pool).await);
    not_found(storage.volumes(pool).await);
    not_found(storage.ensure_image(pool, &image()).await);
    not_found(storage.create_root(pool, volume, &RootSource::Empty, None).await);
    not_found(storage.delete_volume(pool, volume).await);
    storage.remove_pool(pool).await.expect("there is none");
}

struct Law<'a> {
    subject: &'a dyn Subject,
    storage: &'a dyn Storage,
    pool: PoolId,
    /// Made so far; see [`Law::request`].
    requests: AtomicU64,
}

impl Law<'_> {
    async fn create(&self, volume: VolumeId, source: &RootSource) {
        for _ in 0..2 {
            let made = self.storage.create_root(self.pool, volume, source, None).await;
            made.expect("the volume is made");
        }
    }

    async fn create_from_image(&self, volume: VolumeId) {
        for _ in 0..2 {
            let there = self.storage.ensure_image(self.pool, &image()).await;
            there.expect("the image is unpacked");
        }
        self.create(volume, &RootSource::Image(image())).await;
    }

    async fn delete(&self, volume: VolumeId) {
        for _ in 0..2 {
            let gone = self.storage.delete_volume(self.pool, volume).await;
            gone.expect("the volume is deleted");
        }
    }

    async fn write(&self, volume: VolumeId, name: &str, content: &[u8]) {
        assert!(self.subject.write(volume, name, content).await, "there is room for {name}");
    }

    async fn expect(&self, volume: VolumeId, name: &str, content: Option<&[u8]>) {
        let read = self.subject.read(volume, name).await;
        assert_eq!(read.as_deref(), content, "{name} in {volume}");
    }

    async fn volumes(&self) -> Vec<VolumeId> {
        let mut volumes = self.storage.volumes(self.pool).await.expect("they are listed");
        volumes.sort();
        volumes
    }

    async fn unknown_things_are_not_found(&self) {
        let (storage, pool) = (self.storage, self.pool);
        let volume = VolumeId::derive(&["unknown"]);
        let snapshot = SnapshotId::derive(&["unknown"]);
        let source = RootSource::Volume { volume, snapshot: None, image: None };
        let other = VolumeId::derive(&["unknown", "other"]);
        not_found(storage.create_root(pool, other, &source, None).await);
        not_found(storage.create_root(pool, other, &RootSource::Image(image()), None).await);
        not_found(storage.set_quota(pool, volume, None).await);
        not_found(storage.volume_usage(pool, volume).await);
        not_found(storage.create_snapshot(pool, volume, snapshot).await);
        not_found(storage.restore_snapshot(pool, volume, snapshot, self.request()).await);
        not_found(storage.root_layers(pool, volume, None).await);
        not_found(storage.volume_path(pool, volume).await);
        storage.delete_snapshot(pool, volume, snapshot).await.expect("there is none");
        self.create(volume, &RootSource::Empty).await;
        not_found(storage.restore_snapshot(pool, volume, snapshot, self.request()).await);
        let source = RootSource::Volume { volume, snapshot: Some(snapshot), image: None };
        not_found(storage.create_root(pool, other, &source, None).await);
        storage.delete_snapshot(pool, volume, snapshot).await.expect("there is none");
        self.delete(volume).await;
        assert_eq!(self.volumes().await, []);
    }

    /// What is written is there when a call is repeated, and gone when the volume is.
    async fn volumes_come_and_go(&self) {
        let mut volumes = [VolumeId::derive(&["come", "1"]), VolumeId::derive(&["come", "2"])];
        volumes.sort();
        self.create(volumes[0], &RootSource::Empty).await;
        self.write(volumes[0], "a", b"kept").await;
        for _ in 0..2 {
            let made = self.storage.create_volume(self.pool, volumes[1], None).await;
            made.expect("the volume is made");
        }
        self.create(volumes[0], &RootSource::Empty).await;
        self.expect(volumes[0], "a", Some(b"kept")).await;
        self.storage.volume_path(self.pool, volumes[1]).await.expect("it is there");
        assert_eq!(self.volumes().await, volumes);
        self.delete(volumes[0]).await;
        assert_eq!(self.volumes().await, volumes[1..]);
        self.create(volumes[0], &RootSource::Empty).await;
        self.expect(volumes[0], "a", None).await;
        self.delete(volumes[0]).await;
        self.delete(volumes[1]).await;
        assert_eq!(self.volumes().await, []);
    }

    /// Two roots of one image see it, and not each other.
    async fn a_root_holds_its_image(&self) {
        let [one, two] = [VolumeId::derive(&["image", "1"]), VolumeId::derive(&["image", "2"])];
        self.create_from_image(one).await;
        self.create_from_image(two).await;
        self.write(one, "a", b"mine").await;
        for volume in [one, two] {
            self.expect(volume, IMAGE_FILE, Some(image().as_str().as_bytes())).await;
            let layers = self.storage.root_layers(self.pool, volume, Some(&image())).await;
            layers.expect("it has layers");
        }
        self.expect(two, "a", None).await;
        self.write(one, IMAGE_FILE, b"changed").await;
        self.expect(one, IMAGE_FILE, Some(b"changed")).await;
        self.expect(two, IMAGE_FILE, Some(image().as_str().as_bytes())).await;
        self.delete(one).await;
        self.delete(two).await;
    }

    async fn a_removed_image_stays_until_unused(&self) {
        let [one, two] = [VolumeId::derive(&["unused", "1"]), VolumeId::derive(&["unused", "2"])];
        self.create_from_image(one).await;
        for _ in 0..2 {
            let gone = self.storage.remove_image(self.pool, &image()).await;
            gone.expect("the image is removed");
        }
        self.expect(one, IMAGE_FILE, Some(image().as_str().as_bytes())).await;
        let source = RootSource::Image(image());
        not_found(self.storage.create_root(self.pool, two, &source, None).await);
        let copy = RootSource::Volume { volume: one, snapshot: None, image: Some(image()) };
        self.create(two, &copy).await;
        self.delete(one).await;
        self.expect(two, IMAGE_FILE, Some(image().as_str().as_bytes())).await;
        self.delete(two).await;
        not_found(self.storage.create_root(self.pool, two, &source, None).await);
        self.create_from_image(two).await;
        self.expect(two, IMAGE_FILE, Some(image().as_str().as_bytes())).await;
        self.delete(two).await;
    }

    /// The next one's incarnation.
    fn request(&self) -> Incarnation {
        let number = self.requests.fetch_add(1, Ordering::Relaxed);
        Incarnation { epoch: Epoch(0), generation: Generation(number) }
    }

    async fn copies_are_independent(&self) {
        let volume = VolumeId::derive(&["copies"]);
        let [now, then] = [VolumeId::derive(&["copies", "1"]), VolumeId::derive(&["copies", "2"])];
        let snapshot = SnapshotId::derive(&["copies"]);
        self.create_from_image(volume).await;
        self.write(volume, "a", b"then").await;
        self.snapshot(volume, snapshot).await;
        self.write(volume, "a", b"now").await;
        let source = |snapshot| RootSource::Volume { volume, snapshot, image: Some(image()) };
        self.create(now, &source(None)).await;
        self.create(then, &source(Some(snapshot))).await;
        self.write(volume, "a", b"later").await;
        self.delete(volume).await;
        self.expect(now, "a", Some(b"now")).await;
        self.expect(then, "a", Some(b"then")).await;
        self.expect(then, IMAGE_FILE, Some(image().as_str().as_bytes())).await;
        self.write(then, "a", b"writable").await;
        self.expect(now, "a", Some(b"now")).await;
        // It is there although what it was made from is not.
        self.create(now, &source(None)).await;
        self.delete(now).await;
        self.delete(then).await;
    }

    async fn quotas_hold_or_are_refused(&self) {
        let volume = VolumeId::derive(&["quota"]);
        let quota = Some(8 * MIB as u64);
        if !self.subject.quotas() {
            let answer =
                self.storage.create_root(self.pool, volume, &RootSource::Empty, quota).await;
            assert!(matches!(answer, Err(DriverError::Refused(_))), "{answer:?}");
            assert_eq!(self.volumes().await, []);
            return;
        }
        for _ in 0..2 {
            let made = self.storage.create_root(self.pool, volume, &RootSource::Empty, quota).await;
            made.expect("the volume is made");
        }
        self.write(volume, "a", &vec![1; 4 * MIB]).await;
        assert!(!self.subject.write(volume, "b", &vec![1; 8 * MIB]).await, "the quota holds");
        for _ in 0..2 {
            let set = self.storage.set_quota(self.pool, volume, Some(32 * MIB as u64)).await;
            set.expect("the quota is set");
        }
        self.write(volume, "b", &vec![1; 8 * MIB]).await;
        let usage = self.storage.volume_usage(self.pool, volume).await.expect("it is known");
        assert_eq!(usage.total_bytes, 32 * MIB as u64);
        assert!((12 * MIB as u64..14 * MIB as u64).contains(&usage.used_bytes), "{usage:?}");
        // What a restore brings back is under the same quota as what it replaces.
        let snapshot = SnapshotId::derive(&["quota"]);
        self.snapshot(volume, snapshot).await;
        self.restore(volume, snapshot).await;
        let usage = self.storage.volume_usage(self.pool, volume).await.expect("it is known");
        assert_eq!(usage.total_bytes, 32 * MIB as u64);
        assert!(!self.subject.write(volume, "c", &vec![1; 40 * MIB]).await, "the quota holds");
        self.storage.set_quota(self.pool, volume, None).await.expect("the quota is lifted");
        self.write(volume, "c", &vec![1; 40 * MIB]).await;
        let pool = self.storage.pool_usage(self.pool).await.expect("it is known");
        let usage = self.storage.volume_usage(self.pool, volume).await.expect("it is known");
        assert_eq!(usage.total_bytes, pool.total_bytes);
        self.delete(volume).await;
    }

    /// Each call is killed after its first step, its second ... and repeated each time.
    async fn interrupted_calls_converge(&self) {
        let (storage, pool) = (self.storage, self.pool);
        let [volume, copy] = [VolumeId::derive(&["kill"]), VolumeId::derive(&["kill", "copy"])];
        let snapshot = SnapshotId::derive(&["kill"]);
        let image = &image();
        let source = RootSource::Image(image.clone());
        let copied = RootSource::Volume { volume, snapshot: None, image: Some(image.clone()) };
        let spec = self.subject.pool();
        self.persist(|| storage.ensure_pool(&spec)).await;
        self.persist(|| storage.ensure_image(pool, image)).await;
        self.persist(|| storage.create_root(pool, volume, &source, None)).await;
        self.write(volume, "a", b"old").await;
        self.persist(|| storage.create_snapshot(pool, volume, snapshot)).await;
        self.write(volume, "a", b"new").await;
        self.persist(|| storage.create_root(pool, copy, &copied, None)).await;
        self.expect(copy, "a", Some(b"new")).await;
        let at = self.request();
        self.persist(|| storage.restore_snapshot(pool, volume, snapshot, at)).await;
        self.expect(volume, "a", Some(b"old")).await;
        self.persist(|| storage.delete_snapshot(pool, volume, snapshot)).await;
        not_found(storage.restore_snapshot(pool, volume, snapshot, self.request()).await);
        self.persist(|| storage.delete_volume(pool, volume)).await;
        self.persist(|| storage.remove_image(pool, image)).await;
        self.expect(copy, IMAGE_FILE, Some(image.as_str().as_bytes())).await;
        self.persist(|| storage.delete_volume(pool, copy)).await;
        assert_eq!(self.volumes().await, []);
    }

    async fn persist(&self, call: impl AsyncFn() -> Result<(), DriverError>) {
        for steps in 0..STEPS_MAX {
            self.subject.interrupt_after(Some(steps));
            let answer = call().await;
            self.subject.interrupt_after(None);
            match answer {
                Ok(()) => return call().await.expect("once more is fine"),
                Err(DriverError::Failed(_)) => {}
                Err(
                    error @ (DriverError::Refused(_)
                    | DriverError::NotFound(_)
                    | DriverError::Full(_)),
                ) => panic!("interrupted after {steps} steps, then {error:?}"),
            }
        }
        panic!("not through after {STEPS_MAX} steps");
    }

    async fn many_at_once(&self) {
        let storage = self.storage;
        let volumes: Vec<_> =
            (0..8).map(|number: u32| VolumeId::derive(&["many", &number.to_string()])).collect();
        let spec = self.subject.pool();
        let each = volumes.iter().map(async |volume| {
            storage.ensure_pool(&spec).await?;
            storage.ensure_image(self.pool, &image()).await?;
            storage.create_root(self.pool, *volume, &RootSource::Image(image()), None).await
        });
        for made in futures::future::join_all(each).await {
            made.expect("the volume is made");
        }
        for volume in &volumes {
            self.expect(*volume, IMAGE_FILE, Some(image().as_str().as_bytes())).await;
        }
        let each = volumes.iter().map(|volume| storage.delete_volume(self.pool, *volume));
        for gone in futures::future::join_all(each).await {
            gone.expect("the volume is deleted");
        }
        assert_eq!(self.volumes().await, []);
    }

    /// Nothing new is made in a full pool, and what is there can be deleted.
    async fn a_full_pool_says_so(&self) {
        let [volume, other] = [VolumeId::derive(&["full"]), VolumeId::derive(&["full", "other"])];
        let snapshot = SnapshotId::derive(&["full"]);
        self.create_from_image(volume).await;
        self.subject.fill(true).await;
        let source = RootSource::Image(image());
        let copy = RootSource::Volume { volume, snapshot: None, image: Some(image()) };
        full(self.storage.create_root(self.pool, other, &source, None).await);
        full(self.storage.create_root(self.pool, other, &copy, None).await);
        full(self.storage.create_volume(self.pool, other, None).await);
        full(self.storage.create_snapshot(self.pool, volume, snapshot).await);
        assert_eq!(self.volumes().await, [volume]);
        self.delete(volume).await;
        self.subject.fill(false).await;
        self.create(other, &source).await;
        self.delete(other).await;
    }

    async fn a_pool_with_volumes_stays(&self) {
        let volume = VolumeId::derive(&["stays"]);
        self.create_from_image(volume).await;
        let answer = self.storage.remove_pool(self.pool).await;
        assert!(matches!(answer, Err(DriverError::Refused(_))), "{answer:?}");
        self.expect(volume, IMAGE_FILE, Some(image().as_str().as_bytes())).await;
        self.delete(volume).await;
        self.persist(|| self.storage.remove_pool(self.pool)).await;
    }
}

fn not_found<T: std::fmt::Debug>(answer: Result<T, DriverError>) {
    assert!(matches!(answer, Err(DriverError::NotFound(_))), "{answer:?}");
}

fn full<T: std::fmt::Debug>(answer: Result<T, DriverError>) {
    assert!(matches!(answer, Err(DriverError::Full(_))), "{answer:?}");
}
