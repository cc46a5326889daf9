//! The laws of the log port: what every implementation is run against, the one in memory included.
//!
//! A law makes a log of its own, does something to it and panics when an answer is not the one
//! that the port promises. Every wait is bounded, so an implementation that never answers fails
//! like one that answers wrong.
//!
//! ```text
//! #[tokio::test] async fn laws() { laws::all(&MyMaker).await }
//! ```

use std::{future::Future, sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use uuid::Uuid;

use super::{AppendError, Appended, Commit, EventLog, Expected, Followed, Follower, Part, Stored};
use crate::ids::{CommitId, Revision, Sequence, StreamId, StreamKind};

mod appending;
mod following;
mod idempotence;
mod reading;

pub use appending::{
    a_commit_is_whole_or_absent, a_stale_expectation_changes_nothing, any_part_always_fits,
    every_revision_has_one_winner, positions_are_gapless, shapes_are_checked,
    the_largest_commits_fit,
};
pub use following::{
    a_follower_gets_everything_once_from_anywhere, a_follower_sees_what_comes_later,
    an_empty_log_is_caught_up_with_at_once, every_follower_gets_everything,
    following_past_the_head_is_refused,
};
pub use idempotence::{
    a_commit_is_appended_once, a_commit_is_appended_once_for_good, nothing_changes_by_reopening,
    one_id_at_the_same_time_is_one_commit,
};
pub use reading::{
    cursors_are_kept_apart, payloads_come_back_as_they_were, ranges_are_read_exactly,
    streams_are_read_from_anywhere, unknown_streams_are_empty,
};

/// No answer of a log takes longer, or the law is broken.
const ANSWER_MAX: Duration = Duration::from_secs(60);

/// Makes the logs that the laws are tried on.
#[async_trait]
pub trait Maker: Send + Sync {
    /// An empty log that shares nothing with those made before.
    async fn fresh(&self) -> Arc<dyn EventLog>;

    /// The same log after its process ended and came back; `None` when it does not outlive it.
    /// `log` is the only handle left.
    async fn reopen(&self, log: Arc<dyn EventLog>) -> Option<Arc<dyn EventLog>> {
        drop(log);
        None
    }

    /// After how many other commits an id must still be known.
    fn many(&self) -> usize {
        3000
    }
}

/// Tries every law.
pub async fn all(maker: &dyn Maker) {
    unknown_streams_are_empty(maker).await;
    positions_are_gapless(maker).await;
    a_stale_expectation_changes_nothing(maker).await;
    a_commit_is_whole_or_absent(maker).await;
    any_part_always_fits(maker).await;
    shapes_are_checked(maker).await;
    the_largest_commits_fit(maker).await;
    every_revision_has_one_winner(maker).await;
    a_commit_is_appended_once(maker).await;
    one_id_at_the_same_time_is_one_commit(maker).await;
    a_commit_is_appended_once_for_good(maker).await;
    nothing_changes_by_reopening(maker).await;
    payloads_come_back_as_they_were(maker).await;
    ranges_are_read_exactly(maker).await;
    streams_are_read_from_anywhere(maker).await;
    an_empty_log_is_caught_up_with_at_once(maker).await;
    a_follower_gets_everything_once_from_anywhere(maker).await;
    a_follower_sees_what_comes_later(maker).await;
    every_follower_gets_everything(maker).await;
    following_past_the_head_is_refused(maker).await;
    cursors_are_kept_apart(maker).await;
}

/// Waits for an answer, not for ever.
async fn soon<F: Future>(what: &str, answer: F) -> F::Output {
    match tokio::time::timeout(ANSWER_MAX, answer).await {
        Ok(output) => output,
        Err(_) => panic!("no answer within {ANSWER_MAX:?}: {what}"),
    }
}

fn stream(number: u128) -> StreamId {
    StreamId::new(StreamKind::Instance, Uuid::from_u128(number))
}

fn tasks(number: u128) -> StreamId {
    StreamId::new(StreamKind::Task, Uuid::from_u128(number))
}

fn id(name: &str, number: usize) -> CommitId {
    CommitId::derive(&[name, &number.to_string()])
}

fn exactly(stream: StreamId, expected: u64, payload: impl Into<Bytes>) -> Part {
    Part { stream, expected: Expected::Exact(Revision(expected)), payload: payload.into() }
}

fn anywhere(stream: StreamId, payload: impl Into<Bytes>) -> Part {
    Part { stream, expected: Expected::Any, payload: payload.into() }
}

fn commit(id: CommitId, parts: impl Into<Vec<Part>>) -> Commit {
    Commit { id, parts: parts.into() }
}

async fn append(log: &dyn EventLog, commit: Commit) -> Result<Appended, AppendError> {
    soon("append", log.append(commit)).await
}

async fn must_append(log: &dyn EventLog, commit: Commit) -> Appended {
    append(log, commit).await.expect("a commit that fits is appended")
}

async fn everything(log: &dyn EventLog) -> Vec<Stored> {
    soon("read everything", log.read(Sequence(1), usize::MAX)).await.expect("the log can be read")
}

async fn head(log: &dyn EventLog) -> Sequence {
    soon("head", log.head()).await.expect("the log has a head")
}

async fn history(log: &dyn EventLog, stream: StreamId, after: u64) -> Vec<Stored> {
    soon("read a stream", log.read_stream(stream, Revision(after)))
        .await
        .expect("a stream can be read")
}

async fn follow(log: &dyn EventLog, after: u64) -> Follower {
    soon("follow", log.follow(Sequence(after))).await.expect("the log can be followed")
}

async fn next(follower: &mut Follower) -> Followed {
    soon("the follower's next", follower.next())
        .await
        .expect("a follower does not end before the log does")
        .expect("a sound log can be followed")
}

/// Commits of one to four records on five streams of aggregates and one of tasks.
async fn mixed(log: &dyn EventLog, name: &str, commits: usize) {
    for number in 0..commits {
        let mut parts = Vec::new();
        for offset in 0..=(number % 3) {
            let stream = stream((number + offset) as u128 % 5);
            let revision = history(log, stream, 0).await.len() as u64;
            parts.push(exactly(stream, revision, format!("{name} {number} {offset}")));
        }
        if number % 2 == 1 {
            parts.push(anywhere(tasks(1), format!("{name} {number} task")));
        }
        must_append(log, commit(id(name, number), parts)).await;
    }
}
