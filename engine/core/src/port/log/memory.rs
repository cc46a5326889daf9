//! The log in memory: the reference implementation, and the simulator's disk.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use async_trait::async_trait;
use futures::StreamExt;
use tokio::sync::watch;

use super::{
    AppendError, Appended, COMMIT_BYTES_MAX, Commit, EventLog, Expected, Followed, Follower,
    PARTS_MAX, ReadError, Stored,
};
use crate::ids::{CommitId, Revision, Sequence, StreamId};

/// Records that a follower is given at once.
const BATCH_RECORDS_MAX: usize = 1024;

#[derive(Debug)]
pub struct MemoryLog {
    state: Arc<Mutex<State>>,
    head: watch::Sender<Sequence>,
}

#[derive(Debug, Default)]
struct State {
    records: Vec<Stored>,
    tails: BTreeMap<StreamId, Revision>,
    commits: BTreeMap<CommitId, (Sequence, Sequence)>,
    cursors: BTreeMap<String, Sequence>,
}

impl Default for MemoryLog {
    fn default() -> Self {
        Self { state: Default::default(), head: watch::Sender::new(Sequence(0)) }
    }
}

impl MemoryLog {
    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().expect("no holder panics")
    }
}

impl State {
    fn append(&mut self, commit: Commit) -> Result<Appended, AppendError> {
        if let Some(&(first, last)) = self.commits.get(&commit.id) {
            return Ok(Appended { first, last, duplicate: true });
        }
        for part in &commit.parts {
            let Expected::Exact(expected) = part.expected else { continue };
            let actual = self.tails.get(&part.stream).copied().unwrap_or_default();
            if actual != expected {
                return Err(AppendError::Conflict { stream: part.stream, actual });
            }
        }
        let first = Sequence(self.records.len() as u64 + 1);
        let count = commit.parts.len();
        for (index, part) in commit.parts.into_iter().enumerate() {
            let tail = self.tails.entry(part.stream).or_default();
            *tail = tail.next();
            self.records.push(Stored {
                sequence: Sequence(self.records.len() as u64 + 1),
                stream: part.stream,
                revision: *tail,
                commit: commit.id,
                last_in_commit: index + 1 == count,
                payload: part.payload,
            });
        }
        let last = Sequence(self.records.len() as u64);
        self.commits.insert(commit.id, (first, last));
        Ok(Appended { first, last, duplicate: false })
    }

    fn read(&self, first: Sequence, count: usize) -> Vec<Stored> {
        let start =
            usize::try_from(first.0.max(1) - 1).unwrap_or(usize::MAX).min(self.records.len());
        let end = start.saturating_add(count).min(self.records.len());
        self.records[start..end].to_vec()
    }

    /// A batch after `after` that ends at the end of a commit.
    fn batch(&self, after: Sequence) -> Vec<Stored> {
        let mut records = self.read(after.next(), BATCH_RECORDS_MAX + PARTS_MAX);
        let whole =
            records.iter().take(BATCH_RECORDS_MAX).rposition(|record| record.last_in_commit);
        let whole = whole.or_else(|| records.iter().position(|record| record.last_in_commit));
        records.truncate(whole.map_or(0, |index| index + 1));
        records
    }
}

/// What every implementation refuses before it looks at its state.
///
/// # Errors
/// [`AppendError::Invalid`] with the rule that is broken.
pub fn check_shape(commit: &Commit) -> Result<(), AppendError> {
    if commit.parts.is_empty() {
        return Err(AppendError::Invalid("a commit has at least one record"));
    }
    if commit.parts.len() > PARTS_MAX {
        return Err(AppendError::Invalid("a commit has at most 1000 records"));
    }
    if commit.parts.iter().map(|part| part.payload.len()).sum::<usize>() > COMMIT_BYTES_MAX {
        return Err(AppendError::Invalid("a commit has at most 1 MiB"));
    }
    // Two records of one stream: where the second expects the stream to be would not be clear.
    if commit.parts.len() > 1 {
        let mut exact = BTreeMap::new();
        for part in &commit.parts {
            let this = matches!(part.expected, Expected::Exact(_));
            if exact.insert(part.stream, this).is_some_and(|earlier| earlier || this) {
                return Err(AppendError::Invalid("an aggregate has one record in a commit"));
            }
        }
    }
    Ok(())
}

#[async_trait]
impl EventLog for MemoryLog {
    async fn append(&self, commit: Commit) -> Result<Appended, AppendError> {
        check_shape(&commit)?;
        let appended = self.state().append(commit)?;
        self.head.send_if_modified(|head| {
            let newer = appended.last > *head;
            *head = appended.last.max(*head);
            newer
        });
        Ok(appended)
    }

    async fn read(&self, first: Sequence, count: usize) -> Result<Vec<Stored>, ReadError> {
        Ok(self.state().read(first, count))
    }

    async fn read_stream(
        &self,
        stream: StreamId,
        after: Revision,
    ) -> Result<Vec<Stored>, ReadError> {
        let wanted = |record: &&Stored| record.stream == stream && record.revision > after;
        Ok(self.state().records.iter().filter(wanted).cloned().collect())
    }

    async fn follow(&self, after: Sequence) -> Result<Follower, ReadError> {
        let head = Sequence(self.state().records.len() as u64);
        if after > head {
            return Err(ReadError::Regressed { asked: after, head });
        }
        let following = Following {
            at: after,
            caught_up: false,
            state: self.state.clone(),
            head: self.head.subscribe(),
        };
        Ok(futures::stream::unfold(following, Following::step).boxed())
    }

    async fn head(&self) -> Result<Sequence, ReadError> {
        Ok(Sequence(self.state().records.len() as u64))
    }

    async fn cursor(&self, name: &str) -> Result<Sequence, ReadError> {
        Ok(self.state().cursors.get(name).copied().unwrap_or_default())
    }

    async fn set_cursor(&self, name: &str, at: Sequence) -> Result<(), AppendError> {
        self.state().cursors.insert(name.to_owned(), at);
        Ok(())
    }
}

struct Following {
    at: Sequence,
    caught_up: bool,
    state: Arc<Mutex<State>>,
    head: watch::Receiver<Sequence>,
}

impl Following {
    async fn step(mut self) -> Option<(Result<Followed, ReadError>, Self)> {
        loop {
            self.head.borrow_and_update();
            let records = self.state.lock().expect("no holder panics").batch(self.at);
            if let Some(last) = records.last() {
                self.at = last.sequence;
                return Some((Ok(Followed::Records(records)), self));
            }
            if !self.caught_up {
                self.caught_up = true;
                return Some((Ok(Followed::CaughtUp(self.at)), self));
            }
            self.head.changed().await.ok()?;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::port::log::laws;

    struct InMemory;

    #[async_trait]
    impl laws::Maker for InMemory {
        async fn fresh(&self) -> Arc<dyn EventLog> {
            Arc::new(MemoryLog::default())
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn keeps_the_laws() {
        laws::all(&InMemory).await;
    }
}
