//! What a node does for instances that leave it or come to it. Every line may be the last one of a
//! daemon: what is there is looked at, and what is missing is done.

use std::{collections::BTreeSet, io, os::unix::fs::DirBuilderExt, path::Path, time::Duration};

use stapes_core::{
    ids::{Fingerprint, InstanceId, VolumeId},
    port::{
        DriverError,
        guest::{Held, Running},
        peer::{PeerAddress, Wanted, checkpoint_dir},
    },
    spec::{GuestSpec, Incarnation, Reservation, RootSource},
    task::{Observation, Outcome, ReceivedRoot, Task, Transfer},
};

use crate::{
    executor::Executor,
    perform::{opened, reserve},
    phases::{Phases, timed},
};

/// How long a guest is held before the node says that nothing came for it.
const HOLD_MAX: Duration = Duration::from_secs(60);

/// Fetches the snapshots that are not here, oldest first, and makes the last one the root if it is
/// to be. Snapshots that are not named are of an older attempt: they go.
pub(crate) async fn receive(
    executor: &Executor,
    instance: InstanceId,
    task: &Task,
    transfer: &Transfer,
) -> Result<u64, DriverError> {
    let storage = &executor.drivers.storage;
    let (pool, volume) = (transfer.pool, VolumeId::from(instance));
    let mut bytes = 0;
    if transfer.root.is_none() {
        // The guest runs still.
        executor.drivers.guests.expect_restore().await;
    }
    if let Some(image) = &transfer.image
        && !storage.has_image(pool, image).await?
    {
        let wanted = Wanted::Image { pool, fingerprint: image.clone() };
        bytes += fetch(executor, &transfer.from, &wanted).await?;
    }
    let here: BTreeSet<_> = storage.snapshots(pool, volume).await?.into_iter().collect();
    let mut parent = None;
    for (nth, snapshot) in transfer.snapshots.iter().enumerate() {
        if !here.contains(snapshot) {
            let make = transfer.make_last && nth + 1 == transfer.snapshots.len();
            let (volume_there, snapshot) = (transfer.volume, *snapshot);
            let wanted = Wanted::Root { pool, volume: volume_there, snapshot, parent, make };
            let from = executor.drivers.peers.fetch(&transfer.from, &wanted).await?;
            // A copy's volume is not its source's.
            bytes += storage.receive(pool, volume, snapshot, parent, from).await?;
        }
        parent = Some(*snapshot);
    }
    for stale in here.iter().filter(|snapshot| !transfer.snapshots.contains(snapshot)) {
        storage.delete_snapshot(pool, volume, *stale).await?;
    }
    if let Some(root) = &transfer.root {
        take_root(executor, instance, task.incarnation, transfer, root).await?;
    }
    tracing::info!(%instance, operation = %task.operation, bytes, "received");
    Ok(bytes)
}

/// The last snapshot becomes the root.
async fn take_root(
    executor: &Executor,
    instance: InstanceId,
    at: Incarnation,
    transfer: &Transfer,
    root: &ReceivedRoot,
) -> Result<(), DriverError> {
    let storage = &executor.drivers.storage;
    let (pool, volume) = (transfer.pool, VolumeId::from(instance));
    let (snapshot, image) = (transfer.snapshots.last().copied(), transfer.image.clone());
    let source = RootSource::Volume { volume, snapshot, image: image.clone() };
    reserve(executor, instance, &root.reservations).await?;
    match storage.root_layers(pool, volume, image.as_ref()).await {
        // An attempt before this one, or a daemon that was killed here, made one.
        Ok(_) => storage.replace_root(pool, volume, &source, root.quota_bytes, at).await,
        Err(DriverError::NotFound(_)) => {
            storage.create_root(pool, volume, &source, root.quota_bytes).await
        }
        Err(error) => Err(error),
    }
}

/// Freezes the guest and writes it down for the operation; the node says so when it is held for too
/// long.
pub(crate) async fn checkpoint(
    executor: &Executor,
    instance: InstanceId,
    task: &Task,
) -> Result<Outcome, DriverError> {
    let guests = &executor.drivers.guests;
    let running = guests.running(instance).await;
    let missing = || DriverError::NotFound(format!("running guest {instance}"));
    let running = running.ok_or_else(missing)?;
    let into = checkpoint_dir(&executor.drivers.checkpoints, task.operation);
    if running.held.is_none() {
        // Half of it, by a daemon that was killed.
        forget_checkpoint(executor, task)?;
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&executor.drivers.checkpoints)
            .map_err(|error| failed("making room for a checkpoint", &error))?;
    }
    let mut phases = Phases::begin();
    let done = guests.checkpoint(instance, &into).await?;
    phases.over("checkpoint");
    tracing::info!(%instance, frozen_ms = done.took_ms, %phases, "checkpointed");
    watch_hold(executor, Running { held: Some(Held::Checkpointed), ..running });
    Ok(Outcome::Checkpointed { at: done.frozen_at, bytes: done.bytes })
}

/// As long as a guest is held the node says so now and then. It never lets it run on: it cannot
/// know whether it lives elsewhere by now.
pub(crate) fn watch_hold(executor: &Executor, held: Running) {
    if held.held != Some(Held::Checkpointed) {
        return;
    }
    let executor = executor.clone();
    tokio::spawn(async move {
        loop {
            tokio::time::sleep(HOLD_MAX).await;
            let now = executor.drivers.guests.running(held.instance).await;
            let same = |now: &Running| now.held == held.held && now.incarnation == held.incarnation;
            let Some(now) = now.filter(same) else { return };
            tracing::warn!(instance = %now.instance, "held for too long");
            let observe = || executor.reports.observe(Observation::Overheld(now));
            executor.insist("hold", observe).await;
        }
    });
}

/// Fetches the rest of the disk and the checkpoint, and makes the guest of them, held.
pub(crate) async fn restore(
    executor: &Executor,
    task: &Task,
    transfer: &Transfer,
    spec: &GuestSpec,
    reservations: &[Reservation],
) -> Result<Outcome, DriverError> {
    let drivers = &executor.drivers;
    let instance = spec.instance;
    if let Some(running) = drivers.guests.running(instance).await
        && running.incarnation == spec.incarnation
    {
        return Ok(Outcome::Restored { running, bytes: 0 });
    }
    let mut phases = Phases::begin();
    let wanted = Wanted::Checkpoint { instance, operation: task.operation };
    let (((), attract_took), (disk, disk_took), (checkpoint, checkpoint_took)) = tokio::join!(
        timed(drivers.guests.attract(spec)),
        timed(receive(executor, instance, task, transfer)),
        timed(fetch(executor, &transfer.from, &wanted)),
    );
    let bytes = disk? + checkpoint?;
    phases.beside("attract", attract_took);
    phases.beside("disk", disk_took);
    phases.beside("checkpoint", checkpoint_took);
    phases.over("fetch");
    let from = checkpoint_dir(&drivers.checkpoints, task.operation);
    reserve(executor, instance, reservations).await?;
    let layers = drivers.storage.root_layers(spec.pool, instance.into(), spec.image.as_ref());
    let (layers, settled) = tokio::join!(layers, drivers.networks.settle());
    settled?;
    let spec = opened(executor, spec).await?;
    phases.over("prepare");
    let running = drivers.guests.restore(&spec, &layers?, &from).await?;
    phases.over("restore");
    tracing::info!(%instance, bytes, %phases, "restored");
    Ok(Outcome::Restored { running, bytes })
}

/// Lets a restored guest run.
pub(crate) async fn activate(
    executor: &Executor,
    instance: InstanceId,
    task: &Task,
) -> Result<(), DriverError> {
    let mut phases = Phases::begin();
    executor.drivers.guests.activate(instance).await?;
    phases.over("activate");
    tracing::info!(%instance, %phases, "activated");
    forget_checkpoint(executor, task)
}

async fn fetch(
    executor: &Executor,
    from: &PeerAddress,
    wanted: &Wanted,
) -> Result<u64, DriverError> {
    let pipe = executor.drivers.peers.fetch(from, wanted).await?;
    executor.drivers.arrivals.land(wanted, pipe).await
}

/// Brings an image's files here from the first of these nodes that gives them, unless they are here.
/// Nobody to ask is no error: whoever needs the files says so.
pub(crate) async fn fetch_image(
    executor: &Executor,
    holders: &[PeerAddress],
    image: &Fingerprint,
) -> Result<(), DriverError> {
    if executor.drivers.images.files(image).await.is_ok() {
        return Ok(());
    }
    let mut last = Ok(());
    for from in holders {
        let wanted = Wanted::ImageFiles { fingerprint: image.clone() };
        match fetch(executor, from, &wanted).await {
            Ok(_) => return Ok(()),
            Err(error) => {
                tracing::warn!(%image, from = from.address, %error, "image not fetched");
                last = Err(error);
            }
        }
    }
    last
}

/// What was written of a guest for this operation is of no more use.
pub(crate) fn forget_checkpoint(executor: &Executor, task: &Task) -> Result<(), DriverError> {
    remove(&checkpoint_dir(&executor.drivers.checkpoints, task.operation))
        .map_err(|error| failed("removing a checkpoint", &error))
}

/// No guest is held: what is there is left over.
pub(crate) fn forget_all_checkpoints(checkpoints: &Path) {
    if let Err(error) = remove(checkpoints) {
        tracing::warn!(%error, "old checkpoints stay");
    }
}

fn remove(directory: &Path) -> io::Result<()> {
    match std::fs::remove_dir_all(directory) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}

fn failed(what: &str, error: &io::Error) -> DriverError {
    DriverError::Failed(format!("{what}: {error}"))
}
