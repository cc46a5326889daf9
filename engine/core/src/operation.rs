//! An operation: what a user asked for, with its outcome. Its id correlates all that it caused.
//!
//! ```text
//! accepted ─► succeeded | failed | cancelled
//! ```

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::{
    ids::{Fingerprint, OperationId, ProjectId},
    port::guest::Mobility,
};

/// What was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verb {
    CreateInstance,
    StartInstance,
    StopInstance,
    RestartInstance,
    FreezeInstance,
    UnfreezeInstance,
    UpdateInstance,
    RenameInstance,
    RebuildInstance,
    DeleteInstance,
    MoveInstance,
    ReplicateInstance,
    TakeOverInstance,
    CreateSnapshot,
    DeleteSnapshot,
    RenameSnapshot,
    UpdateSnapshot,
    RestoreSnapshot,
    Exec,
    Console,
    ImportImage,
    DeleteImage,
    CreatePool,
    DeletePool,
    CreateNetwork,
    UpdateNetwork,
    DeleteNetwork,
    CreateVolume,
    DeleteVolume,
    EvacuateNode,
    RestoreNode,
}

impl Verb {
    /// As the dialect describes it.
    #[must_use]
    pub const fn description(self) -> &'static str {
        match self {
            Self::CreateInstance => "Creating instance",
            Self::StartInstance => "Starting instance",
            Self::StopInstance => "Stopping instance",
            Self::RestartInstance => "Restarting instance",
            Self::FreezeInstance => "Freezing instance",
            Self::UnfreezeInstance => "Unfreezing instance",
            Self::UpdateInstance => "Updating instance",
            Self::RenameInstance => "Renaming instance",
            Self::RebuildInstance => "Rebuilding instance",
            Self::DeleteInstance => "Deleting instance",
            Self::MoveInstance => "Migrating instance",
            Self::ReplicateInstance => "Replicating instance",
            Self::TakeOverInstance => "Taking over instance",
            Self::CreateSnapshot => "Snapshotting instance",
            Self::DeleteSnapshot => "Deleting snapshot",
            Self::RenameSnapshot => "Renaming snapshot",
            Self::UpdateSnapshot => "Updating snapshot",
            Self::RestoreSnapshot => "Restoring snapshot",
            Self::Exec => "Executing command",
            Self::Console => "Showing console",
            Self::ImportImage => "Downloading image",
            Self::DeleteImage => "Deleting image",
            Self::CreatePool => "Creating storage pool",
            Self::DeletePool => "Deleting storage pool",
            Self::CreateNetwork => "Creating network",
            Self::UpdateNetwork => "Updating network",
            Self::DeleteNetwork => "Deleting network",
            Self::CreateVolume => "Creating storage volume",
            Self::DeleteVolume => "Deleting storage volume",
            Self::EvacuateNode => "Evacuating cluster member",
            Self::RestoreNode => "Restoring cluster member",
        }
    }

    /// The one word that names it in "Instance is busy running a ... operation" and in timelines.
    #[must_use]
    pub const fn action(self) -> &'static str {
        match self {
            Self::CreateInstance | Self::CreatePool | Self::CreateNetwork | Self::CreateVolume => {
                "create"
            }
            Self::StartInstance => "start",
            Self::StopInstance => "stop",
            Self::RestartInstance => "restart",
            Self::FreezeInstance => "freeze",
            Self::UnfreezeInstance => "unfreeze",
            Self::UpdateInstance | Self::UpdateNetwork | Self::UpdateSnapshot => "update",
            Self::RenameInstance | Self::RenameSnapshot => "rename",
            Self::RebuildInstance => "rebuild",
            Self::MoveInstance => "move",
            Self::ReplicateInstance => "replicate",
            Self::TakeOverInstance => "take-over",
            Self::DeleteInstance
            | Self::DeleteImage
            | Self::DeletePool
            | Self::DeleteNetwork
            | Self::DeleteVolume => "delete",
            Self::CreateSnapshot => "snapshot",
            Self::DeleteSnapshot => "delete-snapshot",
            Self::RestoreSnapshot | Self::RestoreNode => "restore",
            Self::EvacuateNode => "evacuate",
            Self::Exec => "exec",
            Self::Console => "console",
            Self::ImportImage => "import",
        }
    }
}

/// Something that an operation is about, as the dialect groups it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Resource {
    pub kind: ResourceKind,
    /// Its name then; a snapshot's is `instance/snapshot`, a volume's `pool/volume`.
    pub name: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ResourceKind {
    Instance,
    Snapshot,
    Image,
    Pool,
    Network,
    Volume,
    Node,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Class {
    /// Ends by a node's report.
    Task,
    /// Lives as long as the client's connections and the daemon.
    Websocket,
}

/// What it gave.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Gain {
    Nothing,
    /// A program's exit status.
    Exit {
        status: i32,
    },
    Image {
        fingerprint: Fingerprint,
        size_bytes: u64,
    },
    /// How an instance moved, for how long nobody could reach it, and how much came over.
    Moved {
        mode: Mobility,
        downtime_ms: u64,
        bytes: u64,
    },
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Event {
    Accepted {
        operation: OperationId,
        verb: Verb,
        class: Class,
        project: ProjectId,
        resources: Vec<Resource>,
        /// Of an exec: the program and its arguments.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        command: Vec<String>,
    },
    Succeeded {
        gain: Gain,
    },
    Failed {
        error: String,
    },
    Cancelled,
}

impl Event {
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Accepted { .. } => "accepted",
            Self::Succeeded { .. } => "succeeded",
            Self::Failed { .. } => "failed",
            Self::Cancelled => "cancelled",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Operation {
    pub id: OperationId,
    pub verb: Verb,
    pub class: Class,
    pub project: ProjectId,
    pub resources: Vec<Resource>,
    pub command: Vec<String>,
    pub accepted_at: DateTime<Utc>,
    pub ended_at: Option<DateTime<Utc>>,
    pub status: Status,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Status {
    Running,
    Succeeded(Gain),
    Failed(String),
    Cancelled,
}

impl Operation {
    /// The operation that an [`Event::Accepted`] begins; no other event begins one.
    #[must_use]
    pub fn begin(event: &Event, at: DateTime<Utc>) -> Option<Self> {
        match event {
            Event::Accepted { operation, verb, class, project, resources, command } => Some(Self {
                id: *operation,
                verb: *verb,
                class: *class,
                project: *project,
                resources: resources.clone(),
                command: command.clone(),
                accepted_at: at,
                ended_at: None,
                status: Status::Running,
            }),
            Event::Succeeded { .. } | Event::Failed { .. } | Event::Cancelled => None,
        }
    }

    pub fn evolve(&mut self, event: &Event, at: DateTime<Utc>) {
        self.status = match event {
            Event::Accepted { .. } => return,
            Event::Succeeded { gain } => Status::Succeeded(gain.clone()),
            Event::Failed { error } => Status::Failed(error.clone()),
            Event::Cancelled => Status::Cancelled,
        };
        self.ended_at = Some(at);
    }

    #[must_use]
    pub fn ended(&self) -> bool {
        self.status != Status::Running
    }
}
