//! The log port on one JetStream stream: one exact subject a stream of records, one message a record.
//!
//! `record` is a record as a message, `stream` how JetStream is set up, `tail` brings all records to
//! `shared`, what this process knows; `append` and `publish` write, `read` and `follow` read.
//!
//! JetStream's sequences are the log's own: it starts at 1, refuses deletes and gives no number to what
//! it refuses. Its expectations are sequences and ours revisions; what this process knows translates.
//!
//! Architecture Invariant: [`JetStreamLog::head`] is asked of the stream's leader, since leases rest
//! upon it. A leader that is cut off from the others steps down within ten seconds and answers no more.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use async_nats::jetstream::{self, stream::Info};
use async_trait::async_trait;
use stapes_core::{
    ids::{Revision, Sequence, StreamId},
    port::log::{
        AppendError, Appended, Commit, EventLog, Follower, ReadError, Stored, check_shape,
    },
};
use tokio::{
    sync::Semaphore,
    task::JoinHandle,
    time::{Instant, timeout},
};
use uuid::Uuid;

use crate::{
    connection::{ANSWER_MAX, Connection},
    error::{ApiError, OpenError},
};

mod append;
mod backlog;
mod cursors;
mod follow;
mod locks;
mod publish;
mod read;
mod recent;
mod record;
mod shared;
mod stream;
mod tail;

pub use stream::{Keepers, Replica};

use append::Key;
pub(crate) use cursors::Cursors;
use locks::Locks;
pub(crate) use record::{Names, Place};
use shared::Shared;

/// A stream takes 50 atomic batches at once; this many nodes' worth of these fit.
const BATCHES_MAX: usize = 8;
/// How long opening waits without any progress.
const STANDSTILL_MAX: Duration = Duration::from_secs(30);
const PROGRESS_EVERY: Duration = Duration::from_secs(5);

/// How a log is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogConfig {
    pub cluster: Uuid,
    /// 1, 3 or 5, when the log is made; [`JetStreamLog::set_replicas`] changes it.
    pub replicas: usize,
    /// How large the log may become; as large as the servers let it otherwise.
    pub max_bytes: Option<u64>,
    /// Of the newest records, how much is kept in memory for those who follow.
    pub recent_bytes: usize,
}

impl LogConfig {
    #[must_use]
    pub fn new(cluster: Uuid, replicas: usize) -> Self {
        Self { cluster, replicas, max_bytes: None, recent_bytes: 32 << 20 }
    }
}

/// Makes a cluster's log if it is not there; for those who may make streams.
///
/// # Errors
/// As [`JetStreamLog::open`].
pub async fn ensure(connection: &Connection, config: &LogConfig) -> Result<(), OpenError> {
    stream::ensure(connection, &Names::new(config.cluster), config).await.map(drop)
}

/// Changes how many replicas a cluster's log has, as when a third node joins; for those who may
/// change streams.
///
/// # Errors
/// When there are not so many servers, or they do not answer.
pub async fn set_replicas(
    connection: &Connection,
    cluster: Uuid,
    replicas: usize,
) -> Result<(), OpenError> {
    stream::set_replicas(connection, &Names::new(cluster), replicas).await
}

/// What all parts of an open log share.
struct Inner {
    connection: Connection,
    jetstream: jetstream::Context,
    names: Names,
    cursors: Cursors,
    /// When the stream was made; another time is another stream.
    created: async_nats::datetime::DateTime,
    /// What the leader said last.
    info: Mutex<Info>,
    shared: Shared,
    locks: Locks<Key>,
    batches: Semaphore,
}

/// A cluster's log. Dropping it ends its one consumer.
pub struct JetStreamLog {
    inner: Arc<Inner>,
    tail: JoinHandle<()>,
}

impl fmt::Debug for JetStreamLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JetStreamLog")
            .field("stream", &self.inner.names.log)
            .finish_non_exhaustive()
    }
}

impl JetStreamLog {
    /// Opens the cluster's log, or makes it if it is not there, and reads it once, to know where
    /// every stream ends.
    ///
    /// # Errors
    /// When the servers cannot keep a log, when what they keep is another cluster's, or when it is
    /// not whole. What happened and what to do is in the text.
    pub async fn open(connection: Connection, config: LogConfig) -> Result<Self, OpenError> {
        let names = Names::new(config.cluster);
        let info = stream::ensure(&connection, &names, &config).await?;
        let inner = Arc::new(Inner {
            jetstream: connection.jetstream(),
            cursors: Cursors::new(connection.clone(), names.clone()),
            connection,
            names,
            created: info.created,
            shared: Shared::new(config.recent_bytes),
            locks: Locks::default(),
            batches: Semaphore::new(BATCHES_MAX),
            info: Mutex::new(info),
        });
        let tail = tokio::spawn(tail::run(inner.clone()));
        let log = Self { inner, tail };
        log.read_once().await.map_err(OpenError::Log)?;
        Ok(log)
    }

    /// Changes how many replicas the log has, as when a third node joins.
    ///
    /// # Errors
    /// When there are not so many servers, or they do not answer.
    pub async fn set_replicas(&self, replicas: usize) -> Result<(), OpenError> {
        stream::set_replicas(&self.inner.connection, &self.inner.names, replicas).await
    }

    /// Who keeps the log, as its leader says; a copy that lacks cursors is not current either.
    ///
    /// # Errors
    /// When there is no leader, or it does not answer.
    pub async fn keepers(&self) -> Result<Keepers, ReadError> {
        let info = stream::info(&self.inner.connection, &self.inner.names.log).await?;
        self.inner.note(&info);
        let cursors = stream::info(&self.inner.connection, &self.inner.names.cursors).await?;
        Ok(Keepers::of(&info).and(&Keepers::of(&cursors)))
    }

    /// The connection that the log is reached by.
    #[must_use]
    pub fn connection(&self) -> &Connection {
        &self.inner.connection
    }

    pub(crate) fn names(&self) -> &Names {
        &self.inner.names
    }

    pub(crate) fn cursors(&self) -> &Cursors {
        &self.inner.cursors
    }

    /// Waits until the tail has brought all that there is.
    async fn read_once(&self) -> Result<(), ReadError> {
        let target = Sequence(self.inner.info().state.last_sequence);
        let (mut at, mut standstill) = (Sequence(0), Duration::ZERO);
        while !self.inner.arrives(target, PROGRESS_EVERY).await {
            if let Some(fault) = self.inner.shared.fault() {
                return Err(fault.read());
            }
            let before = std::mem::replace(&mut at, self.inner.shared.head());
            standstill = if at > before { Duration::ZERO } else { standstill + PROGRESS_EVERY };
            if standstill >= STANDSTILL_MAX {
                return Err(ApiError::TimedOut.into());
            }
            tracing::info!(%at, of = %target, "reading the log");
        }
        Ok(())
    }
}

impl Drop for JetStreamLog {
    fn drop(&mut self) {
        self.tail.abort();
    }
}

impl Inner {
    fn info(&self) -> Info {
        self.info.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn note(&self, info: &Info) {
        *self.info.lock().unwrap_or_else(PoisonError::into_inner) = info.clone();
    }

    /// Where the log ends, as its leader knows it.
    async fn leader_head(&self) -> Result<Sequence, ReadError> {
        if let Some(fault) = self.shared.fault() {
            return Err(fault.read());
        }
        let known = self.shared.head();
        let since = Instant::now();
        loop {
            let info = stream::info(&self.connection, &self.names.log).await?;
            self.note(&info);
            let head = Sequence(info.state.last_sequence);
            if head >= known {
                return Ok(head);
            }
            // One that leads since a moment ago may not have applied yet what it holds.
            if since.elapsed() > tail::SHORTER_MAX {
                return Err(ReadError::Regressed { asked: known, head });
            }
            tokio::time::sleep(tail::RETRY_PAUSE).await;
        }
    }

    /// Waits until everything up to `sequence` is known here; tells whether it is.
    async fn arrives(&self, sequence: Sequence, within: Duration) -> bool {
        let mut heads = self.shared.heads();
        let arrived = heads.wait_for(|head| *head >= sequence || self.shared.fault().is_some());
        matches!(timeout(within, arrived).await, Ok(Ok(head)) if *head >= sequence)
    }

    /// Waits until all that the leader has is known here; tells where that ends.
    async fn catch_up(&self) -> Result<Sequence, ReadError> {
        let head = self.leader_head().await?;
        if self.arrives(head, ANSWER_MAX).await {
            self.shared.note_caught_up();
            return Ok(head);
        }
        let fault = self.shared.fault().map(shared::Fault::read);
        Err(fault.unwrap_or_else(|| ApiError::TimedOut.into()))
    }
}

#[async_trait]
impl EventLog for JetStreamLog {
    async fn append(&self, commit: Commit) -> Result<Appended, AppendError> {
        check_shape(&commit)?;
        append::append(&self.inner, &commit).await
    }

    async fn read(&self, first: Sequence, count: usize) -> Result<Vec<Stored>, ReadError> {
        let first = first.max(Sequence(1));
        let wanted = first.0.saturating_add(count as u64).saturating_sub(1);
        let known = self.inner.shared.head();
        // Fewer than wanted are given only at the end, and the leader knows where that is.
        let head = if wanted > known.0 { self.inner.catch_up().await? } else { known };
        if first > head || count == 0 {
            return Ok(Vec::new());
        }
        if let Some(recent) = self.inner.shared.read().recent.from(first) {
            return Ok(recent.take(count).cloned().collect());
        }
        let limits = read::Limits { last: head, records: count, bytes: usize::MAX };
        read::range(&self.inner, first, limits).await
    }

    async fn read_stream(
        &self,
        stream: StreamId,
        after: Revision,
    ) -> Result<Vec<Stored>, ReadError> {
        if let Some(fault) = self.inner.shared.fault() {
            return Err(fault.read());
        }
        let (end, newest_first, older) = {
            let state = self.inner.shared.read();
            let end = state.end(stream);
            let (newest_first, older) = state.recent.stream(stream, after, end.sequence);
            (end, newest_first, older)
        };
        let mut records = match newest_first.last() {
            _ if older.0 == 0 => Vec::new(),
            None => read::stream(&self.inner, stream, after, end).await?,
            Some(oldest) => {
                let revision = Revision(oldest.revision.0 - 1);
                let end = shared::End { revision, sequence: older };
                read::stream(&self.inner, stream, after, end).await?
            }
        };
        records.extend(newest_first.into_iter().rev());
        Ok(records)
    }

    async fn follow(&self, after: Sequence) -> Result<Follower, ReadError> {
        let head = self.inner.leader_head().await?.max(self.inner.shared.head());
        if after > head {
            return Err(ReadError::Regressed { asked: after, head });
        }
        Ok(follow::follow(self.inner.clone(), after, head))
    }

    async fn head(&self) -> Result<Sequence, ReadError> {
        self.inner.leader_head().await
    }

    async fn cursor(&self, name: &str) -> Result<Sequence, ReadError> {
        self.inner.cursors.get(name).await
    }

    async fn set_cursor(&self, name: &str, at: Sequence) -> Result<(), AppendError> {
        self.inner.cursors.set(name, at).await
    }
}
