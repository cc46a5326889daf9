//! What a decision is made from and what it is made of.

use chrono::{DateTime, Utc};
use uuid::Uuid;

use crate::{
    event::Event,
    ids::{CommitId, NodeId, OperationId, ProjectId, Revision, StreamId, TaskId},
    operation::{self, Class, Gain, Resource, Verb},
    record::Actor,
    rejection::Rejection,
    spec::Incarnation,
    task::{Subject, Task, Work},
    world::World,
};

/// Everything about a command that is not in the command: who, when, and under which ids.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Context {
    /// Unique to this command for good: repeating the command with it changes nothing.
    pub commit: CommitId,
    pub operation: OperationId,
    pub time: DateTime<Utc>,
    pub actor: Actor,
    pub reason: Option<String>,
    /// The task whose report this is.
    pub caused_by: Option<Uuid>,
}

/// What is to be appended whole, and what to tell whoever asked.
#[derive(Clone, Debug, PartialEq)]
pub struct Decision {
    commit: CommitId,
    /// One entry a stream.
    pub events: Vec<(StreamId, Vec<Event>)>,
    pub tasks: Vec<Task>,
    pub answer: Answer,
}

/// What to tell whoever asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The operation to wait for: the command's own, or one under way that it joined.
    pub operation: OperationId,
    /// Whether it goes on after the decision.
    pub pending: bool,
    pub resources: Vec<Resource>,
}

impl Decision {
    /// A decision that nothing happens.
    #[must_use]
    pub const fn for_context(context: &Context) -> Self {
        Self {
            commit: context.commit,
            events: Vec::new(),
            tasks: Vec::new(),
            answer: Answer { operation: context.operation, pending: false, resources: Vec::new() },
        }
    }

    /// A decision that nothing happens because `operation` does it already.
    #[must_use]
    pub fn join(context: &Context, operation: OperationId, resources: Vec<Resource>) -> Self {
        let answer = Answer { operation, pending: true, resources };
        Self { answer, ..Self::for_context(context) }
    }

    pub fn record(&mut self, stream: StreamId, event: impl Into<Event>) {
        let event = event.into();
        match self.events.iter_mut().find(|(known, _)| *known == stream) {
            Some((_, events)) => events.push(event),
            None => self.events.push((stream, vec![event])),
        }
    }

    /// Begins the context's operation.
    pub fn accept(
        &mut self,
        project: ProjectId,
        verb: Verb,
        class: Class,
        resources: Vec<Resource>,
    ) {
        self.accept_command(project, verb, class, resources, Vec::new());
    }

    /// Begins the context's operation, which runs a program.
    pub fn accept_command(
        &mut self,
        project: ProjectId,
        verb: Verb,
        class: Class,
        resources: Vec<Resource>,
        command: Vec<String>,
    ) {
        let operation = self.answer.operation;
        self.answer.pending = true;
        self.answer.resources.clone_from(&resources);
        self.record(
            operation.stream(),
            operation::Event::Accepted { operation, verb, class, project, resources, command },
        );
    }

    /// Ends an operation well.
    pub fn succeed(&mut self, operation: OperationId, gain: Gain) {
        self.record(operation.stream(), operation::Event::Succeeded { gain });
    }

    /// Ends an operation badly.
    pub fn fail(&mut self, operation: OperationId, error: impl Into<String>) {
        self.record(operation.stream(), operation::Event::Failed { error: error.into() });
    }

    /// Orders work from a node.
    pub fn order(
        &mut self,
        node: NodeId,
        operation: OperationId,
        subject: Subject,
        incarnation: Incarnation,
        work: Work,
    ) -> TaskId {
        let id = self.commit.task(self.tasks.len());
        self.tasks.push(Task { id, node, operation, subject, incarnation, work });
        id
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.events.is_empty() && self.tasks.is_empty()
    }
}

/// Refuses if somebody else changed the aggregate since it was read.
///
/// # Errors
/// [`Rejection::Stale`].
pub fn check_revision(
    world: &World,
    stream: StreamId,
    expected: Option<Revision>,
) -> Result<(), Rejection> {
    let actual = world.tail(stream).revision;
    match expected.filter(|expected| *expected != actual) {
        Some(expected) => Err(Rejection::Stale { wanted: expected.0, actual: actual.0 }),
        None => Ok(()),
    }
}
