//! One subject's worker: its requests one after the other. A forced stop does not wait for a clean
//! one that is under way.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use stapes_core::{
    agent::{Verdict, answer, judge},
    ids::Sequence,
    port::guest::{Exited, Running},
    task::{Observation, Outcome, Subject, Task, Work},
};
use tokio::sync::{Semaphore, mpsc};

use crate::{
    dispatcher::{Notice, Request},
    executor::Executor,
    perform::perform,
};

/// How long a worker waits for another request before it offers to go.
const IDLE_MAX: Duration = Duration::from_secs(10);

pub(crate) struct Worker {
    pub(crate) executor: Executor,
    pub(crate) subject: Subject,
    pub(crate) requests: mpsc::Receiver<Request>,
    pub(crate) notify: mpsc::UnboundedSender<Notice>,
    pub(crate) permits: Arc<Semaphore>,
}

impl Worker {
    pub(crate) async fn run(mut self) {
        let mut waiting = VecDeque::new();
        while let Some(request) = self.next(&mut waiting).await {
            match request {
                Request::Perform { sequence, task } => {
                    self.take(sequence, &task, &mut waiting).await;
                    self.executor.settling.note(sequence);
                }
                Request::Observe(exited) => self.observe(exited).await,
            }
        }
    }

    async fn next(&mut self, waiting: &mut VecDeque<Request>) -> Option<Request> {
        if let Some(request) = waiting.pop_front() {
            return Some(request);
        }
        loop {
            match tokio::time::timeout(IDLE_MAX, self.requests.recv()).await {
                Ok(request) => return request,
                Err(_) => {
                    let _ = self.notify.send(Notice::Idle(self.subject.clone()));
                }
            }
        }
    }

    async fn take(&mut self, sequence: Sequence, task: &Task, waiting: &mut VecDeque<Request>) {
        while waiting.len() < 64
            && let Ok(request) = self.requests.try_recv()
        {
            waiting.push_back(request);
        }
        if task.work.prepares() && waiting.iter().any(|request| follows(request, task)) {
            tracing::debug!(task = %task.id, "overtaken while it waited");
            return;
        }
        let performed = self.executor.memory.performed(&self.subject);
        let last = performed.as_ref().map(|performed| performed.incarnation);
        match judge(task.incarnation, last) {
            Verdict::Drop => tracing::debug!(task = %task.id, "overtaken, dropped"),
            Verdict::Answer => {
                if let Some(performed) = performed {
                    let running = self.running().await;
                    self.report(task, answer(task.incarnation, performed.outcome, running)).await;
                }
            }
            Verdict::Perform => {
                if !self.executor.is_wanted(task).await {
                    tracing::info!(task = %task.id, "overtaken while the node was away");
                    return;
                }
                tracing::debug!(task = %task.id, %sequence, subject = ?self.subject, "performing");
                let Some(outcome) = self.perform(task, waiting).await else { return };
                let remembered = self.executor.memory.set_performed(
                    &self.subject,
                    task.incarnation,
                    outcome.clone(),
                    sequence,
                );
                if let Err(error) = remembered {
                    tracing::error!(%error, "what was performed cannot be remembered");
                }
                self.report(task, outcome).await;
            }
        }
    }

    /// Performs the task; `None` when a forced stop overtook it.
    async fn perform(&mut self, task: &Task, waiting: &mut VecDeque<Request>) -> Option<Outcome> {
        let permits = self.permits.clone();
        // Waiting for a guest to shut down uses nothing; it must not keep others from working.
        let _permit = if stops_cleanly(task) { None } else { permits.acquire().await.ok() };
        let work = perform(&self.executor, task);
        tokio::pin!(work);
        loop {
            tokio::select! {
                outcome = &mut work => return Some(outcome),
                Some(request) = self.requests.recv(), if waiting.len() < 64 => {
                    let overtaken = overtakes(&request, task);
                    waiting.push_back(request);
                    if overtaken {
                        return None;
                    }
                }
            }
        }
    }

    async fn running(&self) -> Option<Running> {
        self.executor.drivers.guests.running(self.subject.instance()?).await
    }

    async fn report(&self, task: &Task, outcome: Outcome) {
        let report = task.report(outcome);
        self.executor.insist("task", || self.executor.reports.report(report.clone())).await;
    }

    async fn observe(&self, exited: Exited) {
        self.executor
            .insist("exit", || self.executor.reports.observe(Observation::Exited(exited)))
            .await;
    }
}

fn stops_cleanly(task: &Task) -> bool {
    matches!(task.work, Work::Stop { force: false, .. })
}

fn follows(request: &Request, earlier: &Task) -> bool {
    let Request::Perform { task, .. } = request else { return false };
    task.incarnation > earlier.incarnation
}

fn overtakes(request: &Request, under_way: &Task) -> bool {
    let Request::Perform { task, .. } = request else { return false };
    let kills = stops_cleanly(under_way) && matches!(task.work, Work::Stop { force: true, .. });
    (kills || matches!(under_way.work, Work::Receive(_))) && follows(request, under_way)
}
