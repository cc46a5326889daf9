//! What a node is ordered to do, and what it answers.
//!
//! A task is complete in itself: a node needs to read nothing but its own tasks. It may be
//! delivered again at any time, so [`crate::agent`] judges it by its incarnation.

use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::{
    ids::{
        Fingerprint, InstanceId, NetworkId, NodeId, OperationId, PoolId, SnapshotId, TaskId,
        VolumeId,
    },
    port::{
        DriverError,
        guest::{ExitCause, Exited, Preflight, Running},
        peer::PeerAddress,
    },
    spec::{GuestSpec, Incarnation, Limits, NetworkSpec, PoolSpec, Reservation, RootSource},
};

/// A work order for one node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Task {
    pub id: TaskId,
    pub node: NodeId,
    pub operation: OperationId,
    /// Tasks of one subject are performed one after the other.
    pub subject: Subject,
    pub incarnation: Incarnation,
    pub work: Work,
}

impl Task {
    /// The answer to it.
    #[must_use]
    pub fn report(&self, outcome: Outcome) -> Report {
        Report {
            task: self.id,
            node: self.node,
            operation: self.operation,
            subject: self.subject.clone(),
            incarnation: self.incarnation,
            outcome,
        }
    }
}

/// What a task is about.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Subject {
    Instance(InstanceId),
    Network(NetworkId),
    Pool(PoolId),
    Volume(VolumeId),
    Image(Fingerprint),
}

impl Subject {
    #[must_use]
    pub const fn instance(&self) -> Option<InstanceId> {
        match self {
            Self::Instance(instance) => Some(*instance),
            Self::Network(_) | Self::Pool(_) | Self::Volume(_) | Self::Image(_) => None,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Work {
    /// Make an instance's root volume (unpacking its image first) and take its interfaces into the plan.
    CreateRoot {
        pool: PoolId,
        source: RootSource,
        quota_bytes: Option<u64>,
        reservations: Vec<Reservation>,
        /// Who has the image's files, if this node may lack them.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        image_at: Vec<PeerAddress>,
    },
    /// Replace the root volume's content; the guest does not run.
    ReplaceRoot {
        pool: PoolId,
        source: RootSource,
        quota_bytes: Option<u64>,
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        image_at: Vec<PeerAddress>,
    },
    Start {
        spec: Box<GuestSpec>,
        reservations: Vec<Reservation>,
    },
    Stop {
        force: bool,
        timeout: Duration,
    },
    Freeze,
    Unfreeze,
    /// Of the root volume, and of the guest if it runs.
    SetLimits {
        pool: PoolId,
        limits: Limits,
    },
    /// The instance's interfaces in the address plan, from now on.
    Reserve {
        reservations: Vec<Reservation>,
    },
    CreateSnapshot {
        pool: PoolId,
        snapshot: SnapshotId,
    },
    DeleteSnapshot {
        pool: PoolId,
        snapshot: SnapshotId,
    },
    RestoreSnapshot {
        pool: PoolId,
        snapshot: SnapshotId,
    },
    /// Stop the guest if it runs, and remove all that it has on this node.
    DeleteInstance {
        pool: PoolId,
    },
    EnsurePool {
        spec: PoolSpec,
    },
    RemovePool,
    EnsureNetwork {
        spec: NetworkSpec,
    },
    RemoveNetwork,
    CreateVolume {
        pool: PoolId,
        quota_bytes: Option<u64>,
    },
    DeleteVolume {
        pool: PoolId,
    },
    /// Remove the image's files and what was unpacked of it in these pools.
    RemoveImage {
        pools: Vec<PoolId>,
    },
    /// Say whether the guest could move while it runs.
    Assess,
    /// Fetch what another node has of a root volume.
    Receive(Box<Transfer>),
    /// Freeze the guest and write down what it is; it stays so until it is resumed or removed.
    Checkpoint,
    /// Fetch the rest and a checkpoint, and bring the guest to life, unconnected.
    Restore {
        transfer: Box<Transfer>,
        spec: Box<GuestSpec>,
        reservations: Vec<Reservation>,
    },
    /// Connect the guest that was restored, and announce where it is now.
    Activate,
    /// The guest that was to move stays: let it run on if it is held.
    Resume,
    /// Delete snapshots that were only made to be sent; fine when they are not there.
    DropRounds {
        pool: PoolId,
        volume: VolumeId,
        rounds: Vec<SnapshotId>,
    },
}

impl Work {
    /// Whether a guest runs, or runs on, after it.
    #[must_use]
    pub const fn lets_run(&self) -> bool {
        matches!(self, Self::Start { .. } | Self::Restore { .. } | Self::Activate | Self::Resume)
    }

    /// Whether it is of use only to what was to follow it. When something else follows, that undoes
    /// it: it is not begun, and what only fetches is given up.
    #[must_use]
    pub const fn prepares(&self) -> bool {
        matches!(self, Self::Assess | Self::Receive(_) | Self::Checkpoint | Self::Restore { .. })
    }

    /// Whether it takes away what only the log can say that nobody needs.
    #[must_use]
    pub const fn removes(&self) -> bool {
        matches!(self, Self::DeleteInstance { .. } | Self::RemoveImage { .. })
    }
}

/// What a node fetches of a root volume, and from whom. Repeating it fetches what is missing.
/// Snapshots of the volume that are not named here are of an older attempt: they go.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Transfer {
    pub from: PeerAddress,
    pub pool: PoolId,
    /// At the source; here it is the volume of the task's instance.
    pub volume: VolumeId,
    /// Oldest first; each is sent as the difference to the one before it.
    pub snapshots: Vec<SnapshotId>,
    /// The last snapshot is to be made at the source if it is not there.
    pub make_last: bool,
    /// What lies below the volume; fetched too unless it is here.
    pub image: Option<Fingerprint>,
    /// The last snapshot becomes the root.
    pub root: Option<ReceivedRoot>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReceivedRoot {
    pub quota_bytes: Option<u64>,
    pub reservations: Vec<Reservation>,
}

/// A node's answer to a task, or what it saw without being asked. Becomes a fact only by a decision.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    pub task: TaskId,
    pub node: NodeId,
    pub operation: OperationId,
    pub subject: Subject,
    pub incarnation: Incarnation,
    pub outcome: Outcome,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    Done,
    Started(Running),
    Stopped {
        cause: ExitCause,
        at: DateTime<Utc>,
    },
    Failed(Failure),
    /// How it could move.
    Assessed(Preflight),
    /// So much came over.
    Received {
        bytes: u64,
    },
    /// It is held since then; its images have so many bytes.
    Checkpointed {
        at: DateTime<Utc>,
        bytes: u64,
    },
    /// It lives here, unconnected; so much came over.
    Restored {
        running: Running,
        bytes: u64,
    },
}

/// Why a task was not done; what it began is undone or will be by the next one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    pub kind: FailureKind,
    pub message: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FailureKind {
    Refused,
    NotFound,
    Full,
    Failed,
}

impl From<DriverError> for Failure {
    fn from(error: DriverError) -> Self {
        let kind = match &error {
            DriverError::Refused(_) => FailureKind::Refused,
            DriverError::NotFound(_) => FailureKind::NotFound,
            DriverError::Full(_) => FailureKind::Full,
            DriverError::Failed(_) => FailureKind::Failed,
        };
        Self { kind, message: error.to_string() }
    }
}

/// What a node saw without being asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Observation {
    /// A guest ended by itself.
    Exited(Exited),
    /// After the node's daemon started: what runs, and what ended while nobody looked.
    Adopted { running: Vec<Running>, exited: Vec<Exited> },
    /// A guest that is held to move, for which nothing came for too long.
    Overheld(Running),
}
