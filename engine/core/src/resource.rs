//! What pools, networks and volumes have in common: a node makes them, changes them and removes
//! them, one request at a time.
//!
//! ```text
//! created ─► (creating) ─ ready ─► ready ─ requested ─► (changing) ─ ready ─► ready
//!                │ failed: gone         └─ delete requested ─► (deleting) ─► deleted
//! ```

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

/// How far the node is with it.
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

    const fn incarnation(&self) -> Incarnation {
        Incarnation { epoch: crate::ids::Epoch(0), generation: self.generation }
    }
}

/// The node that a request goes to.
pub(crate) fn node_of(world: &World) -> Result<NodeId, Rejection> {
    let none = || crate::world::missing(crate::rejection::Noun::Node, "any");
    world.nodes.keys().next().copied().ok_or_else(none)
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
    decision.order(node, context.operation, subject, progress.incarnation(), work);
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

/// What a node made of a request.
pub(crate) fn report(
    context: &Context,
    stream: StreamId,
    progress: &Progress,
    verb: Verb,
    report: &Report,
    facts: Facts,
) -> Decision {
    let mut decision = Decision::for_context(context);
    let Some(operation) = progress.operation else { return decision };
    if report.incarnation != progress.incarnation() {
        return decision;
    }
    decision.answer.operation = operation;
    let gone = |decision: &mut Decision| {
        decision.record(stream, facts.deleted.clone());
        for (stream, event) in &facts.released {
            decision.record(*stream, event.clone());
        }
    };
    match (&report.outcome, progress.status) {
        (_, Status::Ready)
        | (
            Outcome::Started(_)
            | Outcome::Stopped { .. }
            | Outcome::Assessed(_)
            | Outcome::Received { .. }
            | Outcome::Checkpointed { .. }
            | Outcome::Restored { .. },
            _,
        ) => return decision,
        (Outcome::Done, Status::Creating | Status::Changing) => {
            decision.record(stream, facts.ready)
        }
        (Outcome::Done, Status::Deleting) => gone(&mut decision),
        (Outcome::Failed(failure), status) => {
            decision.record(stream, (facts.failed)(verb, failure.message.clone()));
            if status == Status::Creating {
                gone(&mut decision);
            }
            decision.fail(operation, &failure.message);
            return decision;
        }
    }
    decision.succeed(operation, Gain::Nothing);
    decision
}
