//! The executors of all nodes in one: every task that the log orders is answered at once.

use std::sync::Arc;

use futures::StreamExt;
use stapes_control::Control;
use stapes_core::{
    ids::Sequence,
    port::{
        guest::{ExitCause, Running},
        log::{EventLog, Followed},
        report::Reports,
    },
    record::Recorded,
    task::{Outcome, Report, Subject, Task, Work},
};
use tokio::sync::Semaphore;

/// Reports under way at most.
const REPORTS_MAX: usize = 64;

pub(crate) async fn answer_all(control: Control, log: Arc<dyn EventLog>) {
    let permits = Arc::new(Semaphore::new(REPORTS_MAX));
    let mut follower = log.follow(Sequence(0)).await.unwrap();
    while let Some(followed) = follower.next().await {
        let Followed::Records(records) = followed.unwrap() else { continue };
        for stored in &records {
            let recorded = Recorded::read(stored).unwrap();
            let Some(task) = recorded.task() else { continue };
            let (report, permit) = (answer(task), permits.clone().acquire_owned().await.unwrap());
            let reports = control.reports_of(task.node, "node");
            tokio::spawn(async move {
                reports.report(report).await.unwrap();
                drop(permit);
            });
        }
    }
}

fn answer(task: &Task) -> Report {
    let outcome = match (&task.work, &task.subject) {
        (Work::Start { .. }, Subject::Instance(instance)) => Outcome::Started(Running {
            instance: *instance,
            incarnation: task.incarnation,
            pid: 1,
            started_at: chrono::Utc::now(),
            frozen: false,
            held: None,
        }),
        (Work::Stop { .. }, _) => {
            Outcome::Stopped { cause: ExitCause::Forced, at: chrono::Utc::now() }
        }
        _ => Outcome::Done,
    };
    task.report(outcome)
}
