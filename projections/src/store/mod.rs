//! Where the index lies: rows by key, in order, written in atomic batches.
//!
//! Everything in it is derived from the log. So whatever is doubtful about it is answered the same
//! way: put it aside and write it anew.

use std::{collections::BTreeMap, fmt, ops::Bound, sync::RwLock};

mod disk;
mod shelf;

pub(crate) use shelf::Shelf;

pub(crate) type Key = Vec<u8>;
pub(crate) type Value = Vec<u8>;

/// Rows that belong together: all of them are there, or none is.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    /// `None` removes the row.
    pub(crate) rows: Vec<(Key, Option<Value>)>,
}

impl Batch {
    pub(crate) fn put(&mut self, key: Key, value: Value) {
        self.rows.push((key, Some(value)));
    }

    pub(crate) fn remove(&mut self, key: Key) {
        self.rows.push((key, None));
    }
}

/// The rows cannot be trusted or written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Damaged(pub(crate) String);

/// Keys from the first bound to the second.
pub(crate) struct Span {
    pub(crate) from: Key,
    /// Not in it.
    pub(crate) to: Key,
}

impl Span {
    /// All keys that begin like this.
    pub(crate) fn prefix(prefix: &[u8]) -> Self {
        let mut to = prefix.to_vec();
        // No prefix ends in 0xff: each begins with a letter and the rest is counted up here.
        while to.last() == Some(&u8::MAX) {
            to.pop();
        }
        if let Some(last) = to.last_mut() {
            *last += 1;
        }
        Self { from: prefix.to_vec(), to }
    }
}

pub(crate) trait Store: Send + Sync + fmt::Debug {
    fn get(&self, key: &[u8]) -> Result<Option<Value>, Damaged>;

    /// The first `count` rows in the span.
    fn first(&self, span: &Span, count: usize) -> Result<Vec<(Key, Value)>, Damaged>;

    /// The last `count` rows in the span, last first.
    fn last(&self, span: &Span, count: usize) -> Result<Vec<(Key, Value)>, Damaged>;

    /// Durable when it returns.
    fn write(&self, batch: Batch) -> Result<(), Damaged>;

    /// Bytes that it takes on disk.
    fn size(&self) -> u64;
}

/// Rows in memory only.
#[derive(Debug, Default)]
pub(crate) struct Memory(RwLock<BTreeMap<Key, Value>>);

impl Memory {
    fn rows(&self) -> std::sync::RwLockReadGuard<'_, BTreeMap<Key, Value>> {
        self.0.read().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

fn bounds(span: &Span) -> (Bound<&Key>, Bound<&Key>) {
    (Bound::Included(&span.from), Bound::Excluded(&span.to))
}

impl Store for Memory {
    fn get(&self, key: &[u8]) -> Result<Option<Value>, Damaged> {
        Ok(self.rows().get(key).cloned())
    }

    fn first(&self, span: &Span, count: usize) -> Result<Vec<(Key, Value)>, Damaged> {
        if span.from >= span.to {
            return Ok(Vec::new());
        }
        let owned = |(key, value): (&Key, &Value)| (key.clone(), value.clone());
        Ok(self.rows().range::<Key, _>(bounds(span)).take(count).map(owned).collect())
    }

    fn last(&self, span: &Span, count: usize) -> Result<Vec<(Key, Value)>, Damaged> {
        if span.from >= span.to {
            return Ok(Vec::new());
        }
        let owned = |(key, value): (&Key, &Value)| (key.clone(), value.clone());
        Ok(self.rows().range::<Key, _>(bounds(span)).rev().take(count).map(owned).collect())
    }

    fn write(&self, batch: Batch) -> Result<(), Damaged> {
        let mut rows = self.0.write().unwrap_or_else(std::sync::PoisonError::into_inner);
        for (key, value) in batch.rows {
            match value {
                Some(value) => rows.insert(key, value),
                None => rows.remove(&key),
            };
        }
        Ok(())
    }

    fn size(&self) -> u64 {
        0
    }
}
