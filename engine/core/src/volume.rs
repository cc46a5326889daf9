//! A custom volume: a directory tree of its own that instances attach.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::{
    config::{self, Changes, Config},
    decision::{Context, Decision, check_revision},
    ids::{NodeId, OperationId, PoolId, ProjectId, Revision, StreamId, StreamKind, VolumeId},
    name::{self, Name, NameKind},
    node::Node,
    operation::{Class, Resource, ResourceKind, Verb},
    placement,
    rejection::{Noun, Rejection},
    resource::{self, Facts, Progress, Status},
    table::Table,
    task::{Report, Subject, Work},
    world::World,
};

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Volume {
    pub id: VolumeId,
    pub pool: PoolId,
    /// Where it lies.
    pub node: NodeId,
    pub project: ProjectId,
    pub name: String,
    pub description: String,
    pub config: Config,
    pub created_at: DateTime<Utc>,
    pub progress: Progress,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Event {
    Created {
        operation: OperationId,
        pool: PoolId,
        project: ProjectId,
        name: String,
        description: String,
        config: Config,
        /// None: on the one that there is.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        node: Option<NodeId>,
    },
    Ready,
    Configured {
        changes: Changes,
        description: Option<String>,
    },
    Renamed {
        from: String,
        to: String,
    },
    DeleteRequested {
        operation: OperationId,
    },
    Failed {
        verb: Verb,
        error: String,
    },
    Deleted,
}

impl Event {
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Created { .. } => "created",
            Self::Ready => "ready",
            Self::Configured { .. } => "configured",
            Self::Renamed { .. } => "renamed",
            Self::DeleteRequested { .. } => "delete-requested",
            Self::Failed { .. } => "failed",
            Self::Deleted => "deleted",
        }
    }
}

pub(crate) fn evolve(
    volumes: &mut Table<VolumeId, Volume>,
    known: &Table<NodeId, Node>,
    id: VolumeId,
    event: &Event,
    at: DateTime<Utc>,
) {
    if let Event::Created { operation, pool, project, name, description, config, node } = event {
        let Some(node) = node.or_else(|| known.keys().next().copied()) else { return };
        let volume = Volume {
            id,
            pool: *pool,
            node,
            project: *project,
            name: name.clone(),
            description: description.clone(),
            config: config.clone(),
            created_at: at,
            progress: Progress::creating(*operation),
        };
        volumes.insert(id, volume);
        return;
    }
    let Some(volume) = volumes.get_mut(&id) else { return };
    match event {
        Event::Created { .. } => {}
        Event::Ready | Event::Failed { .. } => volume.progress.settle(),
        Event::Configured { changes, description } => {
            config::apply(&mut volume.config, changes);
            volume.description =
                description.clone().unwrap_or_else(|| std::mem::take(&mut volume.description));
        }
        Event::Renamed { to, .. } => volume.name.clone_from(to),
        Event::DeleteRequested { operation } => {
            volume.progress.request(Status::Deleting, *operation)
        }
        Event::Deleted => {
            volumes.remove(&id);
        }
    }
}

fn stream(id: VolumeId) -> StreamId {
    StreamId::new(StreamKind::Volume, id)
}

fn check_name(name: &str) -> Result<(), Rejection> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if name.is_empty() || name.len() > 63 || !name.chars().all(plain) || name.starts_with('.') {
        let rule = "1 to 63 letters, digits, '-', '_' and '.'";
        return Err(Rejection::Invalid(format!("Invalid storage volume name {name:?}: {rule}")));
    }
    Ok(())
}

fn resources(pool: &str, name: &str) -> Vec<Resource> {
    vec![Resource { kind: ResourceKind::Volume, name: format!("{pool}/{name}") }]
}

/// # Errors
/// When the name is taken or wrong, or the configuration is.
pub fn create(
    world: &World,
    context: &Context,
    (project, pool): (&str, &str),
    (name, target): (&str, Option<&str>),
    description: &str,
    config: &Config,
) -> Result<Decision, Rejection> {
    let project = world.project(project)?.id;
    let pool = world.pool(pool)?;
    pool.usable()?;
    check_name(name)?;
    config::check(config::Scope::Volume, config)?;
    if world.holder(NameKind::Volume, pool.id, name).is_some() {
        return Err(Rejection::AlreadyExists { noun: Noun::Volume, name: name.to_owned() });
    }
    let size = config.get("size").filter(|text| !text.is_empty());
    let quota_bytes =
        size.map(|text| config::bytes(text)).transpose().map_err(Rejection::Invalid)?;
    let node = placement::node_for_volume(world, pool, target)?;
    let id = VolumeId::derive(&[&context.operation.to_string()]);
    let mut decision = Decision::for_context(context);
    decision.accept(project, Verb::CreateVolume, Class::Task, resources(&pool.name, name));
    let held = Name::new(NameKind::Volume, pool.id, name);
    decision.record(
        held.stream(),
        name::Event::Reserved { name: held, holder: id.0, description: String::new() },
    );
    let created = Event::Created {
        operation: context.operation,
        pool: pool.id,
        project,
        name: name.to_owned(),
        description: description.to_owned(),
        config: config.clone(),
        node: (world.nodes.len() > 1).then_some(node),
    };
    decision.record(stream(id), created);
    let work = Work::CreateVolume { pool: pool.id, quota_bytes };
    let progress = Progress::creating(context.operation);
    resource::order(&mut decision, context, node, Subject::Volume(id), &progress, work);
    Ok(decision)
}

/// # Errors
/// When there is no such volume, or something is changed that cannot be.
pub fn configure(
    world: &World,
    context: &Context,
    (pool, name): (&str, &str),
    description: Option<&str>,
    config: &Config,
    expected: Option<Revision>,
) -> Result<Decision, Rejection> {
    let volume = world.volume(pool, name)?;
    check_revision(world, stream(volume.id), expected)?;
    config::check(config::Scope::Volume, config)?;
    let changes = config::diff(&volume.config, config);
    if let Some(key) = changes.keys().find(|key| !key.starts_with("user.")) {
        let message = format!("The volume's {key:?} cannot be changed after it is made");
        return Err(Rejection::NotAllowed { message, hint: "make another volume".to_owned() });
    }
    let description = description.filter(|text| *text != volume.description).map(str::to_owned);
    let mut decision = Decision::for_context(context);
    if !changes.is_empty() || description.is_some() {
        decision.record(stream(volume.id), Event::Configured { changes, description });
    }
    Ok(decision)
}

/// # Errors
/// When it is attached, or the new name is taken or wrong.
pub fn rename(
    world: &World,
    context: &Context,
    pool: &str,
    name: &str,
    to: &str,
) -> Result<Decision, Rejection> {
    let volume = world.volume(pool, name)?;
    refuse_used(world, pool, volume)?;
    check_name(to)?;
    if world.holder(NameKind::Volume, volume.pool, to).is_some() {
        return Err(Rejection::AlreadyExists { noun: Noun::Volume, name: to.to_owned() });
    }
    let (old, new) = (
        Name::new(NameKind::Volume, volume.pool, name),
        Name::new(NameKind::Volume, volume.pool, to),
    );
    let mut decision = Decision::for_context(context);
    let holder = volume.id.0;
    decision.record(old.stream(), name::Event::Released { name: old });
    decision.record(
        new.stream(),
        name::Event::Reserved { name: new, holder, description: String::new() },
    );
    decision.record(stream(volume.id), Event::Renamed { from: name.to_owned(), to: to.to_owned() });
    Ok(decision)
}

/// # Errors
/// When there is no such volume, or it is attached.
pub fn delete(
    world: &World,
    context: &Context,
    pool: &str,
    name: &str,
) -> Result<Decision, Rejection> {
    let volume = world.volume(pool, name)?;
    volume.progress.idle(&format!("Storage volume {name:?}"))?;
    refuse_used(world, pool, volume)?;
    let node = volume.node;
    let mut progress = volume.progress;
    progress.request(Status::Deleting, context.operation);
    let mut decision = Decision::for_context(context);
    decision.accept(volume.project, Verb::DeleteVolume, Class::Task, resources(pool, name));
    decision.record(stream(volume.id), Event::DeleteRequested { operation: context.operation });
    let work = Work::DeleteVolume { pool: volume.pool };
    resource::order(&mut decision, context, node, Subject::Volume(volume.id), &progress, work);
    Ok(decision)
}

fn refuse_used(world: &World, pool: &str, volume: &Volume) -> Result<(), Rejection> {
    let by = users(world, pool, volume);
    if by.is_empty() { Ok(()) } else { Err(Rejection::InUse { noun: Noun::Volume, by }) }
}

/// The instances and profiles that attach the volume, in words.
#[must_use]
pub fn users(world: &World, pool: &str, volume: &Volume) -> Vec<String> {
    let is_it = |device: &config::Device| {
        device.get("pool").is_some_and(|name| name == pool)
            && device.get("source").is_some_and(|source| *source == volume.name)
    };
    let attaches = |devices: &config::Devices| devices.values().any(is_it);
    let instances = world.instances.values().filter(|instance| attaches(&instance.devices));
    let profiles = world.profiles.values().filter(|profile| attaches(&profile.devices));
    let instances = instances.map(|instance| format!("instance {}", instance.name));
    instances.chain(profiles.map(|profile| format!("profile {}", profile.name))).collect()
}

/// What a node made of a task on a volume.
#[must_use]
pub fn report(world: &World, context: &Context, id: VolumeId, report: &Report) -> Decision {
    let Some(volume) = world.volumes.get(&id) else { return Decision::for_context(context) };
    let verb = if volume.progress.status == Status::Creating {
        Verb::CreateVolume
    } else {
        Verb::DeleteVolume
    };
    resource::report(context, stream(id), &volume.progress, verb, report, &facts(volume))
}

fn facts(volume: &Volume) -> Facts {
    let held = Name::new(NameKind::Volume, volume.pool, &volume.name);
    Facts {
        ready: Event::Ready.into(),
        deleted: Event::Deleted.into(),
        failed: |verb, error| Event::Failed { verb, error }.into(),
        released: vec![(held.stream(), name::Event::Released { name: held }.into())],
    }
}

/// It went with its node.
pub(crate) fn forget(world: &World, decision: &mut Decision, volume: &Volume) {
    facts(volume).gone(decision, stream(volume.id));
    if let Some(operation) = volume.progress.operation
        && world.operations.contains_key(&operation)
    {
        decision.fail(operation, "The cluster member was removed");
    }
}

#[cfg(test)]
mod tests {
    use crate::{
        command::Command,
        testing::{Asked, Done, check, config},
    };

    fn create(name: &str, pairs: &[(&str, &str)]) -> Command {
        let (project, pool) = ("default".to_owned(), "default".to_owned());
        let (name, description) = (name.to_owned(), String::new());
        let (config, target) = (config(pairs), None);
        Command::CreateVolume { project, pool, name, description, config, target }
    }

    #[test]
    fn volumes_come_and_go() {
        let (pool, name) = ("default".to_owned(), "data".to_owned());
        let delete = Command::DeleteVolume { pool, name };
        let data = [Asked(create("data", &[])), Done];
        let made = "operation-accepted, storage-volume-created; CreateVolume";
        check(&[], create("data", &[("size", "1GiB")]), made);
        check(&data, create("data", &[]), "Storage volume \"data\" already exists");
        check(&[], delete.clone(), "Storage volume not found");
        check(&data[..1], delete.clone(), "Storage volume \"data\" is being created");
        let removed = "operation-accepted, storage-volume-delete-requested; DeleteVolume";
        check(&data, delete, removed);
        for name in ["", ".a", "a/b", "a b", "a\0"] {
            let rule = "1 to 63 letters, digits, '-', '_' and '.'";
            check(&[], create(name, &[]), &format!("Invalid storage volume name {name:?}: {rule}"));
        }
    }
}
