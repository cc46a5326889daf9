//! A record as it is told to those who follow: with the names of its moment and in words.

use std::{collections::VecDeque, sync::Arc};

use stapes_core::{
    ids::{OperationId, Sequence, StreamKind},
    record::Recorded,
};

use crate::{
    feed::{self, Entry},
    operations::OperationView,
    state::State,
    status::Blocked,
    subject::Subject,
};

/// Records that are kept in memory for those who follow, at most.
const RECENT_MAX: usize = 16 * 1024;

#[derive(Clone, Debug, PartialEq)]
pub struct Told {
    pub recorded: Recorded,
    pub subject: Subject,
    /// One for each event that timelines show.
    pub entries: Vec<Entry>,
    /// As the record leaves it, when it is an operation's.
    pub operation: Option<OperationView>,
}

impl Told {
    /// Takes the record into the state, and tells it with the names from before.
    ///
    /// # Errors
    /// When the record does not continue the log.
    pub(crate) fn next(state: &mut State, recorded: Recorded) -> Result<Arc<Self>, Blocked> {
        // Said before it is taken, so that the world is never shared while it changes.
        let subject = Subject::of(&recorded, &state.world);
        let entries = feed::entries(&recorded, &subject, &state.world);
        state.apply(&recorded)?;
        let is_one = recorded.stream.kind == StreamKind::Operation;
        let operation = is_one.then(|| state.operations.get(OperationId(recorded.stream.id)));
        let operation = operation.flatten().cloned();
        Ok(Arc::new(Self { recorded, subject, entries, operation }))
    }
}

/// The newest records, gapless. Whoever is further behind reads the log again.
#[derive(Debug, Default)]
pub(crate) struct Recent {
    told: VecDeque<Arc<Told>>,
}

impl Recent {
    pub(crate) fn push(&mut self, told: Arc<Told>) {
        if self.told.len() == RECENT_MAX {
            self.told.pop_front();
        }
        self.told.push_back(told);
    }

    pub(crate) fn clear(&mut self) {
        self.told.clear();
    }

    /// Up to `count` from `first` on; `None` when `first` is not here.
    pub(crate) fn from(&self, first: Sequence, count: usize) -> Option<Vec<Arc<Told>>> {
        let begin = self.told.front()?.recorded.sequence;
        let skip = usize::try_from(first.0.checked_sub(begin.0)?).ok()?;
        (skip < self.told.len()).then(|| self.told.iter().skip(skip).take(count).cloned().collect())
    }
}
