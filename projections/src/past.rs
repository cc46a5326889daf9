//! The state as it was: the nearest known state before, and the log from there.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError},
};

use chrono::{DateTime, Utc};
use stapes_core::{ids::Sequence, port::log::EventLog, record::Recorded};

use crate::{
    state::State,
    status::{Blocked, QueryError},
};

/// Past states that are remembered.
const REMEMBERED: usize = 8;
/// Records that are read from the log at once.
pub(crate) const PAGE: usize = 1024;

/// A place in history.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AsOf {
    /// After this record.
    Sequence(Sequence),
    /// Before the first record that is later than this. Clocks disagree and go backwards;
    /// sequences do not.
    Time(DateTime<Utc>),
}

/// Past states, newest use first.
#[derive(Debug, Default)]
pub(crate) struct Remembered(Mutex<VecDeque<State>>);

impl Remembered {
    /// The newest at or before `sequence`.
    pub(crate) fn nearest(&self, sequence: Sequence) -> Option<State> {
        let mut states = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let before = states.iter().enumerate().filter(|(_, it)| it.sequence() <= sequence);
        let (index, _) = before.max_by_key(|(_, it)| it.sequence())?;
        let state = states.remove(index)?;
        states.push_front(state.clone());
        Some(state)
    }

    pub(crate) fn keep(&self, state: State) {
        let mut states = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        states.retain(|known| known.sequence() != state.sequence());
        states.push_front(state);
        states.truncate(REMEMBERED);
    }
}

/// Folds on from `state` to `sequence`.
pub(crate) async fn fold_to(
    log: &Arc<dyn EventLog>,
    mut state: State,
    sequence: Sequence,
) -> Result<State, QueryError> {
    while state.sequence() < sequence {
        let left = usize::try_from(sequence.0 - state.sequence().0).unwrap_or(usize::MAX);
        let page = read_page(log, state.sequence().next(), left.min(PAGE)).await?;
        for recorded in &page {
            state.apply(recorded)?;
        }
    }
    Ok(state)
}

/// At least one record.
pub(crate) async fn read_page(
    log: &Arc<dyn EventLog>,
    first: Sequence,
    count: usize,
) -> Result<Vec<Recorded>, QueryError> {
    let stored = log.read(first, count).await?;
    if stored.is_empty() {
        return Err(QueryError::Blocked(Blocked::Gap { missing: first }));
    }
    stored.iter().map(|stored| Ok(Recorded::read(stored).map_err(Blocked::from)?)).collect()
}

/// The last record before the first one that is later than `time`, looking from `from` on, which is
/// known to be before that one.
pub(crate) async fn sequence_at(
    log: &Arc<dyn EventLog>,
    from: Sequence,
    to: Sequence,
    time: DateTime<Utc>,
) -> Result<Sequence, QueryError> {
    let mut at = from;
    while at < to {
        let left = usize::try_from(to.0 - at.0).unwrap_or(usize::MAX);
        for recorded in read_page(log, at.next(), left.min(PAGE)).await? {
            if recorded.record.time > time {
                return Ok(at);
            }
            at = recorded.sequence;
        }
    }
    Ok(at)
}
