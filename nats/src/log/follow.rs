//! Following: a reader that never misses a record. It is given the newest from memory, and what is
//! older than that from the servers until it has come so far: much of it by a consumer, a little by
//! its place.

use std::sync::Arc;

use futures::StreamExt;
use stapes_core::{
    ids::Sequence,
    port::log::{Followed, Follower, PARTS_MAX, ReadError, Stored},
};
use tokio::sync::watch;

use super::{
    Inner,
    backlog::{Backlog, Broken},
    read,
};

/// Records given at once, unless a single commit has more.
const BATCH_RECORDS_MAX: usize = 4096;
const BATCH_BYTES_MAX: usize = 1 << 20;
/// So few records are not worth a consumer of their own.
const NEAR: u64 = 1024;
/// How often a consumer that brings nothing is made anew.
const DOUBTS_MAX: u32 = 3;

struct Following {
    inner: Arc<Inner>,
    heads: watch::Receiver<Sequence>,
    at: Sequence,
    /// Where the log ended when following began.
    target: Sequence,
    caught_up: bool,
    /// Brings what is older than memory.
    backlog: Option<Backlog>,
    /// Consumers that brought nothing, one after the other.
    doubts: u32,
}

/// Follows after `at`, which is not behind `target`, where the log ends now.
pub(super) fn follow(inner: Arc<Inner>, at: Sequence, target: Sequence) -> Follower {
    let heads = inner.shared.heads();
    let following =
        Following { inner, heads, at, target, caught_up: false, backlog: None, doubts: 0 };
    let step = async |following: Option<Following>| following?.step_or_end().await;
    futures::stream::unfold(Some(following), step).boxed()
}

enum Newest {
    Nothing,
    Records(Vec<Stored>),
    /// Older than what is in memory, which ends here.
    OnServers(Sequence),
}

impl Following {
    async fn step_or_end(mut self) -> Option<(Result<Followed, ReadError>, Option<Self>)> {
        match self.step().await? {
            Ok(followed) => Some((Ok(followed), Some(self))),
            // Nothing can be built on what follows an error.
            Err(error) => Some((Err(error), None)),
        }
    }

    async fn step(&mut self) -> Option<Result<Followed, ReadError>> {
        loop {
            self.heads.borrow_and_update();
            if let Some(fault) = self.inner.shared.fault() {
                return Some(Err(fault.read()));
            }
            let records = match self.newest() {
                Newest::Records(records) => {
                    self.backlog = None;
                    records
                }
                Newest::OnServers(head) => match self.on_servers(head).await {
                    Ok(records) => records,
                    Err(error) => return Some(Err(error)),
                },
                Newest::Nothing if !self.caught_up && self.at >= self.target => {
                    self.caught_up = true;
                    return Some(Ok(Followed::CaughtUp(self.at)));
                }
                Newest::Nothing => {
                    self.heads.changed().await.ok()?;
                    continue;
                }
            };
            let missing = ReadError::Gap { missing: self.at.next() };
            let Some(last) = records.last() else { return Some(Err(missing)) };
            if records[0].sequence != self.at.next() {
                return Some(Err(missing));
            }
            self.at = last.sequence;
            return Some(Ok(Followed::Records(records)));
        }
    }

    /// The next of what is older than memory, up to `head`.
    async fn on_servers(&mut self, head: Sequence) -> Result<Vec<Stored>, ReadError> {
        let is_far = head.0 - self.at.0 > NEAR || self.backlog.is_some();
        if is_far && self.doubts < DOUBTS_MAX {
            match self.by_backlog(head).await {
                Ok(records) => {
                    self.doubts = 0;
                    return Ok(records);
                }
                Err(broken) => {
                    tracing::debug!(at = %self.at, reason = %broken, "the log is read by place");
                    self.backlog = None;
                    self.doubts += 1;
                }
            }
        }
        let limits =
            read::Limits { last: head, records: BATCH_RECORDS_MAX, bytes: BATCH_BYTES_MAX };
        read::whole_commits(&self.inner, self.at.next(), limits).await
    }

    async fn by_backlog(&mut self, head: Sequence) -> Result<Vec<Stored>, Broken> {
        let mut backlog = match self.backlog.take() {
            Some(backlog) => backlog,
            None => Backlog::open(&self.inner, self.at.next()).await?,
        };
        let limits = (BATCH_RECORDS_MAX, BATCH_BYTES_MAX);
        let records = backlog.next(&self.inner, head, limits).await?;
        self.backlog = Some(backlog);
        Ok(records)
    }

    fn newest(&self) -> Newest {
        let state = self.inner.shared.read();
        // It may be ahead of what this process knows: it began where another one was.
        if state.head <= self.at {
            return Newest::Nothing;
        }
        let Some(newer) = state.recent.from(self.at.next()) else {
            return Newest::OnServers(state.head);
        };
        let (mut records, mut bytes, mut whole) = (Vec::new(), 0, 0);
        for record in newer.take(BATCH_RECORDS_MAX + PARTS_MAX) {
            bytes += record.payload.len();
            records.push(record.clone());
            if record.last_in_commit {
                whole = records.len();
                if whole >= BATCH_RECORDS_MAX || bytes >= BATCH_BYTES_MAX {
                    break;
                }
            }
        }
        records.truncate(whole);
        Newest::Records(records)
    }
}
