//! Appending: what is expected is compared here first, then by the servers; whatever leaves a doubt is
//! settled by reading.
//!
//! ```text
//! known id? ──► expected here? ──► publish ──► stored ──► taken in
//!     ▲                              │
//!     └── catch up with the leader ◄─┘ stale · known · no answer
//! ```
//!
//! The same commit may be sent again as often as need be: its expectations let it in once, its ids
//! let it in once for ten minutes, and who is sure of the last minute has its id in memory for good.

use std::time::Duration;

use stapes_core::{
    ids::{CommitId, Sequence, StreamId},
    port::log::{AppendError, Appended, Commit, Expected},
};
use tokio::time::Instant;

use super::{
    Inner,
    publish::{Outcome, Outgoing, publish, publish_batch},
    record,
    stream::Keepers,
};
use crate::error::Source;

/// How long an append is tried: longer than servers need to choose a new leader.
const TRIED_MAX: Duration = Duration::from_secs(20);
const PAUSE_MIN: Duration = Duration::from_millis(10);
const PAUSE_MAX: Duration = Duration::from_millis(500);
/// How long what was acknowledged may take to be taken in behind those before it.
const TAKEN_IN_MAX: Duration = Duration::from_secs(5);
/// Parts that expect nothing are compared by their ids alone, which the servers know for ten minutes;
/// what this process knows must be much newer than that.
const FRESH_MAX: Duration = Duration::from_secs(60);

/// What only one append in this process does at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Key {
    Commit(CommitId),
    Stream(StreamId),
}

/// What is known here about a commit that is to be appended.
enum Known {
    /// It lies there.
    Appended(Appended),
    /// It was refused for good.
    Conflict(AppendError),
    /// It expects more than is known here.
    Behind,
    /// It fits; of each part the last sequence of its stream, where it expects one.
    Fits(Vec<Option<Sequence>>),
}

pub(super) async fn append(inner: &Inner, commit: &Commit) -> Result<Appended, AppendError> {
    let keys = commit.parts.iter().filter_map(|part| match part.expected {
        Expected::Exact(_) => Some(Key::Stream(part.stream)),
        Expected::Any => None,
    });
    let keys = keys.chain([Key::Commit(commit.id)]).collect();
    let turn = tokio::time::timeout(TRIED_MAX, inner.locks.hold(keys)).await;
    let _turn = turn.map_err(|_| {
        AppendError::Unavailable("the appends before it on the same stream took too long".into())
    })?;
    Attempt::new(inner, commit).run().await
}

struct Attempt<'a> {
    inner: &'a Inner,
    commit: &'a Commit,
    until: Instant,
    pause: Duration,
    /// Whether it was sent and may be in the log.
    doubtful: bool,
    /// Whether all that the leader had since the last attempt is known here.
    caught_up: bool,
    cause: Option<Source>,
}

impl<'a> Attempt<'a> {
    fn new(inner: &'a Inner, commit: &'a Commit) -> Self {
        let until = Instant::now() + TRIED_MAX;
        let (pause, doubtful, caught_up, cause) = (PAUSE_MIN, false, false, None);
        Self { inner, commit, until, pause, doubtful, caught_up, cause }
    }

    async fn run(mut self) -> Result<Appended, AppendError> {
        loop {
            if let Some(fault) = self.inner.shared.fault() {
                return Err(fault.append());
            }
            match self.known() {
                Known::Appended(appended) => {
                    return Ok(Appended { duplicate: !self.doubtful, ..appended });
                }
                Known::Conflict(conflict) => return Err(conflict),
                Known::Behind => self.catch_up().await?,
                Known::Fits(expected) => {
                    if !self.expects_something() && !self.inner.shared.read().is_fresh(FRESH_MAX) {
                        self.catch_up().await?;
                        continue;
                    }
                    if let Some(answer) = self.send(&expected).await? {
                        return Ok(answer);
                    }
                }
            }
        }
    }

    fn known(&self) -> Known {
        let state = self.inner.shared.read();
        if let Some(appended) = state.find(self.commit.id) {
            return Known::Appended(appended);
        }
        let mut expected = Vec::with_capacity(self.commit.parts.len());
        for part in &self.commit.parts {
            let Expected::Exact(revision) = part.expected else {
                expected.push(None);
                continue;
            };
            let end = state.end(part.stream);
            if revision < end.revision || revision > end.revision && self.caught_up {
                let (stream, actual) = (part.stream, end.revision);
                return Known::Conflict(AppendError::Conflict { stream, actual });
            }
            if revision > end.revision {
                return Known::Behind;
            }
            expected.push(Some(end.sequence));
        }
        Known::Fits(expected)
    }

    fn expects_something(&self) -> bool {
        self.commit.parts.iter().any(|part| matches!(part.expected, Expected::Exact(_)))
    }

    /// Sends it once; tells where it lies, or nothing if that is to be found out.
    async fn send(
        &mut self,
        expected: &[Option<Sequence>],
    ) -> Result<Option<Appended>, AppendError> {
        self.caught_up = false;
        match self.publish(expected).await {
            Outcome::Stored { last } => return self.take_in(last).await.map(Some),
            Outcome::Known | Outcome::Stale => self.settle().await?,
            Outcome::Full(what) if self.doubtful => {
                self.cause = Some(what.into());
                self.settle().await?;
            }
            Outcome::Full(what) => return Err(AppendError::Full(what)),
            Outcome::NotStored(cause) => {
                self.cause = Some(cause);
                self.wait().await?;
            }
            Outcome::Unknown(cause) => {
                self.doubtful = true;
                self.cause = Some(cause);
                self.catch_up().await?;
            }
        }
        Ok(None)
    }

    async fn publish(&self, expected: &[Option<Sequence>]) -> Outcome {
        let message = |(index, last): (usize, &Option<Sequence>)| {
            let part = &self.commit.parts[index];
            let headers = record::headers(self.commit, index, *last);
            let subject = self.inner.names.subject(part.stream);
            Outgoing { subject, headers, payload: part.payload.clone() }
        };
        let mut messages: Vec<_> = expected.iter().enumerate().map(message).collect();
        if messages.len() == 1
            && let Some(message) = messages.pop()
        {
            return publish(&self.inner.connection, message).await;
        }
        // Servers take few batches at once.
        let Ok(_permit) = self.inner.batches.acquire().await else {
            return Outcome::NotStored("the log is closed".into());
        };
        publish_batch(&self.inner.connection, messages).await
    }

    /// It is durable; from here on nothing makes it undone.
    async fn take_in(&self, last: Sequence) -> Result<Appended, AppendError> {
        let first = Sequence((last.0 + 1).saturating_sub(self.commit.parts.len() as u64));
        if let Err(fault) = self.inner.shared.acknowledge(record::appended(self.commit, first)) {
            self.inner.shared.fail(fault);
        }
        if !self.inner.arrives(last, TAKEN_IN_MAX).await {
            tracing::warn!(%last, "appended, and the records before it do not come");
        }
        Ok(Appended { first, last, duplicate: false })
    }

    /// Until all that the leader has is known here; without an answer, a while.
    async fn catch_up(&mut self) -> Result<(), AppendError> {
        match self.inner.catch_up().await {
            Ok(_) => {
                self.caught_up = true;
                Ok(())
            }
            Err(error) => {
                self.cause = Some(error.into());
                self.wait().await
            }
        }
    }

    /// The servers refused what seems to fit: somebody else's commit, or this one sent before, is on
    /// its way or there already.
    async fn settle(&mut self) -> Result<(), AppendError> {
        self.catch_up().await?;
        match self.known() {
            Known::Fits(_) => self.wait().await,
            Known::Appended(_) | Known::Conflict(_) | Known::Behind => Ok(()),
        }
    }

    async fn wait(&mut self) -> Result<(), AppendError> {
        if Instant::now() >= self.until {
            let cause = self.cause.take().unwrap_or_else(|| "others are always first".into());
            let cause = self.inner.explain(cause);
            return Err(match self.doubtful {
                true => AppendError::OutcomeUnknown(cause),
                false => AppendError::Unavailable(cause),
            });
        }
        // Rivals do not come back all at once.
        let jitter = uuid::Uuid::new_v4().as_bytes()[0];
        tokio::time::sleep(self.pause * (64 + u32::from(jitter) / 2) / 128).await;
        self.pause = (self.pause * 2).min(PAUSE_MAX);
        Ok(())
    }
}

impl Inner {
    /// A cause with what is known about who is missing.
    fn explain(&self, cause: Source) -> Source {
        let keepers = Keepers::of(&self.info());
        match keepers.leader {
            None => cause,
            Some(_) => format!("{cause}; when the log's leader was last heard, {keepers}").into(),
        }
    }
}
