//! One task by the drivers. Every branch may be repeated.

use stapes_core::{
    ids::{InstanceId, PoolId},
    port::{
        DriverError,
        guest::{ExitCause, Release, Stop},
        peer::PeerAddress,
        secret::{self, SecretError, looks_sealed},
    },
    spec::{GuestSpec, Limits, Reservation, RootSource},
    task::{Outcome, Subject, Task, Work},
    template::RenderedFile,
};

use crate::{executor::Executor, travel};

pub(crate) async fn perform(executor: &Executor, task: &Task) -> Outcome {
    let outcome = match &task.subject {
        Subject::Instance(instance) => on_instance(executor, *instance, task).await,
        Subject::Pool(_) | Subject::Network(_) | Subject::Volume(_) | Subject::Image(_) => {
            on_resource(executor, task).await
        }
    };
    outcome.unwrap_or_else(|error| {
        tracing::warn!(task = %task.id, operation = %task.operation, %error, "task failed");
        Outcome::Failed(error.into())
    })
}

async fn on_instance(
    executor: &Executor,
    instance: InstanceId,
    task: &Task,
) -> Result<Outcome, DriverError> {
    let storage = &executor.drivers.storage;
    let guests = &executor.drivers.guests;
    match &task.work {
        Work::CreateRoot { pool, source, quota_bytes, reservations, image_at } => {
            reserve(executor, instance, reservations).await?;
            ensure_source(executor, task, *pool, (source, image_at)).await?;
            storage.create_root(*pool, instance.into(), source, *quota_bytes).await?;
        }
        Work::ReplaceRoot { pool, source, quota_bytes, image_at } => {
            guests.stop(instance, Stop::Force).await?;
            ensure_source(executor, task, *pool, (source, image_at)).await?;
            let at = task.incarnation;
            storage.replace_root(*pool, instance.into(), source, *quota_bytes, at).await?;
        }
        Work::Start { spec, reservations } => return start(executor, spec, reservations).await,
        Work::Stop { force, timeout } => {
            let how = if *force { Stop::Force } else { Stop::Clean { timeout: *timeout } };
            let cause = guests.stop(instance, how).await?;
            return Ok(stopped(cause));
        }
        Work::Freeze => guests.freeze(instance).await?,
        Work::Unfreeze => guests.unfreeze(instance).await?,
        Work::SetLimits { pool, limits } => set_limits(executor, instance, *pool, limits).await?,
        Work::Reserve { reservations } => reserve(executor, instance, reservations).await?,
        Work::CreateSnapshot { pool, snapshot } => {
            storage.create_snapshot(*pool, instance.into(), *snapshot).await?
        }
        Work::DeleteSnapshot { pool, snapshot } => {
            storage.delete_snapshot(*pool, instance.into(), *snapshot).await?
        }
        Work::RestoreSnapshot { pool, snapshot } => {
            let at = task.incarnation;
            storage.restore_snapshot(*pool, instance.into(), *snapshot, at).await?;
        }
        Work::DeleteInstance { pool } => {
            guests.stop(instance, Stop::Force).await?;
            storage.delete_volume(*pool, instance.into()).await?;
            travel::forget_checkpoint(executor, task)?;
            reserve(executor, instance, &[]).await?;
        }
        Work::EnsurePool { .. }
        | Work::RemovePool
        | Work::EnsureNetwork { .. }
        | Work::RemoveNetwork
        | Work::CreateVolume { .. }
        | Work::DeleteVolume { .. }
        | Work::RemoveImage { .. } => return Err(misdirected(task)),
        Work::Assess => return Ok(Outcome::Assessed(guests.preflight(instance).await?)),
        Work::Receive(transfer) => {
            let bytes = travel::receive(executor, instance, task, transfer).await?;
            return Ok(Outcome::Received { bytes });
        }
        Work::Checkpoint => return travel::checkpoint(executor, instance, task).await,
        Work::Restore { transfer, spec, reservations } => {
            return travel::restore(executor, task, transfer, spec, reservations).await;
        }
        Work::Activate => travel::activate(executor, instance, task).await?,
        Work::Resume => {
            guests.release(instance, Release::Resume).await?;
            travel::forget_checkpoint(executor, task)?;
        }
        Work::DropRounds { pool, volume, rounds } => {
            for round in rounds {
                storage.delete_snapshot(*pool, *volume, *round).await?;
            }
            travel::forget_checkpoint(executor, task)?;
        }
    }
    Ok(Outcome::Done)
}

fn misdirected(task: &Task) -> DriverError {
    DriverError::Refused(format!("task {} orders work that its subject cannot have", task.id))
}

fn stopped(cause: ExitCause) -> Outcome {
    Outcome::Stopped { cause, at: now() }
}

fn now() -> chrono::DateTime<chrono::Utc> {
    chrono::SubsecRound::trunc_subsecs(chrono::Utc::now(), 6)
}

/// Unpacks the image that a root is to be made from, unless it is there; a node that does not have
/// its files asks those that do.
async fn ensure_source(
    executor: &Executor,
    task: &Task,
    pool: PoolId,
    (source, image_at): (&RootSource, &[PeerAddress]),
) -> Result<(), DriverError> {
    if let RootSource::Image(fingerprint) = source {
        if !executor.drivers.storage.has_image(pool, fingerprint).await? {
            travel::fetch_image(executor, image_at, fingerprint).await?;
        }
        executor.progress.progress(task.operation, "create_instance_from_image_unpack", 0);
        executor.drivers.storage.ensure_image(pool, fingerprint).await?;
        executor.progress.progress(task.operation, "create_instance_from_image_unpack", 100);
    }
    Ok(())
}

async fn start(
    executor: &Executor,
    spec: &GuestSpec,
    reservations: &[Reservation],
) -> Result<Outcome, DriverError> {
    let drivers = &executor.drivers;
    // A daemon that was killed after it started the guest must not fail now and leave it running.
    if let Some(running) = drivers.guests.running(spec.instance).await
        && running.incarnation == spec.incarnation
    {
        return Ok(Outcome::Started(running));
    }
    reserve(executor, spec.instance, reservations).await?;
    let layers = drivers.storage.root_layers(spec.pool, spec.instance.into(), spec.image.as_ref());
    let (layers, settled) = tokio::join!(layers, drivers.networks.settle());
    settled?;
    let opened = opened(executor, spec).await?;
    let spec = GuestSpec { files: render(executor, spec).await, ..opened };
    let running = drivers.guests.start(&spec, &layers?).await?;
    Ok(Outcome::Started(running))
}

/// The spec as the guest is given it. Its secrets lie sealed on the log and in the task; only here,
/// and in what the guest itself keeps of them, are they in clear.
pub(crate) async fn opened(
    executor: &Executor,
    spec: &GuestSpec,
) -> Result<GuestSpec, DriverError> {
    let mut spec = spec.clone();
    let sealed = spec.environment.values().filter(|it| looks_sealed(it));
    executor.drivers.secrets.prepare(None, sealed.cloned().collect()).await;
    for (variable, value) in &mut spec.environment {
        *value = secret::reveal(&*executor.drivers.secrets, value).map_err(|error| {
            let message = format!("environment.{variable}: {error}");
            match error {
                SecretError::Erased(_) | SecretError::NotSealed => DriverError::Refused(message),
                SecretError::Failed(_) => DriverError::Failed(message),
            }
        })?;
    }
    Ok(spec)
}

/// The files that the image wants inside. Without them the guest is a guest still, so that what
/// goes wrong here is told and no reason not to start.
async fn render(executor: &Executor, spec: &GuestSpec) -> Vec<RenderedFile> {
    let (Some(image), Some(context)) = (&spec.image, &spec.template) else { return Vec::new() };
    let rendered = executor.drivers.images.render(image, context).await;
    rendered.unwrap_or_else(|error| {
        tracing::warn!(instance = %spec.instance, %image, %error, "starts without templates");
        Vec::new()
    })
}

/// Takes the interfaces into the address plan, and remembers them for the next start of the daemon.
pub(crate) async fn reserve(
    executor: &Executor,
    instance: InstanceId,
    nics: &[Reservation],
) -> Result<(), DriverError> {
    let remembered = executor.memory.set_reservations(instance, nics);
    remembered.map_err(|error| {
        DriverError::Failed(format!("reservations cannot be remembered: {error}"))
    })?;
    executor.drivers.networks.reserve(instance, nics).await
}

async fn set_limits(
    executor: &Executor,
    instance: InstanceId,
    pool: PoolId,
    limits: &Limits,
) -> Result<(), DriverError> {
    executor.drivers.storage.set_quota(pool, instance.into(), limits.disk_bytes).await?;
    match executor.drivers.guests.running(instance).await {
        Some(_) => executor.drivers.guests.set_limits(instance, limits).await,
        None => Ok(()),
    }
}

async fn on_resource(executor: &Executor, task: &Task) -> Result<Outcome, DriverError> {
    let storage = &executor.drivers.storage;
    let networks = &executor.drivers.networks;
    let memory = &executor.memory;
    let forgot = |error: std::io::Error| {
        DriverError::Failed(format!("the node cannot remember it: {error}"))
    };
    match (&task.work, &task.subject) {
        (Work::EnsurePool { spec }, _) => {
            storage.ensure_pool(spec).await?;
            memory.set_pool(spec.pool, Some(spec)).map_err(forgot)?;
        }
        (Work::RemovePool, Subject::Pool(pool)) => {
            storage.remove_pool(*pool).await?;
            memory.set_pool(*pool, None).map_err(forgot)?;
        }
        (Work::EnsureNetwork { spec }, _) => {
            networks.ensure_network(spec).await?;
            networks.settle().await?;
            memory.set_network(spec.network, Some(spec)).map_err(forgot)?;
        }
        (Work::RemoveNetwork, Subject::Network(network)) => {
            networks.remove_network(*network).await?;
            memory.set_network(*network, None).map_err(forgot)?;
        }
        (Work::CreateVolume { pool, quota_bytes }, Subject::Volume(volume)) => {
            storage.create_volume(*pool, *volume, *quota_bytes).await?;
        }
        (Work::DeleteVolume { pool }, Subject::Volume(volume)) => {
            storage.delete_volume(*pool, *volume).await?
        }
        (Work::RemoveImage { pools }, Subject::Image(fingerprint)) => {
            for pool in pools {
                storage.remove_image(*pool, fingerprint).await?;
            }
            executor.drivers.images.remove(fingerprint).await?;
        }
        _ => return Err(misdirected(task)),
    }
    Ok(Outcome::Done)
}
