//! From a decision to what the log is given.

use stapes_core::{
    decision::{Context, Decision},
    ids::{CommitId, Epoch, StreamId, StreamKind},
    port::log::{Commit, Expected, Part},
    record::{Body, Digest, Record},
    world::World,
};
use uuid::Uuid;

/// One part for each aggregate, then one for each task.
pub(crate) fn commit(world: &World, context: &Context, decision: Decision) -> Commit {
    let mut parts = Vec::with_capacity(decision.events.len() + decision.tasks.len());
    let mut push = |stream: StreamId, expected: Expected, prev: Option<Digest>, body: Body| {
        let record = Record {
            id: record_id(context.commit, parts.len()),
            time: context.time,
            actor: context.actor.clone(),
            operation: decision.answer.operation,
            caused_by: context.caused_by,
            reason: context.reason.clone(),
            epoch: Epoch::default(),
            prev,
            body,
        };
        parts.push(Part { stream, expected, payload: record.encode() });
    };
    for (stream, events) in decision.events {
        let tail = world.tail(stream);
        push(stream, Expected::Exact(tail.revision), tail.digest, Body::Events(events));
    }
    for task in decision.tasks {
        let stream = StreamId::new(StreamKind::Task, task.node);
        push(stream, Expected::Any, None, Body::Task(Box::new(task)));
    }
    Commit { id: context.commit, parts }
}

fn record_id(commit: CommitId, ordinal: usize) -> Uuid {
    Uuid::new_v5(&commit.0, ordinal.to_string().as_bytes())
}
