//! From the log to the subjects' queues, and the cursor behind them.
//!
//! Tasks of one subject are performed in order, subjects side by side. The cursor stands before the
//! oldest task that is not done with, so a restart sees that task again.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use futures::StreamExt;
use stapes_core::{
    ids::{Sequence, StreamId, StreamKind},
    port::{
        guest::Exited,
        log::{Followed, ReadError, Stored},
    },
    record::Recorded,
    task::{Subject, Task},
};
use tokio::sync::{Semaphore, mpsc};

use crate::{executor::Executor, subject};

/// Requests that wait for one subject at most.
const QUEUE_MAX: usize = 64;
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
    /// The task is done with: reported, or dropped.
    Over(Sequence),
    /// The queue is empty and its worker would go.
    Idle(Subject),
}

pub(crate) struct Dispatcher {
    executor: Executor,
    queues: BTreeMap<Subject, mpsc::Sender<Request>>,
    notices: mpsc::UnboundedReceiver<Notice>,
    notify: mpsc::UnboundedSender<Notice>,
    under_way: BTreeSet<Sequence>,
    seen: Sequence,
    permits: Arc<Semaphore>,
}

impl Dispatcher {
    pub(crate) fn new(executor: Executor) -> Self {
        // Bounded by the tasks under way: a notice each, and one for each queue.
        let (notify, notices) = mpsc::unbounded_channel();
        let permits = Arc::new(Semaphore::new(PARALLEL_MAX));
        Self {
            executor,
            queues: BTreeMap::new(),
            notices,
            notify,
            under_way: BTreeSet::new(),
            seen: Sequence(0),
            permits,
        }
    }

    pub(crate) async fn run(mut self) -> Result<(), ReadError> {
        let cursor = self.executor.cursor();
        self.seen = self.executor.log.cursor(&cursor).await?;
        if let Err(error) = self.executor.memory.forget_until(self.seen) {
            tracing::warn!(%error, "old outcomes are not forgotten");
        }
        let mut records = self.executor.log.follow(self.seen).await?;
        let mut exits = self.executor.drivers.guests.exits();
        let mut saved = self.seen;
        loop {
            tokio::select! {
                followed = records.next() => match followed {
                    Some(Ok(Followed::Records(records))) => self.take(&records).await?,
                    Some(Ok(Followed::CaughtUp(_))) => {}
                    Some(Err(error)) => return Err(error),
                    None => return Ok(()),
                },
                Some(exited) = exits.next() => {
                    let subject = Subject::Instance(exited.instance);
                    self.send(subject, Request::Observe(exited)).await;
                }
                Some(notice) = self.notices.recv() => self.note(notice),
            }
            let done = self.under_way.first().map_or(self.seen, |oldest| Sequence(oldest.0 - 1));
            if done > saved {
                saved = done;
                if let Err(error) = self.executor.log.set_cursor(&cursor, done).await {
                    tracing::warn!(%error, "the cursor is not moved; tasks will come again after a restart");
                }
            }
        }
    }

    async fn take(&mut self, records: &[Stored]) -> Result<(), ReadError> {
        let mine = StreamId::new(StreamKind::Task, self.executor.config.node);
        for stored in records {
            if stored.stream == mine {
                let recorded = Recorded::read(stored)
                    .map_err(|error| ReadError::Corrupt(error.to_string()))?;
                if let Some(task) = recorded.task() {
                    self.under_way.insert(stored.sequence);
                    let request = Request::Perform {
                        sequence: stored.sequence,
                        task: Box::new(task.clone()),
                    };
                    self.send(task.subject.clone(), request).await;
                }
            }
            self.seen = stored.sequence;
        }
        Ok(())
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
            Notice::Over(sequence) => {
                self.under_way.remove(&sequence);
            }
            // Dropping the sender ends the worker, unless something came in meanwhile.
            Notice::Idle(subject) => {
                if self.queues.get(&subject).is_some_and(|queue| queue.capacity() == QUEUE_MAX) {
                    self.queues.remove(&subject);
                }
            }
        }
    }
}
