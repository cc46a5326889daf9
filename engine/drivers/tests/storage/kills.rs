//! kill -9 at every step of every call, in a process of its own, until the call gets through.

use std::{
    os::unix::process::ExitStatusExt,
    path::{Path, PathBuf},
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
};

use stapes_core::{
    ids::{PoolId, SnapshotId, VolumeId},
    port::{
        DriverError,
        storage::{
            IMAGE_FILE, Storage,
            laws::{Subject, image},
        },
    },
    spec::{Incarnation, RootSource},
};
use stapes_drivers::storage::{HostStorage, Interruption};

use crate::host::{Host, Kind, config, spec};

const DIRECTORY: &str = "STAPES_KILL_DIRECTORY";
const KIND: &str = "STAPES_KILL_KIND";
const CALL: &str = "STAPES_KILL_CALL";
const STEP: &str = "STAPES_KILL_STEP";
const STEPS_MAX: u32 = 64;

#[derive(Debug)]
struct KillAt(AtomicU32);

impl Interruption for KillAt {
    fn at(&self, _step: &'static str) -> Result<(), DriverError> {
        if self.0.fetch_sub(1, Ordering::SeqCst) == 0 {
            let me = rustix::process::getpid();
            rustix::process::kill_process(me, rustix::process::Signal::KILL).unwrap();
            // The signal may take a moment, in which nothing may happen.
            std::thread::park();
        }
        Ok(())
    }
}

fn volume() -> VolumeId {
    VolumeId::derive(&["kill -9"])
}

fn copy() -> VolumeId {
    VolumeId::derive(&["kill -9", "copy"])
}

fn guest() -> VolumeId {
    VolumeId::derive(&["kill -9", "arrived"])
}

fn snapshot() -> SnapshotId {
    SnapshotId::derive(&["kill -9"])
}

/// The body of the process that dies. Nothing when the tests are run as usual.
#[tokio::test]
async fn child() {
    let Some(directory) = std::env::var_os(DIRECTORY).map(PathBuf::from) else { return };
    let kind = if std::env::var(KIND).unwrap() == "btrfs" { Kind::Btrfs } else { Kind::Dir };
    let steps = std::env::var(STEP).unwrap().parse().unwrap();
    let kill = Arc::new(KillAt(AtomicU32::new(steps)));
    let storage = HostStorage::interrupted_by(config(&directory), kill);
    let pool = spec(kind, &directory).pool;
    let done = call(&storage, &std::env::var(CALL).unwrap(), kind, &directory, pool).await;
    done.unwrap();
}

async fn call(
    storage: &HostStorage,
    name: &str,
    kind: Kind,
    directory: &Path,
    pool: PoolId,
) -> Result<(), DriverError> {
    let copied = RootSource::Volume { volume: volume(), snapshot: None, image: Some(image()) };
    match name {
        "pool" => storage.ensure_pool(&spec(kind, directory)).await,
        "image" => storage.ensure_image(pool, &image()).await,
        "create" => storage.create_root(pool, volume(), &RootSource::Image(image()), None).await,
        "copy" => storage.create_root(pool, copy(), &copied, None).await,
        "snapshot" => storage.create_snapshot(pool, volume(), snapshot()).await,
        "restore" => {
            storage.restore_snapshot(pool, volume(), snapshot(), Incarnation::default()).await
        }
        "forget" => storage.delete_snapshot(pool, volume(), snapshot()).await,
        "delete" => storage.delete_volume(pool, volume()).await,
        "receive" => {
            let stream = std::fs::File::open(directory.join("stream")).unwrap();
            let bytes = storage.receive(pool, guest(), snapshot(), None, stream.into()).await;
            bytes.map(|_| ())
        }
        "root" => {
            let (volume, snapshot) = (guest(), Some(snapshot()));
            let source = RootSource::Volume { volume, snapshot, image: Some(image()) };
            storage.create_root(pool, guest(), &source, None).await
        }
        "delete arrived" => storage.delete_volume(pool, guest()).await,
        "delete copy" => storage.delete_volume(pool, copy()).await,
        "unwant" => storage.remove_image(pool, &image()).await,
        "remove" => storage.remove_pool(pool).await,
        other => panic!("no call {other}"),
    }
}

/// Runs the call in processes that are killed at its first step, its second ... to the end.
/// Says how many were killed.
fn persist(host: &Host, name: &str) -> u32 {
    for step in 0..STEPS_MAX {
        let kind = if host.ground.kind == Kind::Btrfs { "btrfs" } else { "dir" };
        let ended = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "kills::child", "--nocapture"])
            .env(DIRECTORY, host.ground.directory.path())
            .env(KIND, kind)
            .env(CALL, name)
            .env(STEP, step.to_string())
            .output()
            .unwrap();
        if ended.status.success() {
            return step;
        }
        let said = String::from_utf8_lossy(&ended.stdout);
        assert_eq!(ended.status.signal(), Some(9), "{name}, step {step}: {said}");
    }
    panic!("{name} is not through after {STEPS_MAX} steps");
}

async fn survive(kind: Kind) {
    let mut host = Host::new(kind);
    let mut killed = 0;
    for name in ["pool", "image", "create"] {
        killed += persist(&host, name);
    }
    assert!(host.write(volume(), "a", b"old").await);
    killed += persist(&host, "snapshot");
    let stream = std::fs::File::create(host.ground.directory.path().join("stream")).unwrap();
    host.storage.send(host.id(), volume(), snapshot(), None, stream.into()).await.unwrap();
    killed += persist(&host, "receive");
    killed += persist(&host, "root");
    assert!(host.write(volume(), "a", b"new").await);
    killed += persist(&host, "copy");
    killed += persist(&host, "restore");
    // This process plays the daemon that comes after.
    host.restart();
    assert_eq!(host.read(volume(), "a").await.unwrap(), b"old");
    assert_eq!(host.read(copy(), "a").await.unwrap(), b"new");
    assert_eq!(host.read(guest(), "a").await.unwrap(), b"old");
    for name in ["forget", "delete", "delete arrived", "unwant"] {
        killed += persist(&host, name);
    }
    assert_eq!(host.storage.volumes(host.id()).await.unwrap(), [copy()]);
    assert_eq!(host.read(copy(), IMAGE_FILE).await.unwrap(), image().as_str().as_bytes());
    // The daemon's view of the pool must not be held by this process while others remove it.
    for name in ["delete copy", "remove"] {
        killed += persist(&host, name);
    }
    host.ground.assert_empty();
    assert!(killed > 30, "only {killed} were killed");
}

#[tokio::test]
async fn btrfs_survives_kills() {
    let _alone = crate::host::alone().await;
    survive(Kind::Btrfs).await;
}

#[tokio::test]
async fn dir_survives_kills() {
    let _alone = crate::host::alone().await;
    survive(Kind::Dir).await;
}
