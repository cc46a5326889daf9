//! Following: a reader that never misses a record and never sees one that is not durable.
//!
//! A follower looks at what is published, gives it, and waits for the head to move only when there
//! was nothing. Whatever is appended between the look and the wait has moved the head already.

use std::sync::Arc;

use futures::StreamExt;
use stapes_core::{
    ids::Sequence,
    port::log::{Followed, Follower, PARTS_MAX, ReadError, Stored},
};
use tokio::sync::watch;

use crate::shared::Shared;

/// Records given at once, unless a single commit has more.
const BATCH_RECORDS_MAX: usize = 4096;
const BATCH_BYTES_MAX: usize = 1 << 20;

struct Following {
    shared: Arc<Shared>,
    head: watch::Receiver<Sequence>,
    at: Sequence,
    caught_up: bool,
}

/// Follows `shared` after `at`, which is not behind its head, for as long as `head` has a sender.
pub(crate) fn follow(
    shared: Arc<Shared>,
    head: watch::Receiver<Sequence>,
    at: Sequence,
) -> Follower {
    let following = Following { shared, head, at, caught_up: false };
    let step = async |following: Option<Following>| following?.step_or_end().await;
    futures::stream::unfold(Some(following), step).boxed()
}

/// What is in memory after a position.
enum Newest {
    Nothing,
    Records(Vec<Stored>),
    InFiles,
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
            self.head.borrow_and_update();
            let records = match self.newest() {
                Newest::Records(records) => records,
                Newest::InFiles => match self.read_files().await {
                    Ok(records) => records,
                    Err(error) => return Some(Err(error)),
                },
                Newest::Nothing if !self.caught_up => {
                    if let Some(what) = &self.shared.damage {
                        return Some(Err(ReadError::Corrupt(what.clone())));
                    }
                    self.caught_up = true;
                    return Some(Ok(Followed::CaughtUp(self.at)));
                }
                Newest::Nothing => {
                    self.head.changed().await.ok()?;
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

    fn newest(&self) -> Newest {
        let published = self.shared.read();
        if published.head == self.at {
            return Newest::Nothing;
        }
        let Some(newer) = published.recent.from(self.at.next()) else { return Newest::InFiles };
        let mut records = Vec::new();
        let (mut bytes, mut whole) = (0, 0);
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

    async fn read_files(&self) -> Result<Vec<Stored>, ReadError> {
        let (shared, first) = (self.shared.clone(), self.at.next());
        crate::blocking(move || shared.read_files(first, BATCH_RECORDS_MAX, BATCH_BYTES_MAX)).await
    }
}
