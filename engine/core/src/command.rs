//! Everything that may be asked.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use chrono::{DateTime, Utc};

use crate::{
    cluster,
    config::Config,
    ids::{InstanceId, NodeId, OperationId, Revision},
    image, instance,
    instance::Target,
    network, node,
    port::guest::{Exited, Running},
    profile, session,
    task::Report,
};

mod decide;

pub use decide::decide;

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
                | Self::MoveInstance { .. }
                | Self::ReplicateInstance { .. }
                | Self::TakeOverInstance { .. }
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
