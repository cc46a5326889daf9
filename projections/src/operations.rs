//! Operations: those under way, and those that ended a moment ago.
//!
//! The world drops an operation when it ends. What the dialect still lists for five seconds is kept
//! here; all of them for good are in the log itself and in the index.

use serde::{Deserialize, Serialize};
use stapes_core::{
    event::Event,
    ids::{OperationId, Sequence},
    operation::{self, Operation},
    record::{Actor, Recorded},
    table::Table,
};

/// Ended operations that are kept in memory at most.
const RECENT_MAX: usize = 4096;

/// An operation with what the log says around it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OperationView {
    pub operation: Operation,
    /// Of the record that accepted it.
    pub first: Sequence,
    /// Of its newest record: the same while it runs, else of the one that ended it.
    pub last: Sequence,
    /// Who asked.
    pub actor: Actor,
    /// The user's own words.
    pub reason: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Operations {
    running: Table<OperationId, OperationView>,
    /// By the sequence of their end.
    ended: Table<Sequence, OperationView>,
    /// Where the ended ones are.
    ends: Table<OperationId, Sequence>,
}

impl Operations {
    pub(crate) fn apply(&mut self, recorded: &Recorded) {
        for event in recorded.record.events() {
            let Event::Operation(event) = event else { continue };
            if let Some(begun) = begin(recorded, event) {
                self.running.insert(begun.operation.id, begun);
            } else if let Some(view) = self.running.remove(&OperationId(recorded.stream.id)) {
                self.keep(after(&view, recorded, event));
            }
        }
    }

    fn keep(&mut self, view: OperationView) {
        self.ends.insert(view.operation.id, view.last);
        self.ended.insert(view.last, view);
        if self.ended.len() <= RECENT_MAX {
            return;
        }
        let oldest = self.ended.keys().next().copied();
        if let Some(view) = oldest.and_then(|oldest| self.ended.remove(&oldest)) {
            self.ends.remove(&view.operation.id);
        }
    }

    pub(crate) fn get(&self, id: OperationId) -> Option<&OperationView> {
        let ended = || self.ends.get(&id).and_then(|end| self.ended.get(end));
        self.running.get(&id).or_else(ended)
    }

    /// In no order that means something.
    pub(crate) fn running(&self) -> impl Iterator<Item = &OperationView> {
        self.running.values()
    }

    /// Newest first.
    pub(crate) fn ended(&self) -> impl Iterator<Item = &OperationView> {
        self.ended.values().rev()
    }
}

/// The operation that this event begins, if it does.
pub(crate) fn begin(recorded: &Recorded, event: &operation::Event) -> Option<OperationView> {
    Operation::begin(event, recorded.record.time).map(|operation| OperationView {
        operation,
        first: recorded.sequence,
        last: recorded.sequence,
        actor: recorded.record.actor.clone(),
        reason: recorded.record.reason.clone(),
    })
}

/// The operation as this event leaves it.
pub(crate) fn after(
    view: &OperationView,
    recorded: &Recorded,
    event: &operation::Event,
) -> OperationView {
    let mut view = view.clone();
    view.operation.evolve(event, recorded.record.time);
    view.last = recorded.sequence;
    view
}

/// An operation from the records of its own stream, oldest first.
pub(crate) fn fold(records: &[Recorded]) -> Option<OperationView> {
    let mut view = None;
    for recorded in records {
        for event in recorded.record.events() {
            let Event::Operation(event) = event else { continue };
            view = match view {
                None => begin(recorded, event),
                Some(view) => Some(after(&view, recorded, event)),
            };
        }
    }
    view
}
