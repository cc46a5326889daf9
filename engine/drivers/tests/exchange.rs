//! Image files and checkpoints go from one node to another, and roots by their ids.
#![expect(clippy::unwrap_used, reason = "a test fails where it unwraps")]

mod image_archives;

use std::{
    fs::File,
    io::{Read, Write},
    os::{fd::OwnedFd, unix::fs::PermissionsExt},
    path::{Path, PathBuf},
    sync::Arc,
};

use image_archives::*;
use stapes_core::{
    ids::{InstanceId, OperationId, PoolId, ProjectId, SnapshotId, VolumeId},
    port::{
        DriverError,
        image::{Images, Upload},
        peer::{Arrivals, Sources, Wanted, checkpoint_dir},
        secret::Sealer,
        storage::{MemoryStorage, Storage},
    },
    spec::{PoolDriver, PoolSpec, RootSource},
};
use stapes_drivers::{exchange::Exchange, image::ImageStore, secret::ProjectKeys};

/// A node with images of its own.
struct Node {
    bench: Bench,
    storage: Arc<MemoryStorage>,
    keys: Arc<ProjectKeys>,
    exchange: Exchange,
}

impl Node {
    fn new() -> Self {
        let bench = Bench::new();
        let storage = Arc::new(MemoryStorage::default());
        let images = Arc::new(ImageStore::new(bench.store.config().clone()).unwrap());
        let keys = Arc::new(ProjectKeys::open(bench.path().join("keys")).unwrap());
        let checkpoints = bench.path().join("checkpoints");
        let exchange = Exchange::new(storage.clone(), images, keys.clone(), checkpoints);
        Self { bench, storage, keys, exchange }
    }

    fn checkpoints(&self) -> PathBuf {
        self.bench.path().join("checkpoints")
    }

    async fn capture(&self, wanted: &Wanted) -> Vec<u8> {
        let (reader, writer) = std::io::pipe().unwrap();
        let read = tokio::task::spawn_blocking(move || {
            let mut bytes = Vec::new();
            File::from(OwnedFd::from(reader)).read_to_end(&mut bytes).unwrap();
            bytes
        });
        let (sent, bytes) = tokio::join!(self.exchange.send(wanted, writer.into()), read);
        let bytes = bytes.unwrap();
        assert_eq!(sent, Ok(bytes.len() as u64));
        bytes
    }

    async fn land(&self, wanted: &Wanted, bytes: &[u8]) -> Result<u64, DriverError> {
        let ((reader, mut writer), bytes) = (std::io::pipe().unwrap(), bytes.to_vec());
        tokio::task::spawn_blocking(move || drop(writer.write_all(&bytes)));
        self.exchange.land(wanted, reader.into()).await
    }
}

fn names(directory: &Path) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(directory) else { return Vec::new() };
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

#[tokio::test]
async fn the_files_of_an_image_arrive_as_they_are() {
    let (source, target) = (Node::new(), Node::new());
    let metadata = xz(&Archive::empty().file("metadata.yaml", METADATA.as_bytes()).bytes());
    let root = gzip(&Archive::empty().directory("./", 0o755).file("./init", b"x").bytes());
    let unified = source.bench.ingest(&gzip(&Archive::image().bytes())).await.unwrap();
    let (metadata, root) =
        (source.bench.stage("metadata", &metadata), source.bench.stage("root", &root));
    let split = Upload::Split { metadata, root, root_is_vm: false, filename: None };
    let split = source.bench.store.ingest(split, None).await.unwrap();
    for facts in [unified, split] {
        let wanted = Wanted::ImageFiles { fingerprint: facts.fingerprint.clone() };
        let stream = source.capture(&wanted).await;
        for cut in [10, stream.len() / 2, stream.len() - 1] {
            let answer = target.land(&wanted, &stream[..cut]).await;
            assert!(matches!(answer, Err(DriverError::Failed(_))), "{cut}: {answer:?}");
        }
        let other = Wanted::ImageFiles { fingerprint: "0".repeat(64).try_into().unwrap() };
        let answer = target.land(&other, &stream).await;
        assert!(matches!(answer, Err(DriverError::Refused(_))), "{answer:?}");
        assert_eq!(target.land(&wanted, &stream).await, Ok(stream.len() as u64));
        assert_eq!(target.land(&wanted, b"").await, Ok(0), "it is there");
        let kept = target.bench.store.facts(&facts.fingerprint).unwrap();
        assert_eq!((kept.split, kept.size_bytes), (facts.split, facts.size_bytes));
        assert_eq!(names(&target.bench.store.staging()), Vec::<String>::new());
    }
}

#[tokio::test]
async fn a_checkpoint_arrives_whole_or_not_at_all() {
    let (source, target) = (Node::new(), Node::new());
    let operation = OperationId::derive(&["checkpoint"]);
    let wanted = Wanted::Checkpoint { instance: InstanceId::derive(&["it"]), operation };
    let (_, into) = std::io::pipe().unwrap();
    let none = source.exchange.send(&wanted, into.into()).await;
    assert!(matches!(none, Err(DriverError::NotFound(_))), "{none:?}");
    let at = checkpoint_dir(&source.checkpoints(), operation);
    std::fs::create_dir_all(at.join("deeper")).unwrap();
    std::fs::write(at.join("pages-1.img"), vec![5; 3 << 20]).unwrap();
    std::fs::write(at.join("deeper/core.img"), "core").unwrap();
    std::fs::set_permissions(at.join("deeper"), PermissionsExt::from_mode(0o700)).unwrap();
    let stream = source.capture(&wanted).await;
    let half = target.land(&wanted, &stream[..stream.len() - 1]).await;
    assert!(matches!(half, Err(DriverError::Failed(_))), "{half:?}");
    assert_eq!(names(&target.checkpoints()), Vec::<String>::new());
    for expected in [stream.len() as u64, 0] {
        assert_eq!(target.land(&wanted, &stream).await, Ok(expected));
        let at = checkpoint_dir(&target.checkpoints(), operation);
        assert_eq!(std::fs::read(at.join("pages-1.img")).unwrap(), vec![5; 3 << 20]);
        assert_eq!(std::fs::read_to_string(at.join("deeper/core.img")).unwrap(), "core");
        let mode = std::fs::metadata(at.join("deeper")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o700);
    }
    assert_eq!(names(&target.checkpoints()), [operation.to_string()]);
}

#[tokio::test]
async fn what_a_killed_predecessor_left_half_is_removed() {
    let node = Node::new();
    let half = node.checkpoints().join(".arriving-1");
    std::fs::create_dir_all(half.join("inside")).unwrap();
    let images = Arc::new(ImageStore::new(node.bench.store.config().clone()).unwrap());
    drop(Exchange::new(node.storage.clone(), images, node.keys.clone(), node.checkpoints()));
    assert_eq!(names(&node.checkpoints()), Vec::<String>::new());
}

#[tokio::test]
async fn a_snapshot_is_made_when_it_is_asked_for() {
    let (source, target) = (Node::new(), Node::new());
    let (pool, volume) = (PoolId::derive(&["exchange"]), VolumeId::derive(&["exchange"]));
    let driver = PoolDriver::Btrfs { source: None, size_bytes: 512 << 20 };
    let spec = PoolSpec { pool, name: "exchange".into(), driver };
    source.storage.ensure_pool(&spec).await.unwrap();
    target.storage.ensure_pool(&spec).await.unwrap();
    source.storage.create_root(pool, volume, &RootSource::Empty, None).await.unwrap();
    source.storage.write(pool, volume, "a", b"content").unwrap();
    let snapshot = SnapshotId::derive(&["exchange"]);
    let wanted = |make| Wanted::Root { pool, volume, snapshot, parent: None, make };
    let (_, into) = std::io::pipe().unwrap();
    let none = source.exchange.send(&wanted(false), into.into()).await;
    assert!(matches!(none, Err(DriverError::NotFound(_))), "{none:?}");
    let stream = source.capture(&wanted(true)).await;
    assert_eq!(source.capture(&wanted(false)).await, stream);
    target.land(&wanted(true), &stream).await.unwrap();
    let arrived = RootSource::Volume { volume, snapshot: Some(snapshot), image: None };
    target.storage.create_root(pool, volume, &arrived, None).await.unwrap();
    assert_eq!(target.storage.read(pool, volume, "a").unwrap(), b"content");
}

#[tokio::test]
async fn a_key_of_secrets_reaches_another_node_or_says_why_not() {
    let (source, target) = (Node::new(), Node::new());
    let project = ProjectId::derive(&["test"]);
    let wanted = Wanted::Key { project, name: None };
    let (_reader, writer) = std::io::pipe().unwrap();
    let missing = source.exchange.send(&wanted, writer.into()).await;
    assert!(matches!(missing, Err(DriverError::NotFound(_))), "{missing:?}");

    let sealed = source.keys.seal(project, "tomato").unwrap();
    let bytes = source.capture(&wanted).await;
    for cut in [0, bytes.len() / 2, bytes.len() - 1] {
        target.land(&wanted, &bytes[..cut]).await.unwrap_err();
    }
    let other = Wanted::Key { project: ProjectId::derive(&["other"]), name: None };
    target.land(&other, &bytes).await.unwrap_err();
    let another = Wanted::Key { project, name: Some([0; 8]) };
    target.land(&another, &bytes).await.unwrap_err();
    target.keys.open(&sealed).unwrap_err();
    target.land(&wanted, &bytes).await.unwrap();
    assert_eq!(target.keys.open(&sealed).unwrap(), "tomato");
}
