//! A storage pool.

use std::collections::BTreeSet;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{
    config::{self, Changes, Config},
    decision::{Context, Decision, check_revision},
    ids::{Generation, NodeId, PoolId, Revision, StreamId, StreamKind},
    name::{self, Name, NameKind},
    node::Node,
    operation::{Class, Resource, ResourceKind, Verb},
    project::Project,
    rejection::{Noun, Rejection},
    resource::{self, Facts, PartState, Parts, Progress, Shared, SharedFacts, Status},
    spec::{PoolDriver, PoolSpec},
    table::Table,
    task::{Report, Subject, Work},
    world::World,
};

/// Of a pool that says no size.
const SIZE_DEFAULT: &str = "30GiB";
const SIZE_MIN: u64 = 256 << 20;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pool {
    pub id: PoolId,
    pub name: String,
    pub description: String,
    /// `btrfs` or `dir`.
    pub driver: String,
    pub config: Config,
    pub created_at: DateTime<Utc>,
    pub progress: Progress,
    /// On which nodes it is.
    #[serde(default)]
    pub parts: Parts,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Event {
    Created {
        operation: crate::ids::OperationId,
        name: String,
        description: String,
        driver: String,
        config: Config,
        /// The nodes that it is asked from; empty: from the one that there is.
        #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
        nodes: BTreeSet<NodeId>,
    },
    Ready,
    Configured {
        changes: Changes,
        description: Option<String>,
    },
    DeleteRequested {
        operation: crate::ids::OperationId,
    },
    Failed {
        verb: Verb,
        error: String,
    },
    Deleted,
    /// One more node is to have it, or one that failed before.
    NodeAsked {
        node: NodeId,
        generation: Generation,
    },
    NodeReady {
        node: NodeId,
    },
    NodeFailed {
        node: NodeId,
        error: String,
    },
    /// One node has removed its part.
    NodeGone {
        node: NodeId,
    },
}

impl Event {
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Created { .. } => "created",
            Self::Ready => "ready",
            Self::Configured { .. } => "configured",
            Self::DeleteRequested { .. } => "delete-requested",
            Self::Failed { .. } => "failed",
            Self::Deleted => "deleted",
            Self::NodeAsked { .. } => "node-asked",
            Self::NodeReady { .. } => "node-ready",
            Self::NodeFailed { .. } => "node-failed",
            Self::NodeGone { .. } => "node-gone",
        }
    }
}

pub(crate) fn evolve(
    pools: &mut Table<PoolId, Pool>,
    known: &Table<NodeId, Node>,
    id: PoolId,
    event: &Event,
    at: DateTime<Utc>,
) {
    if let Event::Created { operation, name, description, driver, config, nodes } = event {
        let pool = Pool {
            id,
            name: name.clone(),
            description: description.clone(),
            driver: driver.clone(),
            config: config.clone(),
            created_at: at,
            progress: Progress::creating(*operation),
            parts: Parts::asked_of(nodes, known),
        };
        pools.insert(id, pool);
        return;
    }
    let Some(pool) = pools.get_mut(&id) else { return };
    match event {
        Event::Created { .. } => {}
        Event::Ready | Event::Failed { .. } => {
            pool.progress.settle();
            pool.parts.settle();
        }
        Event::Configured { changes, description } => {
            config::apply(&mut pool.config, changes);
            pool.description =
                description.clone().unwrap_or_else(|| std::mem::take(&mut pool.description));
        }
        Event::DeleteRequested { operation } => {
            pool.progress.request(Status::Deleting, *operation);
            pool.parts.ask_again(pool.progress.generation);
        }
        Event::Deleted => {
            pools.remove(&id);
        }
        Event::NodeAsked { node, generation } => {
            pool.progress.generation = *generation;
            pool.parts.ask(*node, *generation);
        }
        Event::NodeReady { node } => pool.parts.set(*node, PartState::Ready),
        Event::NodeFailed { node, error } => {
            pool.parts.set(*node, PartState::Failed(error.clone()));
        }
        Event::NodeGone { node } => pool.parts.remove(*node),
    }
}

fn stream(id: PoolId) -> StreamId {
    StreamId::new(StreamKind::Pool, id)
}

impl Pool {
    /// # Errors
    /// While it is made or removed.
    pub fn usable(&self) -> Result<(), Rejection> {
        self.progress.idle(&format!("Storage pool {:?}", self.name))
    }

    /// What a node is told.
    #[must_use]
    pub fn spec(&self) -> PoolSpec {
        let source = self.config.get("source").filter(|text| !text.is_empty()).map(Into::into);
        let size = self.config.get("size").map_or(SIZE_DEFAULT, String::as_str);
        let driver = match self.driver.as_str() {
            "dir" => PoolDriver::Dir { source },
            _ => PoolDriver::Btrfs { source, size_bytes: config::bytes(size).unwrap_or(SIZE_MIN) },
        };
        PoolSpec { pool: self.id, name: self.name.clone(), driver }
    }

    fn held(&self) -> Name {
        Name::new(NameKind::Pool, Uuid::nil(), &self.name)
    }
}

fn check_name(name: &str) -> Result<(), Rejection> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if name.is_empty() || name.len() > 63 || !name.chars().all(plain) || name.starts_with('.') {
        let rule = "1 to 63 letters, digits, '-', '_' and '.'";
        return Err(Rejection::Invalid(format!("Invalid storage pool name {name:?}: {rule}")));
    }
    Ok(())
}

fn resources(name: &str) -> Vec<Resource> {
    vec![Resource { kind: ResourceKind::Pool, name: name.to_owned() }]
}

/// # Errors
/// When the name is taken or wrong, there is no such driver, or the configuration is wrong.
pub fn create(
    world: &World,
    context: &Context,
    name: &str,
    driver: &str,
    description: &str,
    config: &Config,
) -> Result<Decision, Rejection> {
    check_name(name)?;
    if !matches!(driver, "btrfs" | "dir") {
        return Err(Rejection::Invalid(format!(
            "Unknown storage driver {driver:?}; there are btrfs and dir"
        )));
    }
    config::check(config::Scope::Pool, config)?;
    if let Some(size) = config.get("size").filter(|text| !text.is_empty()) {
        let size = config::bytes(size).map_err(Rejection::Invalid)?;
        if driver == "btrfs" && size < SIZE_MIN {
            return Err(Rejection::Invalid(format!(
                "A btrfs pool has at least {} MiB",
                SIZE_MIN >> 20
            )));
        }
    }
    let source = config.get("source").filter(|text| !text.is_empty());
    if source.is_some_and(|source| !source.starts_with('/')) {
        return Err(Rejection::Invalid("A pool's source is an absolute path".to_owned()));
    }
    if world.holder(NameKind::Pool, Uuid::nil(), name).is_some() {
        return Err(Rejection::AlreadyExists { noun: Noun::Pool, name: name.to_owned() });
    }
    let nodes = resource::all_nodes(world)?;
    let id = PoolId::derive(&[&context.operation.to_string()]);
    let pool = Pool {
        id,
        name: name.to_owned(),
        description: description.to_owned(),
        driver: driver.to_owned(),
        config: config.clone(),
        created_at: context.time,
        progress: Progress::creating(context.operation),
        parts: Parts::default(),
    };
    let mut decision = Decision::for_context(context);
    decision.accept(Project::default_id(), Verb::CreatePool, Class::Task, resources(name));
    let held = pool.held();
    decision.record(
        held.stream(),
        name::Event::Reserved { name: held, holder: id.0, description: String::new() },
    );
    let work = Work::EnsurePool { spec: pool.spec() };
    let subject = Subject::Pool(id);
    let asked = nodes.iter().copied();
    resource::order_all(&mut decision, context, asked, &subject, &pool.progress, &work);
    let nodes = if nodes.len() > 1 { nodes.into_iter().collect() } else { BTreeSet::new() };
    let Pool { name, description, driver, config, .. } = pool;
    decision.record(
        stream(id),
        Event::Created { operation: context.operation, name, description, driver, config, nodes },
    );
    Ok(decision)
}

/// # Errors
/// When there is no such pool, or something is changed that cannot be.
pub fn configure(
    world: &World,
    context: &Context,
    name: &str,
    description: Option<&str>,
    config: &Config,
    expected: Option<Revision>,
) -> Result<Decision, Rejection> {
    let pool = world.pool(name)?;
    check_revision(world, stream(pool.id), expected)?;
    config::check(config::Scope::Pool, config)?;
    let changes = config::diff(&pool.config, config);
    if let Some(key) = changes.keys().find(|key| !key.starts_with("user.")) {
        let message = format!("The pool's {key:?} cannot be changed after it is made");
        return Err(Rejection::NotAllowed {
            message,
            hint: "make another pool: stapes storage create".to_owned(),
        });
    }
    let description = description.filter(|text| *text != pool.description).map(str::to_owned);
    let mut decision = Decision::for_context(context);
    if !changes.is_empty() || description.is_some() {
        decision.record(stream(pool.id), Event::Configured { changes, description });
    }
    Ok(decision)
}

/// # Errors
/// When there is no such pool, or something is in it.
pub fn delete(world: &World, context: &Context, name: &str) -> Result<Decision, Rejection> {
    let pool = world.pool(name)?;
    pool.usable()?;
    let by = users(world, pool);
    if !by.is_empty() {
        return Err(Rejection::InUse { noun: Noun::Pool, by });
    }
    let mut progress = pool.progress;
    progress.request(Status::Deleting, context.operation);
    let mut decision = Decision::for_context(context);
    decision.accept(Project::default_id(), Verb::DeletePool, Class::Task, resources(name));
    decision.record(stream(pool.id), Event::DeleteRequested { operation: context.operation });
    let subject = Subject::Pool(pool.id);
    let asked = pool.parts.nodes();
    resource::order_all(&mut decision, context, asked, &subject, &progress, &Work::RemovePool);
    Ok(decision)
}

/// What a node made of a task on a pool.
#[must_use]
pub fn report(world: &World, context: &Context, id: PoolId, report: &Report) -> Decision {
    let Some(pool) = world.pools.get(&id) else { return Decision::for_context(context) };
    resource::report_shared(world, context, &pool.shared(), &facts(pool), report)
}

impl Pool {
    pub(crate) fn shared(&self) -> Shared<'_> {
        Shared {
            stream: stream(self.id),
            subject: Subject::Pool(self.id),
            progress: &self.progress,
            parts: &self.parts,
            ensure: Work::EnsurePool { spec: self.spec() },
            remove: Work::RemovePool,
        }
    }
}

pub(crate) fn facts(pool: &Pool) -> SharedFacts {
    let verb =
        if pool.progress.status == Status::Creating { Verb::CreatePool } else { Verb::DeletePool };
    let held = pool.held();
    let whole = Facts {
        ready: Event::Ready.into(),
        deleted: Event::Deleted.into(),
        failed: |verb, error| Event::Failed { verb, error }.into(),
        released: vec![(held.stream(), name::Event::Released { name: held }.into())],
    };
    SharedFacts {
        whole,
        verb,
        asked: |node, generation| Event::NodeAsked { node, generation }.into(),
        ready: |node| Event::NodeReady { node }.into(),
        failed: |node, error| Event::NodeFailed { node, error }.into(),
        gone: |node| Event::NodeGone { node }.into(),
    }
}

/// What uses the pool, in words.
#[must_use]
pub fn users(world: &World, pool: &Pool) -> Vec<String> {
    let instances = world.instances.values().filter(|instance| instance.pool == pool.id);
    let volumes = world.volumes.values().filter(|volume| volume.pool == pool.id);
    let names_it =
        |device: &config::Device| device.get("pool").is_some_and(|name| *name == pool.name);
    let profiles = world.profiles.values().filter(|profile| profile.devices.values().any(names_it));
    let mut users: Vec<_> =
        instances.map(|instance| format!("instance {}", instance.name)).collect();
    users.extend(volumes.map(|volume| format!("volume {}", volume.name)));
    users.extend(profiles.map(|profile| format!("profile {}", profile.name)));
    users
}

#[cfg(test)]
mod tests {
    use crate::{
        command::Command,
        testing::{Asked, Done, Failed, House, check, config},
    };

    fn create(name: &str, driver: &str, pairs: &[(&str, &str)]) -> Command {
        let (name, driver, description) = (name.to_owned(), driver.to_owned(), String::new());
        Command::CreatePool { name, driver, description, config: config(pairs) }
    }

    #[test]
    fn pools_come_and_go() {
        let delete = |name: &str| Command::DeletePool { name: name.to_owned() };
        let made = "operation-accepted, storage-pool-created; EnsurePool";
        check(&[], create("fast", "dir", &[]), made);
        check(&[], create("default", "dir", &[]), "Storage pool \"default\" already exists");
        check(
            &[],
            create("fast", "zfs", &[]),
            "Unknown storage driver \"zfs\"; there are btrfs and dir",
        );
        check(
            &[],
            create("fast", "btrfs", &[("size", "1MiB")]),
            "A btrfs pool has at least 256 MiB",
        );
        check(
            &[],
            create("fast", "dir", &[("source", "srv")]),
            "A pool's source is an absolute path",
        );
        check(&[], delete("default"), "Storage pool is currently in use");
        let fast = [Asked(create("fast", "dir", &[])), Done];
        let removed = "operation-accepted, storage-pool-delete-requested; RemovePool";
        check(&fast, delete("fast"), removed);
        check(&fast[..1], delete("fast"), "Storage pool \"fast\" is being created");
        let lost = House::after(&[fast[0].clone(), Failed("no disk")]);
        assert!(lost.world.pool("fast").is_err(), "what could not be made holds no name");
        assert!(lost.world.operations.is_empty());
    }
}
