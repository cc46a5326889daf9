//! A job's way to another node: what it is, and which steps are left of it.
//!
//! ```text
//! stop-copy  [Stop ─►] Receive the last round ══► [Start]
//! near-live  Receive rounds while it runs ─► Stop ─► Receive the last round ══► Start
//! live       Receive rounds while it runs ─► Checkpoint ─► RestoreLive ══► Activate
//! ```
//!
//! `══►` is the point of no return: exactly one of [`super::Event::Moved`] and
//! [`super::Event::MoveAborted`] stands there. A round is a read-only snapshot whose id follows from
//! the operation, so that every node knows it without being told.

use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::{Considered, Event, Instance, Job, Status, Step};
use crate::{
    ids::{NodeId, OperationId, SnapshotId},
    operation::{Gain, Verb},
    port::guest::Mobility,
    spec::IdMap,
};

/// Rounds while the guest runs, at most: one that writes faster than the network sends would be
/// followed for ever.
const ROUNDS_MAX: usize = 3;
/// The next round is the last one when one brought less than this.
const ROUND_SMALL_BYTES: u64 = 16 << 20;
/// Of an instance that does not say `boot.host_shutdown_timeout`, as the dialect has it.
const STOP_TIMEOUT: Duration = Duration::from_secs(30);

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Journey {
    pub to: NodeId,
    pub live: LivePolicy,
    /// How it is done, as far as that is decided.
    pub mode: Mobility,
    /// Why it goes to that node: what the placement weighed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub placement: Vec<Considered>,
    /// Why it is not done better.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub reasons: Vec<String>,
    /// Whether it is to run at its end: it ran when the job began, and did not end by itself since.
    pub running: bool,
    /// Host ids that are reserved for it there.
    pub idmap: IdMap,
    /// How long it has to shut down, in seconds, if it must.
    pub stop_timeout_s: u64,
    /// A snapshot that both nodes have from before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base: Option<SnapshotId>,
    /// The rounds that are over, oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rounds: Vec<SnapshotId>,
    /// That came over so far.
    pub bytes: u64,
    /// Since when nobody can reach it.
    pub away_since: Option<DateTime<Utc>>,
    /// Since when it can be reached again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub back_at: Option<DateTime<Utc>>,
    /// Why it was aborted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// Where a journey is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// It can still be aborted.
    Leaving,
    /// It was aborted, and is brought back to what it was.
    Returning,
    /// It belongs to the other node.
    Arrived,
}

/// Whether it is to move with its processes and connections.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LivePolicy {
    /// Or not at all.
    Required,
    /// If it can.
    #[default]
    Preferred,
    Never,
}

/// A copy of an instance's root on another node, as it was at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Replica {
    pub node: NodeId,
    /// The newest snapshot that both nodes have.
    pub snapshot: SnapshotId,
    pub at: DateTime<Utc>,
}

impl Journey {
    /// Of a running or a stopped instance that nothing was done for yet.
    pub(super) fn new(to: NodeId, live: LivePolicy, running: bool, idmap: IdMap) -> Self {
        Self {
            to,
            live,
            mode: if running { Mobility::NearLive } else { Mobility::StopCopy },
            placement: Vec::new(),
            reasons: Vec::new(),
            running,
            idmap,
            stop_timeout_s: STOP_TIMEOUT.as_secs(),
            base: None,
            rounds: Vec::new(),
            bytes: 0,
            away_since: None,
            back_at: None,
            error: None,
        }
    }

    /// The steps up to the point of no return and the one after it. `another`: with one more round
    /// before the guest stands still.
    pub(super) fn ahead(&self, operation: OperationId, status: Status, another: bool) -> Vec<Step> {
        let stands = !status.is_up();
        let mode = if stands { Mobility::StopCopy } else { self.mode };
        let count = self.rounds.len() + usize::from(another && !stands);
        let last = round(operation, mode, count);
        let mut steps = Vec::new();
        if count > self.rounds.len() && mode != Mobility::StopCopy {
            steps.push(Step::Receive { round: round(operation, mode, count - 1), last: false });
        }
        match mode {
            Mobility::StopCopy | Mobility::NearLive => {
                if !stands {
                    let timeout = Duration::from_secs(self.stop_timeout_s);
                    steps.push(Step::Stop { force: false, timeout });
                }
                steps.push(Step::Receive { round: last, last: true });
                if self.running {
                    steps.push(Step::Start);
                }
            }
            Mobility::Live => {
                steps.extend([Step::Checkpoint, Step::RestoreLive { round: last }, Step::Activate]);
            }
        }
        steps
    }

    /// Whether what the newest round brought is worth another one before the guest stands still.
    pub(super) fn wants_another(&self, bytes: u64) -> bool {
        bytes > ROUND_SMALL_BYTES && self.rounds.len() < ROUNDS_MAX
    }

    /// What a fact says of what came over and how long nobody could reach it.
    #[allow(clippy::wildcard_enum_match_arm, reason = "the rest says nothing of it")]
    pub(super) fn note(&mut self, fact: &Event) {
        match fact {
            Event::RoundReceived { bytes, .. } | Event::Moved { bytes, .. } => self.bytes += bytes,
            Event::Started { at, .. } | Event::Activated { at } => self.back_at = Some(*at),
            _ => {}
        }
    }

    /// What it was, for whoever asked.
    pub(super) fn gain(&self) -> Gain {
        // Two nodes' clocks: what is measured between them may be off by what they are.
        let away =
            self.away_since.zip(self.back_at).map(|(since, at)| (at - since).num_milliseconds());
        let downtime_ms = away.and_then(|away| u64::try_from(away).ok()).unwrap_or_default();
        Gain::Moved { mode: self.mode, downtime_ms, bytes: self.bytes }
    }
}

/// A round's snapshot. One that failed half-way is not made again under the same id, so the mode is
/// part of it.
pub(super) fn round(operation: OperationId, mode: Mobility, count: usize) -> SnapshotId {
    let mode = match mode {
        Mobility::StopCopy => "stop-copy",
        Mobility::NearLive => "near-live",
        Mobility::Live => "live",
    };
    SnapshotId::derive(&[&operation.to_string(), mode, &count.to_string()])
}

impl Job {
    /// Every round that a node may have something of. Those that never were need no removal.
    pub(super) fn possible_rounds(&self) -> Vec<SnapshotId> {
        let Some(journey) = &self.journey else { return Vec::new() };
        let modes = [Mobility::StopCopy, Mobility::NearLive, Mobility::Live];
        let count = journey.rounds.len() + 1;
        let of_mode = |mode| (0..=count).map(move |nth| round(self.operation, mode, nth));
        modes.into_iter().flat_map(of_mode).chain(journey.base).collect()
    }

    /// Whether the node that it goes to may have anything of it yet.
    pub(super) fn has_landed(&self) -> bool {
        let begun =
            matches!(self.steps.first(), Some(Step::Receive { .. } | Step::RestoreLive { .. }));
        begun || self.journey.as_ref().is_some_and(|journey| !journey.rounds.is_empty())
    }
}

impl Instance {
    /// The journey under way, if the job is one that makes the instance another node's.
    pub(super) fn moves(&self) -> Option<(&Job, &Journey)> {
        let job = self.job.as_ref().filter(|job| job.verb == Verb::MoveInstance)?;
        Some((job, job.journey.as_ref()?))
    }

    /// Where the move under way is.
    #[must_use]
    pub fn phase(&self) -> Option<Phase> {
        let (_, journey) = self.moves()?;
        Some(if journey.error.is_some() {
            Phase::Returning
        } else if journey.to == self.node {
            Phase::Arrived
        } else {
            Phase::Leaving
        })
    }

    /// The node that a step is ordered from.
    #[must_use]
    pub fn performer(&self, step: &Step) -> NodeId {
        let to = self.job.as_ref().and_then(|job| job.journey.as_ref()).map(|journey| journey.to);
        match step {
            Step::Receive { .. } | Step::RestoreLive { .. } => to.unwrap_or(self.node),
            Step::CreateRoot { .. }
            | Step::ReplaceRoot { .. }
            | Step::Start
            | Step::Stop { .. }
            | Step::Freeze
            | Step::Unfreeze
            | Step::ApplyLimits
            | Step::ApplyReservations
            | Step::TakeSnapshot { .. }
            | Step::DeleteSnapshot { .. }
            | Step::RestoreSnapshot { .. }
            | Step::Delete
            | Step::Assess
            | Step::Checkpoint
            | Step::Activate
            | Step::Resume
            | Step::DropRounds { .. }
            | Step::Fetch { .. } => self.node,
        }
    }
}
