//! The queue of a node's tasks on any event log, with a durable cursor behind it.
//!
//! The cursor stands before the oldest task that is not done with, so a restart sees that task again.

use std::{collections::BTreeSet, sync::Arc};

use async_trait::async_trait;
use futures::{StreamExt, TryStreamExt};
use stapes_core::{
    ids::{NodeId, Sequence, StreamId, StreamKind},
    port::{
        log::{AppendError, EventLog, Followed, ReadError},
        queue::{Deliveries, Delivery, Tasks},
    },
};
use tokio::sync::Mutex;

/// A node's tasks in a log. To be made once a process.
#[derive(Clone, Debug)]
pub struct LogTasks {
    log: Arc<dyn EventLog>,
    stream: StreamId,
    cursor: String,
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    under_way: BTreeSet<Sequence>,
    seen: Sequence,
    saved: Sequence,
}

impl LogTasks {
    #[must_use]
    pub fn new(log: Arc<dyn EventLog>, node: NodeId) -> Self {
        let stream = StreamId::new(StreamKind::Task, node);
        Self { log, stream, cursor: format!("node-{}", node.0.simple()), state: Arc::default() }
    }

    /// The tasks among what the log brought.
    async fn take(&self, followed: Followed) -> Vec<Delivery> {
        let Followed::Records(records) = followed else { return Vec::new() };
        let mut state = self.state.lock().await;
        let mut tasks = Vec::new();
        for record in records {
            state.seen = record.sequence;
            if record.stream == self.stream {
                state.under_way.insert(record.sequence);
                tasks.push(Delivery { sequence: record.sequence, payload: record.payload });
            }
        }
        self.save_or_warn(&mut state).await;
        tasks
    }

    /// Moves the cursor as far as all is done with.
    async fn save(&self, state: &mut State) -> Result<(), AppendError> {
        let oldest = state.under_way.first();
        let done = oldest.map_or(state.seen, |oldest| Sequence(oldest.0 - 1));
        if done <= state.saved {
            return Ok(());
        }
        state.saved = done;
        self.log.set_cursor(&self.cursor, done).await
    }

    async fn save_or_warn(&self, state: &mut State) {
        if let Err(error) = self.save(state).await {
            tracing::warn!(%error, "the cursor is not moved; tasks will come again after a restart");
        }
    }
}

#[async_trait]
impl Tasks for LogTasks {
    async fn done(&self) -> Result<Sequence, ReadError> {
        self.log.cursor(&self.cursor).await
    }

    async fn deliver(&self) -> Result<Deliveries, ReadError> {
        let cursor = self.log.cursor(&self.cursor).await?;
        let followed = self.log.follow(cursor).await?;
        *self.state.lock().await =
            State { under_way: BTreeSet::new(), seen: cursor, saved: cursor };
        let tasks = self.clone();
        let batches = followed.and_then(move |followed| {
            let tasks = tasks.clone();
            async move { Ok(futures::stream::iter(tasks.take(followed).await.into_iter().map(Ok))) }
        });
        Ok(batches.try_flatten().boxed())
    }

    async fn acknowledge(&self, task: Sequence) -> Result<(), AppendError> {
        let mut state = self.state.lock().await;
        state.under_way.remove(&task);
        self.save(&mut state).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use stapes_core::port::{log::MemoryLog, queue::laws};

    struct OnLogs;

    #[async_trait]
    impl laws::Maker for OnLogs {
        async fn log(&self) -> Arc<dyn EventLog> {
            Arc::new(MemoryLog::default())
        }

        async fn tasks(&self, log: &Arc<dyn EventLog>, node: NodeId) -> Arc<dyn Tasks> {
            Arc::new(LogTasks::new(log.clone(), node))
        }
    }

    #[tokio::test]
    async fn keeps_the_laws() {
        laws::all(&OnLogs).await;
    }
}
