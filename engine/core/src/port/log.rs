//! The log port: the only thing stapes knows about how history is kept.
//!
//! A [`Commit`] is one decision, appended whole or not at all. It has a part for each record: one
//! for each aggregate it touches and one for each task it orders. Sequences are gapless from 1 in
//! the order of the log; revisions are gapless from 1 in each stream.
//!
//! [`laws`] are what every implementation is run against.

use std::fmt;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;

use crate::ids::{CommitId, Revision, Sequence, StreamId};

pub mod laws;
mod memory;
pub use memory::{MemoryLog, check_shape};

/// Records in one commit at most, so that every implementation can write it atomically.
pub const PARTS_MAX: usize = 1000;
/// Bytes of payload in one commit at most.
pub const COMMIT_BYTES_MAX: usize = 1 << 20;

/// One decision on its way to the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Commit {
    /// Unique for good: appending the same id again changes nothing and answers as the first time.
    pub id: CommitId,
    pub parts: Vec<Part>,
}

/// One record of a commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    pub stream: StreamId,
    pub expected: Expected,
    /// The encoded record; the log does not look inside.
    pub payload: Bytes,
}

/// Where the stream must end for the commit to be appended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expected {
    /// Exactly here: an aggregate.
    Exact(Revision),
    /// Anywhere: the tasks of a node.
    Any,
}

/// A record as the log holds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    pub sequence: Sequence,
    pub stream: StreamId,
    pub revision: Revision,
    pub commit: CommitId,
    /// Whether this record ends its commit. Readers act on whole commits only.
    pub last_in_commit: bool,
    pub payload: Bytes,
}

/// Where a commit lies. Durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Appended {
    pub first: Sequence,
    pub last: Sequence,
    /// The id had been appended before; this is where.
    pub duplicate: bool,
}

type Source = Box<dyn std::error::Error + Send + Sync>;

#[derive(Debug, thiserror::Error)]
pub enum AppendError {
    /// Another writer was first on one of the streams: catch up and decide again.
    #[error("{stream} is at revision {actual}, not where the decision expected it")]
    Conflict { stream: StreamId, actual: Revision },
    /// The commit may be durable or not: look for its id before deciding again.
    #[error("the log did not answer: whether it holds the decision is unknown")]
    OutcomeUnknown(#[source] Source),
    /// Nothing was written; later may be better.
    #[error("the log cannot be written now")]
    Unavailable(#[source] Source),
    /// Nothing was written, and nothing will be before there is room.
    #[error("the log's disk is full: {0}")]
    Full(String),
    /// The log is damaged; it can be read up to the damage and not written.
    #[error("the log is damaged: {0}")]
    Corrupt(String),
    /// The commit breaks a rule of the port.
    #[error("not a commit: {0}")]
    Invalid(&'static str),
}

#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    #[error("the log cannot be read now")]
    Unavailable(#[source] Source),
    #[error("the log is damaged: {0}")]
    Corrupt(String),
    /// Records are missing: the log cannot be trusted from here on.
    #[error("the log has no record {missing}")]
    Gap { missing: Sequence },
    /// The log ends before a record that had been read: it went backwards.
    #[error("the log ends at {head}, before {asked} that had been read: it went backwards")]
    Regressed { asked: Sequence, head: Sequence },
}

/// What a follower sees.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Followed {
    /// The next records, gapless and in order, ending at the end of a commit.
    Records(Vec<Stored>),
    /// All that was in the log is read up to here; what follows is new.
    CaughtUp(Sequence),
}

pub type Follower = BoxStream<'static, Result<Followed, ReadError>>;

#[async_trait]
pub trait EventLog: Send + Sync + fmt::Debug + 'static {
    /// Appends the whole commit or nothing. Durable when it answers `Ok`.
    async fn append(&self, commit: Commit) -> Result<Appended, AppendError>;

    /// Up to `count` records from `first` on, fewer only at the end of the log.
    async fn read(&self, first: Sequence, count: usize) -> Result<Vec<Stored>, ReadError>;

    /// The records of one stream after `after`, oldest first.
    async fn read_stream(
        &self,
        stream: StreamId,
        after: Revision,
    ) -> Result<Vec<Stored>, ReadError>;

    /// Everything after `after`, then everything new, for as long as the follower is held.
    /// Says once when it has caught up. [`ReadError::Regressed`] when the log ends before `after`.
    async fn follow(&self, after: Sequence) -> Result<Follower, ReadError>;

    /// The sequence of the last durable record; zero when there is none.
    async fn head(&self) -> Result<Sequence, ReadError>;

    /// How far the durable cursor `name` got; zero when it was never set.
    async fn cursor(&self, name: &str) -> Result<Sequence, ReadError>;

    /// Moves the durable cursor `name`. A crash may lose the newest moves, never more.
    async fn set_cursor(&self, name: &str, at: Sequence) -> Result<(), AppendError>;
}
