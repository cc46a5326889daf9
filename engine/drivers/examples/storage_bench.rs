//! How long the storage takes: medians of create, copy, snapshot, restore and delete, alone and
//! many at once. Needs root; works below `TMPDIR`, whose disk it measures too.
//! `cargo run --release -p stapes-drivers --example storage_bench [ROUNDS]`
#![expect(clippy::print_stdout, reason = "its output is its purpose")]

use std::{
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use async_trait::async_trait;
use stapes_core::{
    ids::{Fingerprint, PoolId, SnapshotId, VolumeId},
    port::{DriverError, storage::Storage},
    spec::{Incarnation, PoolDriver, PoolSpec, RootSource},
};
use stapes_drivers::storage::{HostStorage, StorageConfig, Unpacker};

const FILES: usize = 100;
const FILE_BYTES: usize = 16 << 10;
const AT_ONCE: usize = 32;

/// An image of some small files.
#[derive(Debug)]
struct SmallFiles;

#[async_trait]
impl Unpacker for SmallFiles {
    async fn unpack(&self, _image: &Fingerprint, target: &Path) -> Result<(), DriverError> {
        fill(&target.join("rootfs")).map_err(|error| DriverError::Failed(error.to_string()))
    }
}

fn fill(directory: &Path) -> std::io::Result<()> {
    std::fs::create_dir_all(directory)?;
    for number in 0..FILES {
        std::fs::write(directory.join(format!("file-{number}")), vec![7; FILE_BYTES])?;
    }
    Ok(())
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let rounds: usize = std::env::args().nth(1).map_or(Ok(50), |text| text.parse())?;
    let ground = tempfile::Builder::new().prefix("stapes-bench-").tempdir()?;
    println!("{rounds} rounds, medians (90th percentile) in ms");
    for driver in
        [PoolDriver::Btrfs { source: None, size_bytes: 8 << 30 }, PoolDriver::Dir { source: None }]
    {
        let storage = Arc::new(HostStorage::new(StorageConfig {
            pools_dir: ground.path().join("pools"),
            images: Arc::new(SmallFiles),
            tag: "stapes-bench".into(),
        }));
        let name = match driver {
            PoolDriver::Btrfs { source: _, size_bytes: _ } => "btrfs",
            PoolDriver::Dir { source: _ } => "dir",
        };
        let spec = PoolSpec { pool: PoolId::derive(&["bench", name]), name: name.into(), driver };
        println!("{name}:");
        let measured = measure(&storage, &spec, rounds).await;
        let removed = clean(&storage, spec.pool).await;
        measured?;
        removed?;
    }
    Ok(())
}

async fn measure(
    storage: &Arc<HostStorage>,
    spec: &PoolSpec,
    rounds: usize,
) -> Result<(), DriverError> {
    let pool = spec.pool;
    let image = Fingerprint::new("be".repeat(32)).expect("64 digits");
    once("make the pool", storage.ensure_pool(spec)).await?;
    once("unpack the image (100 files of 16 KiB)", storage.ensure_image(pool, &image)).await?;
    let quota = match spec.driver {
        PoolDriver::Btrfs { source: _, size_bytes: _ } => Some(1 << 30),
        PoolDriver::Dir { source: _ } => None,
    };
    let source = RootSource::Image(image.clone());
    let mut times: [Vec<Duration>; 8] = Default::default();
    for round in 0..rounds {
        let name = round.to_string();
        let volume = VolumeId::derive(&[&name]);
        let copy = VolumeId::derive(&["copy", &name]);
        let snapshot = SnapshotId::derive(&[&name]);
        let copied = RootSource::Volume { volume, snapshot: None, image: Some(image.clone()) };
        let [create, snap, restore, copies, usage, forget, delete, again] = &mut times;
        timed(create, storage.create_root(pool, volume, &source, quota)).await?;
        let upper = storage.root_layers(pool, volume, None).await?;
        if let stapes_core::port::storage::RootLayers::Overlay { volume, lower: _ } = upper {
            fill(&volume.join("u/written")).map_err(|e| DriverError::Failed(e.to_string()))?;
        }
        timed(snap, storage.create_snapshot(pool, volume, snapshot)).await?;
        timed(restore, storage.restore_snapshot(pool, volume, snapshot, Incarnation::default()))
            .await?;
        timed(copies, storage.create_root(pool, copy, &copied, quota)).await?;
        timed(usage, storage.volume_usage(pool, volume)).await?;
        timed(forget, storage.delete_snapshot(pool, volume, snapshot)).await?;
        timed(again, storage.ensure_image(pool, &image)).await?;
        timed(delete, storage.delete_volume(pool, volume)).await?;
    }
    let names = [
        "create from the image",
        "snapshot (1.6 MiB written)",
        "restore",
        "copy",
        "usage",
        "delete the snapshot",
        "delete",
        "image that is there",
    ];
    for (name, times) in names.into_iter().zip(times) {
        report(name, times);
    }
    at_once(storage, pool, &source, quota).await
}

async fn at_once(
    storage: &Arc<HostStorage>,
    pool: PoolId,
    source: &RootSource,
    quota: Option<u64>,
) -> Result<(), DriverError> {
    let volumes: Vec<_> =
        (0..AT_ONCE).map(|number| VolumeId::derive(&["at once", &number.to_string()])).collect();
    let begun = Instant::now();
    let each = volumes.iter().map(|volume| storage.create_root(pool, *volume, source, quota));
    futures::future::try_join_all(each).await?;
    println!("  {:<42} {:8.2}", format!("create {AT_ONCE} at once"), ms(begun.elapsed()));
    Ok(())
}

async fn clean(storage: &HostStorage, pool: PoolId) -> Result<(), DriverError> {
    for volume in storage.volumes(pool).await? {
        storage.delete_volume(pool, volume).await?;
    }
    once("remove the pool", storage.remove_pool(pool)).await
}

async fn once(
    name: &str,
    call: impl Future<Output = Result<(), DriverError>>,
) -> Result<(), DriverError> {
    let begun = Instant::now();
    call.await?;
    println!("  {name:<42} {:8.2}", ms(begun.elapsed()));
    Ok(())
}

async fn timed<T>(
    times: &mut Vec<Duration>,
    call: impl Future<Output = Result<T, DriverError>>,
) -> Result<(), DriverError> {
    let begun = Instant::now();
    call.await?;
    times.push(begun.elapsed());
    Ok(())
}

fn report(name: &str, mut times: Vec<Duration>) {
    times.sort();
    let at = |share: usize| times.get(times.len() * share / 100).copied().unwrap_or_default();
    println!("  {name:<42} {:8.2} ({:.2})", ms(at(50)), ms(at(90)));
}

fn ms(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}
