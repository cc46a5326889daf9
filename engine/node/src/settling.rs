//! Tasks are done with when what was done for them is on the disk.
//!
//! A report is durable on the log at once; the volumes and the node's own files reach the disk within
//! seconds, because waiting for it takes longer than most tasks. So tasks are acknowledged together,
//! after a flush. After a loss of power those that were not come again, and what is missing of their
//! work is done again.

use std::{
    collections::BTreeSet,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures::StreamExt;
use stapes_core::{ids::Sequence, port::DriverError};
use tokio::sync::Notify;

use crate::executor::Executor;

/// How long a task waits for the flush, at most.
const WAIT_MAX: Duration = Duration::from_secs(5);
/// So many do not wait so long.
const WAITING_MAX: usize = 1024;
/// Acknowledgements on their way at once, oldest first.
const PARALLEL_MAX: usize = 64;

/// The tasks that were performed and reported, and wait for the disk.
#[derive(Debug, Default)]
pub(crate) struct Settling {
    waiting: Mutex<BTreeSet<Sequence>>,
    noted: Notify,
}

impl Settling {
    /// The task is done with after the next flush.
    pub(crate) fn note(&self, task: Sequence) {
        self.waiting().insert(task);
        self.noted.notify_one();
    }

    /// Flushes and acknowledges for as long as it is polled.
    pub(crate) async fn run(&self, executor: &Executor) -> ! {
        loop {
            self.hold(1).await;
            let _many_or_late = tokio::time::timeout(WAIT_MAX, self.hold(WAITING_MAX)).await;
            let tasks = std::mem::take(&mut *self.waiting());
            match flush(executor).await {
                Ok(()) => acknowledge(executor, tasks).await,
                Err(error) => {
                    tracing::warn!(%error, "not on the disk yet; flushed again soon");
                    self.waiting().extend(tasks);
                    tokio::time::sleep(WAIT_MAX).await;
                }
            }
        }
    }

    /// Until so many wait.
    async fn hold(&self, count: usize) {
        while self.waiting().len() < count {
            self.noted.notified().await;
        }
    }

    fn waiting(&self) -> MutexGuard<'_, BTreeSet<Sequence>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn flush(executor: &Executor) -> Result<(), DriverError> {
    let remembered = executor.memory.sync();
    remembered.map_err(|error| DriverError::Failed(format!("the node's memory: {error}")))?;
    executor.drivers.storage.flush().await
}

async fn acknowledge(executor: &Executor, tasks: BTreeSet<Sequence>) {
    let acknowledge = async |task: Sequence| {
        if let Err(error) = executor.tasks.acknowledge(task).await {
            tracing::warn!(%task, %error, "not acknowledged; it will come again after a restart");
        }
    };
    futures::stream::iter(tasks).map(acknowledge).buffered(PARALLEL_MAX).count().await;
}
