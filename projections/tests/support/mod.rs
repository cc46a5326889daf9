//! A house to tell a history in: commands are decided and appended as the real write path does.

#![allow(dead_code, unreachable_pub, reason = "each test uses a part of it")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{sync::Arc, time::Duration};

use chrono::{DateTime, TimeDelta, Utc};
pub use stapes_core::furniture::{config, target};
use stapes_core::{
    command::{Command, decide},
    config::Config,
    decision::{Context, Decision},
    furniture::{default_profile, devices, instance, node, project},
    ids::{CommitId, Epoch, OperationId, Sequence, StreamId, StreamKind},
    instance::{Create, Reconfigure, Source},
    node::Start,
    port::{
        guest::{ExitCause, Running},
        log::{Commit, EventLog, Expected, MemoryLog, Part},
    },
    record::{Actor, Body, Protocol, Record, Recorded},
    rejection::Rejection,
    task::{Outcome, Task, Work},
    world::World,
};
use stapes_projections::{Options, Views};
use uuid::Uuid;

pub const SOON: Duration = Duration::from_secs(20);

/// Whoever writes: its own world, its own clock, one log.
#[derive(Debug)]
pub struct House {
    pub log: Arc<MemoryLog>,
    pub world: World,
    /// Tasks that no node has answered yet.
    pub tasks: Vec<Task>,
    count: u64,
}

pub fn at(second: u64) -> DateTime<Utc> {
    let start = DateTime::from_timestamp(1_700_000_000, 0).unwrap();
    start + TimeDelta::seconds(i64::try_from(second).unwrap())
}

impl House {
    /// Without anything.
    pub fn empty() -> Self {
        Self { log: Arc::default(), world: World::default(), tasks: Vec::new(), count: 0 }
    }

    /// With a node, the default project and a pool.
    pub async fn new() -> Self {
        let mut house = Self::empty();
        let start = Start { cpus: 4, ..node("here") };
        house.ask(Command::StartNode(Box::new(start))).await;
        house.ask(project()).await;
        house
            .ask(Command::CreatePool {
                name: "local".to_owned(),
                driver: "btrfs".to_owned(),
                description: String::new(),
                config: Config::new(),
            })
            .await;
        house.work().await;
        let root = [("type", "disk"), ("path", "/"), ("pool", "local")];
        house.ask(default_profile(devices(&[("root", &root)]))).await;
        house
    }

    fn context(&mut self) -> Context {
        self.count += 1;
        let count = self.count.to_string();
        Context {
            commit: CommitId::derive(&[&count]),
            operation: OperationId::derive(&[&count]),
            time: at(self.count),
            actor: Actor { protocol: Protocol::Unix, name: "ann".to_owned() },
            reason: (self.count.is_multiple_of(3)).then(|| format!("because of {count}")),
            caused_by: None,
        }
    }

    /// What must be taken.
    pub async fn ask(&mut self, command: Command) -> OperationId {
        self.try_ask(&command).await.unwrap_or_else(|why| panic!("{command:?}: {why}"))
    }

    pub async fn try_ask(&mut self, command: &Command) -> Result<OperationId, Rejection> {
        let context = self.context();
        let decision = decide(&self.world, &context, command)?;
        let operation = decision.answer.operation;
        self.append(&context, decision).await;
        Ok(operation)
    }

    async fn append(&mut self, context: &Context, decision: Decision) {
        self.tasks.extend(decision.tasks.iter().cloned());
        let operation = decision.answer.operation;
        let mut parts = Vec::new();
        let mut push = |stream: StreamId, expected, prev, body| {
            let record = Record {
                id: Uuid::new_v5(&context.commit.0, parts.len().to_string().as_bytes()),
                time: context.time,
                actor: context.actor.clone(),
                operation,
                caused_by: context.caused_by,
                reason: context.reason.clone(),
                epoch: Epoch::default(),
                prev,
                body,
            };
            parts.push(Part { stream, expected, payload: record.encode() });
        };
        for (stream, events) in decision.events {
            let tail = self.world.tail(stream);
            push(stream, Expected::Exact(tail.revision), tail.digest, Body::Events(events));
        }
        for task in decision.tasks {
            let stream = StreamId::new(StreamKind::Task, task.node);
            push(stream, Expected::Any, None, Body::Task(Box::new(task)));
        }
        if parts.is_empty() {
            return;
        }
        self.log.append(Commit { id: context.commit, parts }).await.unwrap();
        let first = self.world.sequence.next();
        for stored in self.log.read(first, usize::MAX).await.unwrap() {
            self.world.apply(&Recorded::read(&stored).unwrap()).unwrap();
        }
    }

    /// The node does all that was ordered, and what follows from it.
    pub async fn work(&mut self) {
        while !self.tasks.is_empty() {
            for task in std::mem::take(&mut self.tasks) {
                let outcome = self.outcome(&task);
                self.report(task, outcome).await;
            }
        }
    }

    fn outcome(&self, task: &Task) -> Outcome {
        let now = at(self.count);
        if let Work::Start { spec, .. } = &task.work {
            return Outcome::Started(Running {
                instance: spec.instance,
                incarnation: task.incarnation,
                pid: 4711,
                started_at: now,
                frozen: false,
                held: None,
            });
        }
        if let Work::Stop { force, .. } = &task.work {
            let cause = if *force { ExitCause::Forced } else { ExitCause::GuestShutdown };
            return Outcome::Stopped { cause, at: now };
        }
        Outcome::Done
    }

    pub async fn report(&mut self, task: Task, outcome: Outcome) {
        self.ask(Command::Report(Box::new(task.report(outcome)))).await;
    }

    pub async fn create(&mut self, name: &str, pairs: &[(&str, &str)]) {
        let (config, source) = (config(pairs), Source::Empty);
        let wanted = Create { config, source, ..instance(name) };
        self.ask(Command::CreateInstance(Box::new(wanted))).await;
        self.work().await;
    }

    pub async fn start(&mut self, name: &str) {
        self.ask(Command::StartInstance { target: target(name) }).await;
        self.work().await;
    }

    pub async fn stop(&mut self, name: &str) {
        let timeout = Duration::from_secs(30);
        self.ask(Command::StopInstance { target: target(name), force: false, timeout }).await;
        self.work().await;
    }

    pub async fn configure(&mut self, name: &str, pairs: &[(&str, &str)]) {
        let wanted = Reconfigure { config: Some(config(pairs)), ..Reconfigure::default() };
        let wanted = Box::new(wanted);
        self.ask(Command::ReconfigureInstance { target: target(name), wanted }).await;
        self.work().await;
    }

    pub async fn rename(&mut self, name: &str, to: &str) {
        self.ask(Command::RenameInstance { target: target(name), to: to.to_owned() }).await;
        self.work().await;
    }

    pub async fn delete(&mut self, name: &str) {
        self.ask(Command::DeleteInstance { target: target(name), force: false }).await;
        self.work().await;
    }

    pub async fn snapshot(&mut self, name: &str, snapshot: &str) {
        let (target, name) = (target(name), Some(snapshot.to_owned()));
        self.ask(Command::CreateSnapshot { target, name, expires_at: None }).await;
        self.work().await;
    }

    pub fn head(&self) -> Sequence {
        self.world.sequence
    }

    pub fn shared_log(&self) -> Arc<dyn EventLog> {
        self.log.clone()
    }
}

/// Views that follow a log until the test is over.
#[derive(Debug)]
pub struct Followed {
    pub views: Views,
    pub task: tokio::task::JoinHandle<stapes_projections::Blocked>,
}

impl Drop for Followed {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Views that follow the log.
pub async fn run(log: Arc<dyn EventLog>, directory: Option<&std::path::Path>) -> Followed {
    let views = Views::open(directory, log, Options::default()).await.unwrap();
    let task = tokio::spawn(views.clone().run());
    Followed { views, task }
}
