//! The queue in memory: what is done with is forgotten with the process. For tests and the simulator.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, MutexGuard},
};

use async_trait::async_trait;
use futures::{StreamExt, TryStreamExt};

use super::{Deliveries, Delivery, Tasks};
use crate::{
    ids::{NodeId, Sequence, StreamId, StreamKind},
    port::log::{AppendError, EventLog, Followed, ReadError},
};

/// The tasks of a node in a log; clones share what is done with.
#[derive(Clone, Debug)]
pub struct MemoryTasks {
    log: Arc<dyn EventLog>,
    stream: StreamId,
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    ordered: BTreeSet<Sequence>,
    done: BTreeSet<Sequence>,
}

impl MemoryTasks {
    #[must_use]
    pub fn new(log: Arc<dyn EventLog>, node: NodeId) -> Self {
        Self { log, stream: StreamId::new(StreamKind::Task, node), state: Arc::default() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no holder panics")
    }

    /// Those of the records that are to be delivered.
    fn wanted(&self, followed: Followed) -> Vec<Delivery> {
        let Followed::Records(records) = followed else { return Vec::new() };
        let mut state = self.state();
        let mut wanted = Vec::new();
        for record in records.into_iter().filter(|record| record.stream == self.stream) {
            state.ordered.insert(record.sequence);
            if !state.done.contains(&record.sequence) {
                wanted.push(Delivery { sequence: record.sequence, payload: record.payload });
            }
        }
        wanted
    }
}

#[async_trait]
impl Tasks for MemoryTasks {
    async fn done(&self) -> Result<Sequence, ReadError> {
        let state = self.state();
        let prefix = state.ordered.iter().take_while(|task| state.done.contains(task));
        Ok(prefix.last().copied().unwrap_or_default())
    }

    async fn deliver(&self) -> Result<Deliveries, ReadError> {
        let tasks = self.clone();
        let batches = self.log.follow(Sequence(0)).await?.map_ok(move |followed| {
            futures::stream::iter(tasks.wanted(followed).into_iter().map(Ok))
        });
        Ok(batches.try_flatten().boxed())
    }

    async fn acknowledge(&self, task: Sequence) -> Result<(), AppendError> {
        self.state().done.insert(task);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::port::{log::MemoryLog, queue::laws};

    struct InMemory;

    #[async_trait]
    impl laws::Maker for InMemory {
        async fn log(&self) -> Arc<dyn EventLog> {
            Arc::new(MemoryLog::default())
        }

        async fn tasks(&self, log: &Arc<dyn EventLog>, node: NodeId) -> Arc<dyn Tasks> {
            Arc::new(MemoryTasks::new(log.clone(), node))
        }

        async fn reopen(
            &self,
            before: Arc<dyn Tasks>,
            _: &Arc<dyn EventLog>,
            _: NodeId,
        ) -> Arc<dyn Tasks> {
            before
        }
    }

    #[tokio::test]
    async fn keeps_the_laws() {
        laws::all(&InMemory).await;
    }
}
