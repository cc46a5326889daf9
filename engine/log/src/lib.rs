//! The embedded event log: append-only segment files, one writer, one sync for all that wait.
//!
//! ```text
//! append ──► queue ──► writer thread: decide, one write, one fdatasync ──► publish, answer
//!                          │                                                  │
//!                          ▼                                                  ▼
//!        seg-…1.log  seg-…N.log  spare  head  cursors  lock      read · read_stream · follow
//!        seg-…1.idx  (derived)
//! ```
//!
//! `frame` is a commit on the disk, `segment` a file of them, `recover` what opening makes of
//! the files, `writer` the thread, `shared` what it publishes, `read` and `follow` those who
//! read it. The same files are the archive of any log: `export`, `import`, `verify`.
//!
//! Architecture Invariant: what is published is durable; what is acknowledged is published; what
//! is on the disk is changed only by cutting off a write that was never acknowledged.

use std::{
    fmt,
    fs::File,
    path::{Path, PathBuf},
    sync::Arc,
    thread::JoinHandle,
};

use async_trait::async_trait;
use stapes_core::{
    ids::{Revision, Sequence, StreamId},
    port::log::{
        AppendError, Appended, Commit, EventLog, Follower, ReadError, Stored, check_shape,
    },
};
use tokio::sync::{mpsc, oneshot, watch};

mod batch;
mod cursors;
mod disk;
mod error;
mod export;
#[cfg(test)]
mod faults;
mod filter;
mod follow;
mod frame;
mod import;
mod index;
mod keeper;
mod lock;
mod marker;
mod open;
mod read;
mod recover;
mod roll;
mod segment;
mod shared;
mod verify;
mod writer;

pub use error::OpenError;
pub use export::{ExportError, Exported, Range, export};
pub use import::{ImportError, Imported, import};
pub use verify::{Problem, Report, verify};

use keeper::Spares;
use shared::Shared;
use writer::Request;

/// How a log is kept. The defaults are meant for use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// A segment is at most this large, unless a single commit is larger; the first ones are smaller.
    pub segment_bytes: u64,
    /// Of the newest records, how much is kept in memory for those who follow.
    pub recent_bytes: usize,
    /// Appends that wait for the writer at most; more wait before they are taken.
    pub queue: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self { segment_bytes: 64 << 20, recent_bytes: 16 << 20, queue: 1024 }
    }
}

/// An open log. Dropping it waits for the appends that were taken and gives the files free.
pub struct SegmentLog {
    dir: PathBuf,
    shared: Arc<Shared>,
    head: watch::Sender<Sequence>,
    cursors: cursors::Cursors,
    writing: Option<Writing>,
    /// Last: the lock goes when everything else is gone.
    _lock: File,
}

/// The threads of a log that is written to.
struct Writing {
    queue: mpsc::Sender<Request>,
    writer: JoinHandle<()>,
    keeper: JoinHandle<()>,
    spares: Arc<Spares>,
}

impl fmt::Debug for SegmentLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SegmentLog").field("dir", &self.dir).finish_non_exhaustive()
    }
}

impl SegmentLog {
    /// Opens the log in `dir`, or begins one if the directory is empty or not there. Blocks.
    ///
    /// # Errors
    /// When the files are not a complete log. A log that is damaged but in place opens and can be
    /// read up to the damage ([`SegmentLog::damage`]); appends to it are refused.
    pub fn open(dir: impl AsRef<Path>, options: Options) -> Result<Self, OpenError> {
        open::open(dir.as_ref(), options, Arc::new(disk::RealDisk))
    }

    /// What is wrong behind the head, when the log can be read only up to there.
    #[must_use]
    pub fn damage(&self) -> Option<&str> {
        self.shared.damage.as_deref()
    }

    /// Looks for the commit in the sealed segments; tells where it lies and how many were searched.
    async fn find_sealed(&self, commit: &Commit) -> Result<(Option<Appended>, usize), AppendError> {
        let sealed = self.shared.read().sealed.clone();
        let searched = sealed.len();
        let id = commit.id;
        let mut suspects = Vec::new();
        suspects.extend(sealed.iter().filter(|sealed| !sealed.lacks(id)).cloned());
        if suspects.is_empty() {
            return Ok((None, searched));
        }
        let found = blocking(move || {
            for sealed in suspects {
                let found = sealed.find(id).map_err(|error| {
                    let path = sealed.segment.path.display();
                    ReadError::Unavailable(format!("{path}: {error}").into())
                })?;
                if found.is_some() {
                    return Ok(found);
                }
            }
            Ok(None)
        });
        let found = found.await.map_err(|error| AppendError::Unavailable(error.into()))?;
        let appended = found.map(|(first, count)| {
            let last = Sequence(first.0 + u64::from(count) - 1);
            Appended { first, last, duplicate: true }
        });
        Ok((appended, searched))
    }
}

impl Drop for SegmentLog {
    fn drop(&mut self) {
        if let Some(Writing { queue, writer, keeper, spares }) = self.writing.take() {
            drop(queue);
            let written = writer.join();
            spares.stop();
            let kept = keeper.join();
            if written.is_err() || kept.is_err() {
                tracing::error!(dir = %self.dir.display(), "a thread of the log panicked");
            }
        }
        if let Err(error) = self.cursors.sync() {
            tracing::warn!(%error, "the cursors could not be synced");
        }
    }
}

#[async_trait]
impl EventLog for SegmentLog {
    async fn append(&self, commit: Commit) -> Result<Appended, AppendError> {
        check_shape(&commit)?;
        if let Some(fault) = self.shared.fault() {
            return Err(fault.refuse());
        }
        let (known, sealed_checked) = self.find_sealed(&commit).await?;
        if let Some(appended) = known {
            return Ok(appended);
        }
        let gone = || AppendError::OutcomeUnknown("the log's writer is gone".into());
        let queue = &self.writing.as_ref().ok_or_else(gone)?.queue;
        let (reply, answer) = oneshot::channel();
        let request = Request { commit, sealed_checked, reply };
        queue.send(request).await.map_err(|_| {
            AppendError::Unavailable("the log's writer is gone: restart the daemon".into())
        })?;
        answer.await.unwrap_or_else(|_| Err(gone()))
    }

    async fn read(&self, first: Sequence, count: usize) -> Result<Vec<Stored>, ReadError> {
        let first = first.max(Sequence(1));
        if let Some(recent) = self.shared.read().recent.from(first) {
            return Ok(recent.take(count).cloned().collect());
        }
        let shared = self.shared.clone();
        blocking(move || {
            let mut records = shared.read_files(first, count, usize::MAX)?;
            records.truncate(count);
            if let Some(damage) = &shared.damage
                && records.len() < count
            {
                return Err(ReadError::Corrupt(damage.clone()));
            }
            Ok(records)
        })
        .await
    }

    async fn read_stream(
        &self,
        stream: StreamId,
        after: Revision,
    ) -> Result<Vec<Stored>, ReadError> {
        let (mut newest_first, older) = self.shared.recent_stream(stream, after);
        if older.0 == 0 {
            newest_first.reverse();
            return Ok(newest_first);
        }
        let shared = self.shared.clone();
        blocking(move || shared.older_stream(stream, after, newest_first, older)).await
    }

    async fn follow(&self, after: Sequence) -> Result<Follower, ReadError> {
        let receiver = self.head.subscribe();
        let head = self.shared.read().head;
        if after > head {
            return Err(ReadError::Regressed { asked: after, head });
        }
        Ok(follow::follow(self.shared.clone(), receiver, after))
    }

    async fn head(&self) -> Result<Sequence, ReadError> {
        Ok(self.shared.read().head)
    }

    async fn cursor(&self, name: &str) -> Result<Sequence, ReadError> {
        Ok(self.cursors.get(name))
    }

    async fn set_cursor(&self, name: &str, at: Sequence) -> Result<(), AppendError> {
        self.cursors.set(name, at)
    }
}

/// Reads files without holding up those who wait for nothing.
async fn blocking<T: Send + 'static>(
    read: impl FnOnce() -> Result<T, ReadError> + Send + 'static,
) -> Result<T, ReadError> {
    match tokio::task::spawn_blocking(read).await {
        Ok(answer) => answer,
        Err(error) => Err(ReadError::Unavailable(error.into())),
    }
}
