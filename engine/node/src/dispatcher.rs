//! From the queue of this node's tasks to the subjects' queues.
//!
//! Tasks of one subject are performed in order, subjects side by side. A worker gives each task to be
//! [settled](crate::settling) after its report is durable.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use futures::StreamExt;
use stapes_core::{
    ids::Sequence,
    port::{guest::Exited, log::ReadError, queue::Delivery},
    record::{Body, Record},
    task::{Subject, Task},
};
use tokio::sync::{Semaphore, mpsc};

use crate::{executor::Executor, subject};

/// Requests that wait for one subject at most.
const QUEUE_MAX: usize = 64;
/// Between two questions to a queue that does not answer.
const ASK_AGAIN: Duration = Duration::from_millis(500);
/// Tasks performed at once at most.
const PARALLEL_MAX: usize = 64;

/// What a subject's queue holds.
#[derive(Debug)]
pub(crate) enum Request {
    Perform { sequence: Sequence, task: Box<Task> },
    Observe(Exited),
}

/// What the queues tell the dispatcher.
#[derive(Debug)]
pub(crate) enum Notice {
    /// The queue is empty and its worker would go.
    Idle(Subject),
}

pub(crate) struct Dispatcher {
    executor: Executor,
    queues: BTreeMap<Subject, mpsc::Sender<Request>>,
    notices: mpsc::UnboundedReceiver<Notice>,
    notify: mpsc::UnboundedSender<Notice>,
    permits: Arc<Semaphore>,
}

impl Dispatcher {
    pub(crate) fn new(executor: Executor) -> Self {
        // Bounded by the queues: a notice each while it is idle.
        let (notify, notices) = mpsc::unbounded_channel();
        let permits = Arc::new(Semaphore::new(PARALLEL_MAX));
        Self { executor, queues: BTreeMap::new(), notices, notify, permits }
    }

    pub(crate) async fn run(mut self) -> Result<(), ReadError> {
        self.forget().await?;
        let tasks = self.executor.tasks.clone();
        let mut deliveries = when_heard(|| tasks.deliver()).await?;
        let mut exits = self.executor.drivers.guests.exits();
        loop {
            tokio::select! {
                delivery = deliveries.next() => match delivery {
                    Some(delivery) => self.take(delivery?).await?,
                    None => return Ok(()),
                },
                Some(exited) = exits.next() => {
                    let subject = Subject::Instance(exited.instance);
                    self.send(subject, Request::Observe(exited)).await;
                }
                Some(notice) = self.notices.recv() => {
                    self.note(notice);
                    if self.executor.memory.is_full() {
                        self.forget().await?;
                    }
                }
            }
        }
    }

    /// What came of tasks that never come again is of no use.
    async fn forget(&self) -> Result<(), ReadError> {
        let done = when_heard(|| self.executor.tasks.done()).await?;
        if let Err(error) = self.executor.memory.forget_until(done) {
            tracing::warn!(%error, "old outcomes are not forgotten");
        }
        Ok(())
    }

    async fn take(&mut self, delivery: Delivery) -> Result<(), ReadError> {
        let sequence = delivery.sequence;
        let record = Record::decode(&delivery.payload).map_err(|cause| {
            ReadError::Corrupt(format!("task {sequence} was written by another version: {cause}"))
        })?;
        match record.body {
            Body::Task(task) => {
                let subject = task.subject.clone();
                self.send(subject, Request::Perform { sequence, task }).await;
                Ok(())
            }
            Body::Events(_) => {
                Err(ReadError::Corrupt(format!("record {sequence} was to be a task and is none")))
            }
        }
    }

    /// Queues the request; a queue that is full makes the log wait.
    async fn send(&mut self, subject: Subject, request: Request) {
        let queue = self.queues.entry(subject.clone()).or_insert_with(|| {
            let (sender, receiver) = mpsc::channel(QUEUE_MAX);
            let worker = subject::Worker {
                executor: self.executor.clone(),
                subject,
                requests: receiver,
                notify: self.notify.clone(),
                permits: self.permits.clone(),
            };
            tokio::spawn(worker.run());
            sender
        });
        if queue.send(request).await.is_err() {
            tracing::error!("a subject's worker is gone");
        }
    }

    fn note(&mut self, notice: Notice) {
        match notice {
            // Dropping the sender ends the worker, unless something came in meanwhile.
            Notice::Idle(subject) => {
                if self.queues.get(&subject).is_some_and(|queue| queue.capacity() == QUEUE_MAX) {
                    self.queues.remove(&subject);
                }
            }
        }
    }
}

/// Asks the queue until it answers: its servers may be choosing a leader just now.
async fn when_heard<T, F>(ask: impl Fn() -> F) -> Result<T, ReadError>
where
    F: Future<Output = Result<T, ReadError>>,
{
    loop {
        match ask().await {
            Err(ReadError::Unavailable(why)) => {
                tracing::warn!(%why, "the queue of tasks is not heard; asking again");
                tokio::time::sleep(ASK_AGAIN).await;
            }
            answered => return answered,
        }
    }
}
