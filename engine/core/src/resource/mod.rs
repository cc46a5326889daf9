//! What pools, networks and volumes have in common: nodes make them, change them and remove them,
//! one request at a time. A volume is on one node; pools and networks have a part on each.
//!
//! ```text
//! created ─► (creating) ─ ready ─► ready ─ requested ─► (changing) ─ ready ─► ready
//!                │ failed: gone         └─ delete requested ─► (deleting) ─► deleted
//! ```
//!
//! A request is over when every node that is online has answered: the others find its task when
//! they return. The first failure ends it.

use serde::{Deserialize, Serialize};

use crate::{
    decision::{Context, Decision},
    event::Event,
    ids::{Generation, NodeId, OperationId, StreamId},
    operation::{Gain, Verb},
    rejection::Rejection,
    spec::Incarnation,
    task::{Outcome, Report, Subject, Work},
    world::World,
};

mod parts;
mod shared;

pub use parts::{Part, PartState, Parts};
pub(crate) use shared::{Shared, SharedFacts, order_all, report_shared, settle_without};
pub use shared::{awaits, lacks, prepare};

/// How far it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Status {
    Creating,
    Ready,
    Changing,
    Deleting,
}

/// The request under way, and the count of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    pub status: Status,
    pub generation: Generation,
    /// What waits for it.
    pub operation: Option<OperationId>,
}

impl Progress {
    #[must_use]
    pub const fn creating(operation: OperationId) -> Self {
        Self { status: Status::Creating, generation: Generation(1), operation: Some(operation) }
    }

    pub(crate) fn request(&mut self, status: Status, operation: OperationId) {
        *self = Self { status, generation: self.generation.next(), operation: Some(operation) };
    }

    /// The request is over, well or badly.
    pub(crate) fn settle(&mut self) {
        self.status = Status::Ready;
        self.operation = None;
    }

    /// # Errors
    /// While a request is under way.
    pub fn idle(&self, what: &str) -> Result<(), Rejection> {
        let doing = match self.status {
            Status::Ready => return Ok(()),
            Status::Creating => "created",
            Status::Changing => "changed",
            Status::Deleting => "deleted",
        };
        Err(Rejection::NotAllowed {
            message: format!("{what} is being {doing}"),
            hint: "wait for it: stapes op list".to_owned(),
        })
    }
}

const fn incarnation(generation: Generation) -> Incarnation {
    Incarnation { epoch: crate::ids::Epoch(0), generation }
}

/// Orders the work of a request that `progress` counts.
pub(crate) fn order(
    decision: &mut Decision,
    context: &Context,
    node: NodeId,
    subject: Subject,
    progress: &Progress,
    work: Work,
) {
    let incarnation = incarnation(progress.generation);
    decision.order(node, context.operation, subject, incarnation, work);
}

/// The facts that may follow a report, in the words of one noun.
pub(crate) struct Facts {
    pub ready: Event,
    pub deleted: Event,
    /// The request failed; the thing is as it was.
    pub failed: fn(Verb, String) -> Event,
    /// Names that it gives back when it is gone.
    pub released: Vec<(StreamId, Event)>,
}

impl Facts {
    pub(crate) fn gone(&self, decision: &mut Decision, stream: StreamId) {
        decision.record(stream, self.deleted.clone());
        for (stream, event) in &self.released {
            decision.record(*stream, event.clone());
        }
    }
}

/// What the one node that has it made of a request.
pub(crate) fn report(
    context: &Context,
    stream: StreamId,
    progress: &Progress,
    verb: Verb,
    report: &Report,
    facts: &Facts,
) -> Decision {
    let mut decision = Decision::for_context(context);
    let Some(operation) = progress.operation else { return decision };
    if report.incarnation != incarnation(progress.generation) {
        return decision;
    }
    decision.answer.operation = operation;
    match (answer(report), progress.status) {
        (None, _) | (_, Status::Ready) => return decision,
        (Some(Ok(())), Status::Creating | Status::Changing) => {
            decision.record(stream, facts.ready.clone());
        }
        (Some(Ok(())), Status::Deleting) => facts.gone(&mut decision, stream),
        (Some(Err(error)), status) => {
            decision.record(stream, (facts.failed)(verb, error.to_owned()));
            if status == Status::Creating {
                facts.gone(&mut decision, stream);
            }
            decision.fail(operation, error);
            return decision;
        }
    }
    decision.succeed(operation, Gain::Nothing);
    decision
}

/// Done, or failed and why; none: it answers something else.
fn answer(report: &Report) -> Option<Result<(), &str>> {
    match &report.outcome {
        Outcome::Done => Some(Ok(())),
        Outcome::Failed(failure) => Some(Err(&failure.message)),
        Outcome::Started(_)
        | Outcome::Stopped { .. }
        | Outcome::Assessed(_)
        | Outcome::Received { .. }
        | Outcome::Checkpointed { .. }
        | Outcome::Restored { .. } => None,
    }
}

/// The nodes that pools and networks are made on.
///
/// # Errors
/// When there is none yet.
pub(crate) fn all_nodes(world: &World) -> Result<Vec<NodeId>, Rejection> {
    if world.nodes.is_empty() {
        return Err(crate::world::missing(crate::rejection::Noun::Node, "any"));
    }
    Ok(world.nodes.keys().copied().collect())
}
