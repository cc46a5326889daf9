//! The log that all members share: expected revisions, a commit once for good, and nothing else.

use std::collections::{BTreeMap, BTreeSet};

use stapes_core::{
    decision::{Context, Decision},
    ids::{CommitId, Epoch, Revision, Sequence, StreamId, StreamKind},
    port::log::Stored,
    record::{Body, Record, Recorded},
    world::World,
};
use uuid::Uuid;

#[derive(Default)]
pub(crate) struct Log {
    records: Vec<Stored>,
    /// The same, read once for all.
    read: Vec<Recorded>,
    revisions: BTreeMap<StreamId, Revision>,
    commits: BTreeSet<CommitId>,
}

/// Somebody else was there first.
#[derive(Debug)]
pub(crate) struct Conflict;

impl Log {
    /// Appends a decision that was made from `world`, which may lag behind.
    pub(crate) fn append(
        &mut self,
        world: &World,
        context: &Context,
        decision: Decision,
    ) -> Result<(), Conflict> {
        if self.commits.contains(&context.commit) {
            return Ok(());
        }
        let revision = |stream| self.revisions.get(&stream).copied().unwrap_or_default();
        let expected =
            |(stream, _): &(StreamId, _)| revision(*stream) == world.tail(*stream).revision;
        if !decision.events.iter().all(expected) {
            return Err(Conflict);
        }
        let operation = decision.answer.operation;
        let events = decision.events.into_iter();
        let events = events.map(|(stream, events)| (stream, Body::Events(events)));
        let tasks = decision.tasks.into_iter();
        let tasks = tasks
            .map(|task| (StreamId::new(StreamKind::Task, task.node), Body::Task(Box::new(task))));
        let bodies: Vec<_> = events.chain(tasks).collect();
        let count = bodies.len();
        for (index, (stream, body)) in bodies.into_iter().enumerate() {
            let is_task = stream.kind == StreamKind::Task;
            let record = Record {
                id: Uuid::new_v5(&context.commit.0, &index.to_be_bytes()),
                time: context.time,
                actor: context.actor.clone(),
                operation,
                caused_by: None,
                reason: None,
                epoch: Epoch::default(),
                prev: if is_task { None } else { world.tail(stream).digest },
                body,
            };
            let revision = self.revisions.entry(stream).or_default();
            *revision = revision.next();
            let stored = Stored {
                sequence: Sequence(self.records.len() as u64 + 1),
                stream,
                revision: *revision,
                commit: context.commit,
                last_in_commit: index + 1 == count,
                payload: record.encode(),
            };
            self.read.push(Recorded::read(&stored).expect("just written"));
            self.records.push(stored);
        }
        self.commits.insert(context.commit);
        Ok(())
    }

    pub(crate) fn len(&self) -> usize {
        self.records.len()
    }

    /// The records after `known`, in order.
    pub(crate) fn after(&self, known: usize) -> &[Recorded] {
        &self.read[known.min(self.read.len())..]
    }

    /// Whether a commit ends with this record, so that what was read is a whole number of decisions.
    pub(crate) fn is_whole_at(&self, length: usize) -> bool {
        length == 0 || self.records[length - 1].last_in_commit
    }

    pub(crate) fn replayed(&self) -> World {
        let mut world = World::default();
        for stored in &self.records {
            let recorded = Recorded::read(stored).expect("it was written");
            world.apply(&recorded).expect("it was applied once");
        }
        world
    }
}
