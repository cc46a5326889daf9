//! A node that reads the log faster than control does must not have its report judged by a world
//! that lacks the task.

use std::sync::Arc;

use async_trait::async_trait;
use chrono::DateTime;
use futures::StreamExt;
use stapes_control::{Control, Request};
use stapes_core::{
    furniture,
    ids::{NodeId, Revision, Sequence, StreamId, StreamKind},
    port::{
        log::{AppendError, Appended, Commit, EventLog, Follower, MemoryLog, ReadError, Stored},
        report::Reports,
    },
    record::{Actor, Recorded},
    task::Outcome,
};
use tokio::sync::Semaphore;

/// A log whose followers get one batch a permit.
#[derive(Debug)]
struct Lagging {
    log: MemoryLog,
    gate: Arc<Semaphore>,
}

#[async_trait]
impl EventLog for Lagging {
    async fn append(&self, commit: Commit) -> Result<Appended, AppendError> {
        self.log.append(commit).await
    }
    async fn read(&self, first: Sequence, count: usize) -> Result<Vec<Stored>, ReadError> {
        self.log.read(first, count).await
    }
    async fn read_stream(
        &self,
        stream: StreamId,
        after: Revision,
    ) -> Result<Vec<Stored>, ReadError> {
        self.log.read_stream(stream, after).await
    }
    async fn follow(&self, after: Sequence) -> Result<Follower, ReadError> {
        let gate = self.gate.clone();
        let followed = self.log.follow(after).await?.then(move |followed| {
            let gate = gate.clone();
            async move {
                gate.acquire().await.expect("the gate stays").forget();
                followed
            }
        });
        Ok(followed.boxed())
    }
    async fn head(&self) -> Result<Sequence, ReadError> {
        self.log.head().await
    }
    async fn cursor(&self, name: &str) -> Result<Sequence, ReadError> {
        self.log.cursor(name).await
    }
    async fn set_cursor(&self, name: &str, at: Sequence) -> Result<(), AppendError> {
        self.log.set_cursor(name, at).await
    }
}

#[tokio::test]
async fn a_report_waits_for_the_world_to_hold_its_task() {
    let gate = Arc::new(Semaphore::new(100));
    let log = Arc::new(Lagging { log: MemoryLog::default(), gate: gate.clone() });
    let control = Control::new(log.clone());
    tokio::spawn(control.clone().follow());
    let node = NodeId::derive(&["one"]);
    control.found(furniture::node("one")).await.unwrap();

    // The gate closes: the pool's creation is in the log, and control does not know it yet.
    gate.forget_permits(gate.available_permits());
    let known = log.head().await.unwrap();
    let create = furniture::pool("dir", &[]);
    let creating = tokio::spawn({
        let control = control.clone();
        async move { control.submit(create, Request::by(Actor::system())).await }
    });
    let mut records = log.log.follow(known).await.unwrap();
    let task = loop {
        let Some(Ok(stapes_core::port::log::Followed::Records(records))) = records.next().await
        else {
            continue;
        };
        let tasks = records.iter().filter(|stored| stored.stream.kind == StreamKind::Task);
        let task = tasks.filter_map(|stored| Recorded::read(stored).ok()?.task().cloned()).next();
        break task.expect("the commit orders the pool");
    };
    let report = task.report(Outcome::Done);
    let reports = control.reports_of(node, "one");
    let reporting = tokio::spawn(async move { reports.report(report).await });
    // The report gets as far as it can before control learns of its task.
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    gate.add_permits(100);
    creating.await.unwrap().unwrap();
    reporting.await.unwrap().unwrap();
    assert!(control.world().operations.is_empty(), "the report was lost");
    assert!(
        control
            .world()
            .pools
            .values()
            .all(|pool| pool.created_at > DateTime::UNIX_EPOCH && pool.usable().is_ok())
    );
}
