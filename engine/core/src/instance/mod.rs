//! An instance: a container or a virtual machine with its snapshots, from creation to deletion.
//!
//! ```text
//!                  ┌──────────── failed: gone, names released
//! created ─► (create-root) ─► stopped ◄──────────┐
//!                                │ start         │ stopped{cause}
//!                                ▼               │
//!                             running ◄─► frozen ┘
//! ```
//!
//! Whatever takes a node's work is a [`Job`]: a verb, the operation that asked for it, and the steps
//! that are left, the first being under way. A report ends a step; the last step ends the operation.
//! There is at most one job, so an instance is busy or it is not, and a restart of the daemon does
//! not change that: the job is in the log.

use std::{collections::BTreeMap, time::Duration};

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::{
    config::{Changes, Config, Device, Devices},
    ids::{
        Epoch, Fingerprint, Generation, InstanceId, NetworkId, NodeId, OperationId, PoolId,
        ProjectId, SnapshotId,
    },
    operation::Verb,
    placement::Claim,
    port::guest::{ExitCause, Mobility},
    port::image::ImageKind,
    spec::{IdMap, Incarnation, MacAddress, RootSource},
    template::Trigger,
    world::Tail,
};

mod away;
#[cfg(test)]
mod away_tests;
mod copy;
#[cfg(test)]
mod copy_tests;
mod create;
mod evolve;
mod exit;
mod journey;
mod observe;
mod reconfigure;
mod relocate;
mod replicate;
mod request;
mod snapshot;
mod specify;
mod standing;
#[cfg(test)]
mod tests;
mod transit;
mod travel;
#[cfg(test)]
mod travel_tests;
mod work;

pub(crate) use away::check_reach;
pub use create::{Create, Source, create};
pub use exit::{observe_adopted, observe_exit};
pub use journey::{Journey, LivePolicy, Phase, Replica};
pub(crate) use observe::forget;
pub use observe::report;
pub use reconfigure::{Reconfigure, reconfigure, rename};
pub use relocate::move_to;
pub use replicate::{replicate, take_over};
pub use request::{
    Target, autostart, delete, freeze, rebuild, restart, restore, start, stop, unfreeze,
};
pub use snapshot::{create_snapshot, delete_snapshot, rename_snapshot, set_snapshot_expiry};
pub use specify::Expanded;
pub(crate) use specify::root_device;
pub use transit::observe_overheld;
pub(crate) use transit::{Gone, node_gone};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Instance {
    /// Where its stream ends; the world's business.
    pub(crate) tail: Tail,
    /// What it is promised, as the [ledger](crate::placement::Ledger) counts it; the world's business.
    pub(crate) claim: Option<Claim>,
    pub id: InstanceId,
    pub name: String,
    pub project: ProjectId,
    pub node: NodeId,
    pub kind: ImageKind,
    pub architecture: String,
    pub ephemeral: bool,
    pub description: String,
    pub created_at: DateTime<Utc>,
    pub last_started_at: Option<DateTime<Utc>>,
    /// Its own; profiles are below it.
    pub config: Config,
    pub devices: Devices,
    /// In order: later ones win.
    pub profiles: Vec<String>,
    pub image: Option<Fingerprint>,
    pub pool: PoolId,
    pub idmap: IdMap,
    /// What the address plan holds for it, by device.
    pub leases: BTreeMap<String, Lease>,
    pub snapshots: BTreeMap<String, Snapshot>,
    /// Of the newest request.
    pub incarnation: Incarnation,
    /// Of the start that the guest which runs, or ran last, came from.
    pub guest: Incarnation,
    pub status: Status,
    pub job: Option<Job>,
    /// How it ended the last time it ran.
    pub last_exit: Option<(ExitCause, DateTime<Utc>)>,
    /// Which of its image's templates its next start writes, besides those of each start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub template: Option<Trigger>,
    /// Its newest copy on another node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replica: Option<Replica>,
    /// Where it was before its node was evacuated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub home: Option<NodeId>,
}

/// What is true of the guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Status {
    /// There is no root volume yet.
    Creating,
    Stopped,
    Running {
        pid: i32,
        since: DateTime<Utc>,
    },
    Frozen {
        pid: i32,
        since: DateTime<Utc>,
    },
}

impl Status {
    /// Whether there is a guest, frozen or not.
    #[must_use]
    pub const fn is_up(self) -> bool {
        matches!(self, Self::Running { .. } | Self::Frozen { .. })
    }
}

/// An interface's place in the address plan.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    pub network: NetworkId,
    pub mac: MacAddress,
    pub ipv4: Option<std::net::Ipv4Addr>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snapshot {
    pub id: SnapshotId,
    pub created_at: DateTime<Utc>,
    pub expires_at: Option<DateTime<Utc>>,
    /// What the instance was then.
    pub config: Config,
    pub devices: Devices,
    pub profiles: Vec<String>,
    pub ephemeral: bool,
    pub image: Option<Fingerprint>,
    pub last_started_at: Option<DateTime<Utc>>,
}

/// Work that a node does on an instance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Job {
    pub verb: Verb,
    pub operation: OperationId,
    /// Operations that this one overtook and that end with it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub overtaken: Vec<OperationId>,
    /// The first is under way; never empty.
    pub steps: Vec<Step>,
    /// Of a job that goes to another node as well.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub journey: Option<Journey>,
}

/// One task's worth of work.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Step {
    CreateRoot {
        source: RootSource,
    },
    ReplaceRoot {
        source: RootSource,
    },
    Start,
    Stop {
        force: bool,
        timeout: Duration,
    },
    Freeze,
    Unfreeze,
    ApplyLimits,
    ApplyReservations,
    TakeSnapshot {
        name: String,
        snapshot: SnapshotId,
        expires_at: Option<DateTime<Utc>>,
    },
    DeleteSnapshot {
        name: String,
        snapshot: SnapshotId,
    },
    RestoreSnapshot {
        name: String,
        snapshot: SnapshotId,
    },
    Delete,
    Assess,
    /// At the node it moves to: what came to be since the round before. With the last one the root
    /// is there.
    Receive {
        round: SnapshotId,
        last: bool,
    },
    Checkpoint,
    /// At the node it moves to: the last round, the checkpoint, and to life.
    RestoreLive {
        round: SnapshotId,
    },
    Activate,
    /// What was held to move runs on here.
    Resume,
    /// Snapshots that were only made to be sent.
    DropRounds {
        rounds: Vec<SnapshotId>,
    },
    /// Of a copy: what another node has of its source.
    Fetch {
        from: NodeId,
        volume: crate::ids::VolumeId,
        /// That are there, oldest first.
        snapshots: Vec<SnapshotId>,
        /// Of what it is now, if that is wanted too: made there to be sent.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        made: Option<SnapshotId>,
        image: Option<Fingerprint>,
    },
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Event {
    Created(Box<Created>),
    /// A job began; its first step is ordered.
    Requested {
        verb: Verb,
        operation: OperationId,
        generation: Generation,
        steps: Vec<Step>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        journey: Option<Box<Journey>>,
    },
    /// The job's next step is ordered, or the removal of what it leaves behind.
    Continued {
        generation: Generation,
    },
    /// The job ended without reaching its end.
    Failed {
        verb: Verb,
        error: String,
    },
    RootCreated,
    RootReplaced {
        image: Option<Fingerprint>,
    },
    Started {
        pid: i32,
        at: DateTime<Utc>,
        /// Of the request that started it.
        guest: Incarnation,
    },
    Stopped {
        cause: ExitCause,
        at: DateTime<Utc>,
    },
    Frozen,
    Unfrozen,
    LimitsApplied,
    ReservationsApplied,
    /// What changed of it, and only that.
    Reconfigured(Box<Reconfigured>),
    Renamed {
        from: String,
        to: String,
    },
    SnapshotTaken {
        name: String,
        snapshot: SnapshotId,
        expires_at: Option<DateTime<Utc>>,
    },
    SnapshotDeleted {
        name: String,
    },
    SnapshotRenamed {
        from: String,
        to: String,
    },
    SnapshotExpirySet {
        name: String,
        expires_at: Option<DateTime<Utc>>,
    },
    SnapshotRestored {
        name: String,
    },
    Deleted,
    /// How it can move, and what is done then.
    MoveAssessed {
        mode: Mobility,
        reasons: Vec<String>,
        steps: Vec<Step>,
    },
    /// It could not be moved as well as it seemed: what is done instead.
    MoveDegraded {
        mode: Mobility,
        reason: String,
        steps: Vec<Step>,
    },
    /// A round came over; these steps are left.
    RoundReceived {
        round: SnapshotId,
        bytes: u64,
        steps: Vec<Step>,
    },
    /// It is held, to live on elsewhere.
    Checkpointed {
        at: DateTime<Utc>,
        bytes: u64,
    },
    /// It belongs to another node from now on: the point of no return.
    Moved {
        from: NodeId,
        to: NodeId,
        epoch: Epoch,
        idmap: IdMap,
        /// Of the guest that was restored there, if it moved alive.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        guest: Option<(i32, Incarnation)>,
        bytes: u64,
        /// Of what was taken over from a node that is lost: it is what it was then. What was
        /// written later is lost too.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        as_of: Option<DateTime<Utc>>,
        /// Where it goes back to when its evacuated node serves again.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        home: Option<NodeId>,
        steps: Vec<Step>,
    },
    /// It stays where it is.
    MoveAborted {
        error: String,
        steps: Vec<Step>,
    },
    /// What moved alive is reachable again.
    Activated {
        at: DateTime<Utc>,
    },
    /// What was held runs on here.
    Resumed,
    RoundsDropped,
    Fetched {
        bytes: u64,
    },
    /// Another node has it as it was at that time.
    Replicated {
        node: NodeId,
        snapshot: SnapshotId,
        at: DateTime<Utc>,
    },
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Created {
    pub name: String,
    pub project: ProjectId,
    pub node: NodeId,
    pub kind: ImageKind,
    pub architecture: String,
    pub ephemeral: bool,
    pub description: String,
    pub config: Config,
    pub devices: Devices,
    pub profiles: Vec<String>,
    pub image: Option<Fingerprint>,
    pub pool: PoolId,
    pub idmap: IdMap,
    pub leases: BTreeMap<String, Lease>,
    /// Of a copy: the snapshots that come with it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub snapshots: BTreeMap<String, Snapshot>,
    /// What its first start owes its image's templates.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub template: Option<Trigger>,
    /// Why it is on this node: what the placement weighed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub placement: Vec<Considered>,
}

/// A node that the placement looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Considered {
    pub node: NodeId,
    /// Higher is better; none: it could not be placed there.
    pub score: Option<i64>,
    /// In words, most important first.
    pub reasons: Vec<String>,
}

/// A delta: fields that did not change are absent.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Reconfigured {
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub config: Changes,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub devices: BTreeMap<String, Option<Device>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub profiles: Option<Vec<String>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ephemeral: Option<bool>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub leases: BTreeMap<String, Option<Lease>>,
}

impl Event {
    /// What happened, e.g. `start-requested`.
    #[must_use]
    pub fn name(&self) -> String {
        let fixed = match self {
            Self::Requested { verb, .. } => return format!("{}-requested", verb.action()),
            Self::Failed { verb, .. } => return format!("{}-failed", verb.action()),
            Self::Created(_) => "created",
            Self::Continued { .. } => "continued",
            Self::RootCreated => "root-created",
            Self::RootReplaced { .. } => "root-replaced",
            Self::Started { .. } => "started",
            Self::Stopped { .. } => "stopped",
            Self::Frozen => "frozen",
            Self::Unfrozen => "unfrozen",
            Self::LimitsApplied => "limits-applied",
            Self::ReservationsApplied => "reservations-applied",
            Self::Reconfigured(_) => "reconfigured",
            Self::Renamed { .. } => "renamed",
            Self::SnapshotTaken { .. } => "snapshot-taken",
            Self::SnapshotDeleted { .. } => "snapshot-deleted",
            Self::SnapshotRenamed { .. } => "snapshot-renamed",
            Self::SnapshotExpirySet { .. } => "snapshot-expiry-set",
            Self::SnapshotRestored { .. } => "snapshot-restored",
            Self::Deleted => "deleted",
            Self::MoveAssessed { .. } => "move-assessed",
            Self::MoveDegraded { .. } => "move-degraded",
            Self::RoundReceived { .. } => "round-received",
            Self::Checkpointed { .. } => "checkpointed",
            Self::Moved { .. } => "moved",
            Self::MoveAborted { .. } => "move-aborted",
            Self::Activated { .. } => "activated",
            Self::Resumed => "resumed",
            Self::RoundsDropped => "rounds-dropped",
            Self::Fetched { .. } => "fetched",
            Self::Replicated { .. } => "replicated",
        };
        fixed.to_owned()
    }
}

impl Event {
    /// Whether there is no instance before it, or none after it.
    pub(crate) const fn replaces(&self) -> bool {
        matches!(self, Self::Created(_) | Self::Deleted)
    }

    /// Whether the instance may be elsewhere, or may use something else, after it.
    pub(crate) const fn changes_claim(&self) -> bool {
        matches!(
            self,
            Self::Created(_)
                | Self::Reconfigured(_)
                | Self::SnapshotRestored { .. }
                | Self::Moved { .. }
                | Self::Deleted
        )
    }
}
