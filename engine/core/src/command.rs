//! Everything that may be asked, and the one place where it is decided.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use chrono::{DateTime, Utc};

use crate::{
    cluster,
    config::Config,
    decision::{Context, Decision},
    ids::{InstanceId, NodeId, OperationId, Revision},
    image, instance,
    instance::Target,
    network, node, pool,
    port::guest::{Exited, Running},
    profile, project,
    rejection::Rejection,
    server::{self, Server},
    session,
    task::{Report, Subject},
    volume,
    world::World,
};

/// Imperative; may be refused. Objects are named as users name them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    CreateInstance(Box<instance::Create>),
    StartInstance {
        target: Target,
    },
    StopInstance {
        target: Target,
        force: bool,
        timeout: Duration,
    },
    RestartInstance {
        target: Target,
        force: bool,
        timeout: Duration,
    },
    FreezeInstance {
        target: Target,
    },
    UnfreezeInstance {
        target: Target,
    },
    DeleteInstance {
        target: Target,
        force: bool,
    },
    RenameInstance {
        target: Target,
        to: String,
    },
    ReconfigureInstance {
        target: Target,
        wanted: Box<instance::Reconfigure>,
    },
    /// `None`: with nothing in it.
    RebuildInstance {
        target: Target,
        image: Option<String>,
    },
    /// Without a name it gets the next number.
    CreateSnapshot {
        target: Target,
        name: Option<String>,
        expires_at: Option<DateTime<Utc>>,
    },
    DeleteSnapshot {
        target: Target,
        name: String,
    },
    RenameSnapshot {
        target: Target,
        from: String,
        to: String,
    },
    SetSnapshotExpiry {
        target: Target,
        name: String,
        expires_at: Option<DateTime<Utc>>,
    },
    RestoreSnapshot {
        target: Target,
        name: String,
    },

    /// To a node, to one of a `@group`, or anywhere else.
    MoveInstance {
        target: Target,
        to: Option<String>,
        live: instance::LivePolicy,
    },
    /// Brings the copy on the node that `replication.target` names up to date.
    ReplicateInstance {
        instance: InstanceId,
    },
    /// Its node is fenced: it goes on as its copy.
    TakeOverInstance {
        instance: InstanceId,
    },

    BeginExec {
        target: Target,
        command: Vec<String>,
    },
    BeginConsole {
        target: Target,
    },
    EndSession {
        operation: OperationId,
        how: session::End,
    },

    ImportImage(Box<image::Import>),
    DescribeImage {
        project: String,
        image: String,
        wanted: Box<image::Describe>,
    },
    DeleteImage {
        project: String,
        image: String,
    },
    CreateImageAlias {
        project: String,
        alias: String,
        image: String,
        description: String,
    },
    /// What is `None` stays.
    ChangeImageAlias {
        project: String,
        alias: String,
        rename: Option<String>,
        image: Option<String>,
        description: Option<String>,
    },
    DeleteImageAlias {
        project: String,
        alias: String,
    },

    CreateProfile {
        project: String,
        name: String,
        wanted: Box<profile::Wanted>,
    },
    ConfigureProfile {
        project: String,
        name: String,
        wanted: Box<profile::Wanted>,
        expected: Option<Revision>,
    },
    RenameProfile {
        project: String,
        name: String,
        to: String,
    },
    DeleteProfile {
        project: String,
        name: String,
    },

    CreateProject {
        name: String,
        description: String,
        config: Config,
    },
    ConfigureProject {
        name: String,
        description: Option<String>,
        config: Config,
        expected: Option<Revision>,
    },
    RenameProject {
        name: String,
        to: String,
    },
    DeleteProject {
        name: String,
    },

    CreateNetwork(Box<network::Create>),
    ConfigureNetwork {
        project: String,
        name: String,
        description: Option<String>,
        config: Config,
        expected: Option<Revision>,
    },
    DeleteNetwork {
        project: String,
        name: String,
    },

    CreatePool {
        name: String,
        driver: String,
        description: String,
        config: Config,
    },
    ConfigurePool {
        name: String,
        description: Option<String>,
        config: Config,
        expected: Option<Revision>,
    },
    DeletePool {
        name: String,
    },

    CreateVolume {
        project: String,
        pool: String,
        name: String,
        description: String,
        config: Config,
        /// A cluster member's name.
        target: Option<String>,
    },
    ConfigureVolume {
        pool: String,
        name: String,
        description: Option<String>,
        config: Config,
        expected: Option<Revision>,
    },
    RenameVolume {
        pool: String,
        name: String,
        to: String,
    },
    DeleteVolume {
        pool: String,
        name: String,
    },

    ConfigureServer {
        config: BTreeMap<String, String>,
    },

    EnableCluster(Box<cluster::Enable>),
    /// The log knows the hash of the token's secret.
    CreateJoinToken {
        name: String,
        secret_hash: String,
        expires_at: DateTime<Utc>,
    },
    RevokeJoinToken {
        name: String,
    },
    JoinNode(Box<node::Join>),
    ConfigureNode {
        name: String,
        wanted: Box<node::Configure>,
        expected: Option<Revision>,
    },
    RenameNode {
        name: String,
        to: String,
    },
    RemoveNode {
        name: String,
        force: bool,
    },
    CreateClusterGroup {
        name: String,
        description: String,
        members: BTreeSet<String>,
    },
    /// What is `None` stays.
    ConfigureClusterGroup {
        name: String,
        description: Option<String>,
        members: Option<BTreeSet<String>>,
    },
    RenameClusterGroup {
        name: String,
        to: String,
    },
    DeleteClusterGroup {
        name: String,
    },
    EvacuateNode {
        name: String,
        mode: node::Evacuation,
    },
    RestoreNode {
        name: String,
    },

    /// `by` does not hear it any more.
    LoseNode {
        node: NodeId,
        by: NodeId,
    },
    ReturnNode {
        node: NodeId,
    },
    FenceNode {
        node: NodeId,
        proof: node::FencingProof,
    },
    /// Its pools and networks that it has not.
    PrepareNode {
        node: NodeId,
    },
    /// Nothing is left to move; `failed` is what stayed, and why.
    FinishEvacuation {
        name: String,
        failed: Vec<String>,
    },
    FinishRestore {
        name: String,
        failed: Vec<String>,
    },

    /// A host started that did not run it; refused if it has no wish to run.
    AutostartInstance {
        instance: InstanceId,
    },

    /// A node's daemon started.
    StartNode(Box<node::Start>),
    /// A node's answer to a task.
    Report(Box<Report>),
    /// A guest ended by itself.
    ObserveExit(Exited),
    /// What a node's daemon found of one instance when it started.
    ObserveAdopted {
        node: NodeId,
        instance: InstanceId,
        running: Option<Running>,
        exited: Option<Exited>,
    },
    /// A node holds a guest that was to move, and nothing comes for it.
    ObserveOverheld {
        node: NodeId,
        held: Running,
    },
}

impl Command {
    /// Whether it takes away, or changes, what other aggregates rely on without holding it: such a
    /// decision is made while no other is on its way to the log.
    #[must_use]
    pub const fn is_exclusive(&self) -> bool {
        matches!(
            self,
            Self::DeleteImage { .. }
                | Self::ConfigureProfile { .. }
                | Self::RenameProfile { .. }
                | Self::DeleteProfile { .. }
                | Self::ConfigureProject { .. }
                | Self::RenameProject { .. }
                | Self::DeleteProject { .. }
                | Self::ConfigureNetwork { .. }
                | Self::DeleteNetwork { .. }
                | Self::DeletePool { .. }
                | Self::RenameVolume { .. }
                | Self::DeleteVolume { .. }
                | Self::CreateNetwork(_)
                | Self::JoinNode(_)
                | Self::RemoveNode { .. }
                | Self::EvacuateNode { .. }
                | Self::ConfigureNode { .. }
                | Self::CreateClusterGroup { .. }
                | Self::ConfigureClusterGroup { .. }
                | Self::RenameClusterGroup { .. }
                | Self::DeleteClusterGroup { .. }
        )
    }

    /// Whether it relies on something that another decision may take away or change without this
    /// one's streams being touched. Within a process exclusive commands are kept apart from all
    /// others; between nodes these meet them on the guard's stream.
    #[must_use]
    pub const fn relies_on_catalog(&self) -> bool {
        matches!(
            self,
            Self::CreateInstance(_)
                | Self::ReconfigureInstance { .. }
                | Self::RestoreSnapshot { .. }
                | Self::RebuildInstance { .. }
                | Self::ImportImage(_)
                | Self::CreateImageAlias { .. }
                | Self::ChangeImageAlias { .. }
                | Self::CreateProfile { .. }
                | Self::CreatePool { .. }
                | Self::CreateVolume { .. }
                | Self::PrepareNode { .. }
        )
    }
}

/// What would happen. Pure: the same world, context and command always give the same decision.
///
/// # Errors
/// Why the command is refused; nothing happens then.
pub fn decide(world: &World, context: &Context, command: &Command) -> Result<Decision, Rejection> {
    check_reach(world, command)?;
    let mut decision = decide_alone(world, context, command)?;
    // One decider needs no guard: see `Command::is_exclusive`.
    let may_pass = command.is_exclusive() || command.relies_on_catalog();
    if may_pass && !decision.is_empty() && world.nodes.len() > 1 {
        decision.record(Server::guard(), server::Event::CatalogGuarded);
    }
    Ok(decision)
}

/// What a lost node would have to do is refused, not left waiting for its return.
#[allow(clippy::wildcard_enum_match_arm, reason = "the others take no instance's node's work")]
fn check_reach(world: &World, command: &Command) -> Result<(), Rejection> {
    let target = match command {
        Command::StartInstance { target }
        | Command::StopInstance { target, .. }
        | Command::RestartInstance { target, .. }
        | Command::FreezeInstance { target }
        | Command::UnfreezeInstance { target }
        | Command::DeleteInstance { target, .. }
        | Command::ReconfigureInstance { target, .. }
        | Command::RebuildInstance { target, .. }
        | Command::CreateSnapshot { target, .. }
        | Command::DeleteSnapshot { target, .. }
        | Command::RestoreSnapshot { target, .. }
        | Command::BeginExec { target, .. }
        | Command::BeginConsole { target } => target,
        _ => return Ok(()),
    };
    let instance = world.instance(&target.project, &target.name)?;
    world.nodes.get(&instance.node).map_or(Ok(()), node::Node::reachable)
}

fn decide_alone(
    world: &World,
    context: &Context,
    command: &Command,
) -> Result<Decision, Rejection> {
    match command {
        Command::CreateInstance(wanted) => instance::create(world, context, wanted),
        Command::StartInstance { target } => instance::start(world, context, target),
        Command::StopInstance { target, force, timeout } => {
            instance::stop(world, context, target, *force, *timeout)
        }
        Command::RestartInstance { target, force, timeout } => {
            instance::restart(world, context, target, *force, *timeout)
        }
        Command::FreezeInstance { target } => instance::freeze(world, context, target),
        Command::UnfreezeInstance { target } => instance::unfreeze(world, context, target),
        Command::DeleteInstance { target, force } => {
            instance::delete(world, context, target, *force)
        }
        Command::RenameInstance { target, to } => instance::rename(world, context, target, to),
        Command::ReconfigureInstance { target, wanted } => {
            instance::reconfigure(world, context, target, wanted)
        }
        Command::RebuildInstance { target, image } => {
            instance::rebuild(world, context, target, image.as_deref())
        }
        Command::CreateSnapshot { target, name, expires_at } => {
            instance::create_snapshot(world, context, target, name.as_deref(), *expires_at)
        }
        Command::DeleteSnapshot { target, name } => {
            instance::delete_snapshot(world, context, target, name)
        }
        Command::RenameSnapshot { target, from, to } => {
            instance::rename_snapshot(world, context, target, from, to)
        }
        Command::SetSnapshotExpiry { target, name, expires_at } => {
            instance::set_snapshot_expiry(world, context, target, name, *expires_at)
        }
        Command::RestoreSnapshot { target, name } => {
            instance::restore(world, context, target, name)
        }
        Command::MoveInstance { target, to, live } => {
            instance::move_to(world, context, target, to.as_deref(), *live)
        }
        Command::ReplicateInstance { instance } => instance::replicate(world, context, *instance),
        Command::TakeOverInstance { instance } => instance::take_over(world, context, *instance),

        Command::BeginExec { target, command } => {
            session::begin_exec(world, context, target, command)
        }
        Command::BeginConsole { target } => session::begin_console(world, context, target),
        Command::EndSession { operation, how } => session::end(world, context, *operation, how),

        Command::ImportImage(wanted) => image::import(world, context, wanted),
        Command::DescribeImage { project, image, wanted } => {
            image::describe(world, context, project, image, wanted)
        }
        Command::DeleteImage { project, image } => image::delete(world, context, project, image),
        Command::CreateImageAlias { project, alias, image, description } => {
            image::create_alias(world, context, project, alias, image, description)
        }
        Command::ChangeImageAlias { project, alias, rename, image, description } => {
            let change = (rename.as_deref(), image.as_deref(), description.as_deref());
            image::change_alias(world, context, project, alias, change)
        }
        Command::DeleteImageAlias { project, alias } => {
            image::delete_alias(world, context, project, alias)
        }

        Command::CreateProfile { project, name, wanted } => {
            profile::create(world, context, project, name, wanted)
        }
        Command::ConfigureProfile { project, name, wanted, expected } => {
            profile::configure(world, context, (project, name), wanted, *expected)
        }
        Command::RenameProfile { project, name, to } => {
            profile::rename(world, context, project, name, to)
        }
        Command::DeleteProfile { project, name } => profile::delete(world, context, project, name),

        Command::CreateProject { name, description, config } => {
            project::create(world, context, name, description, config)
        }
        Command::ConfigureProject { name, description, config, expected } => {
            project::configure(world, context, name, description.as_deref(), config, *expected)
        }
        Command::RenameProject { name, to } => project::rename(world, context, name, to),
        Command::DeleteProject { name } => project::delete(world, context, name),

        Command::CreateNetwork(wanted) => network::create(world, context, wanted),
        Command::ConfigureNetwork { project, name, description, config, expected } => {
            network::configure(
                world,
                context,
                (project, name),
                description.as_deref(),
                config,
                *expected,
            )
        }
        Command::DeleteNetwork { project, name } => network::delete(world, context, project, name),

        Command::CreatePool { name, driver, description, config } => {
            pool::create(world, context, name, driver, description, config)
        }
        Command::ConfigurePool { name, description, config, expected } => {
            pool::configure(world, context, name, description.as_deref(), config, *expected)
        }
        Command::DeletePool { name } => pool::delete(world, context, name),

        Command::CreateVolume { project, pool, name, description, config, target } => {
            let name = (name.as_str(), target.as_deref());
            volume::create(world, context, (project, pool), name, description, config)
        }
        Command::ConfigureVolume { pool, name, description, config, expected } => {
            volume::configure(
                world,
                context,
                (pool, name),
                description.as_deref(),
                config,
                *expected,
            )
        }
        Command::RenameVolume { pool, name, to } => volume::rename(world, context, pool, name, to),
        Command::DeleteVolume { pool, name } => volume::delete(world, context, pool, name),

        Command::ConfigureServer { config } => server::configure(world, context, config),

        Command::EnableCluster(_)
        | Command::CreateJoinToken { .. }
        | Command::RevokeJoinToken { .. }
        | Command::JoinNode(_)
        | Command::ConfigureNode { .. }
        | Command::RenameNode { .. }
        | Command::RemoveNode { .. }
        | Command::CreateClusterGroup { .. }
        | Command::ConfigureClusterGroup { .. }
        | Command::RenameClusterGroup { .. }
        | Command::DeleteClusterGroup { .. }
        | Command::EvacuateNode { .. }
        | Command::RestoreNode { .. }
        | Command::LoseNode { .. }
        | Command::ReturnNode { .. }
        | Command::FenceNode { .. }
        | Command::PrepareNode { .. }
        | Command::FinishEvacuation { .. }
        | Command::FinishRestore { .. } => cluster::decide(world, context, command),

        Command::AutostartInstance { instance } => instance::autostart(world, context, *instance),

        Command::StartNode(start) => node::start(world, context, start),
        Command::Report(report) => decide_report(world, context, report),
        Command::ObserveExit(exited) => instance::observe_exit(world, context, exited),
        Command::ObserveAdopted { node, instance, running, exited } => {
            let (there, running, exited) = ((*node, *instance), running.as_ref(), exited.as_ref());
            instance::observe_adopted(world, context, there, running, exited)
        }
        Command::ObserveOverheld { node, held } => {
            instance::observe_overheld(world, context, *node, held)
        }
    }
}

fn decide_report(world: &World, context: &Context, report: &Report) -> Result<Decision, Rejection> {
    match report.subject {
        Subject::Instance(id) => instance::report(world, context, id, report),
        Subject::Pool(id) => Ok(pool::report(world, context, id, report)),
        Subject::Network(id) => Ok(network::report(world, context, id, report)),
        Subject::Volume(id) => Ok(volume::report(world, context, id, report)),
        // Nothing waits for the removal of an image's files.
        Subject::Image(_) => Ok(Decision::for_context(context)),
    }
}
