//! A record as it is told to those who follow: with the names of its moment and in words.

use std::{collections::VecDeque, sync::Arc};

use stapes_core::{ids::Sequence, record::Recorded, world::World};

use crate::{
    feed::{self, Entry},
    subject::Subject,
};

/// Records that are kept in memory for those who follow, at most.
const RECENT_MAX: usize = 16 * 1024;

#[derive(Clone, Debug, PartialEq)]
pub struct Told {
    pub recorded: Recorded,
    pub subject: Subject,
    /// One for each event; none for a task.
    pub entries: Vec<Entry>,
}

impl Told {
    /// Depends on the record and the world before it alone.
    #[must_use]
    pub fn of(recorded: Recorded, before: &World) -> Self {
        let subject = Subject::of(&recorded, before);
        let entries = feed::entries(&recorded, &subject, before);
        Self { recorded, subject, entries }
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
