//! Given what was asked and done, when a command comes, then this is decided: one helper, so that a
//! case is one line.
//!
//! A decision is told in short: the events by their types, stream by stream as in the log (without those of
//! names and of the guards), `;`, the work that is ordered. A refusal is told by its text.

use std::{collections::BTreeSet, time::Duration};

use chrono::{DateTime, TimeDelta, Utc};
use uuid::Uuid;

use crate::{
    command::{Command, decide},
    decision::{Context, Decision},
    event::Event,
    ids::{CommitId, Epoch, InstanceId, NodeId, OperationId, Sequence, StreamId, StreamKind},
    instance::{self, Create, Instance},
    operation::{self, Gain},
    port::{
        guest::{ExitCause, Exited, Mobility, Preflight, Running},
        log::Stored,
    },
    record::{Actor, Body, Record, Recorded},
    rejection::Rejection,
    server::Server,
    spec::GuestSpec,
    task::{Failure, FailureKind, Outcome, Task, Work},
    world::World,
};

pub(crate) use crate::furniture::{
    ETH0, ROOT, cluster, config, default_profile, devices, furnished, import, instance, network,
    node, pool, target,
};

/// What happened before.
#[derive(Clone, Debug)]
pub(crate) enum Given {
    /// Asked for, and taken.
    Asked(Command),
    /// The node does all that is ordered, well.
    Done,
    /// The node fails in what is ordered first.
    Failed(&'static str),
    /// What is ordered first is answered so, or well.
    Answered(Option<Outcome>),
    /// Something that no command here brings about.
    Happened(StreamId, Event),
    /// A second and a third node, where all three can be reached.
    Members,
    /// The guest ends by itself, after so many seconds.
    Ended(&'static str, ExitCause, i64),
}
pub(crate) use Given::{Answered, Asked, Done, Ended, Failed, Happened, Members};

/// A world that is decided about.
#[derive(Debug, Default)]
pub(crate) struct House {
    pub(crate) world: World,
    tasks: Vec<Task>,
    sequence: u64,
    commits: u128,
    gained: Option<Gain>,
}

/// A furnished house, then what is given; the command is decided as `then` says.
#[track_caller]
pub(crate) fn check(given: &[Given], when: Command, then: &str) {
    assert_eq!(House::after(given).decide(&when), then, "{when:?}");
}

impl House {
    /// A node, a pool, a network, a default profile with both, and an image `test`.
    pub(crate) fn furnished() -> Self {
        let mut house = Self::default();
        let pool = pool("btrfs", &[("size", "1GiB")]);
        let network = network(&[("ipv4.address", "10.0.3.1/24"), ("ipv6.address", "none")]);
        for command in furnished("test", pool, network) {
            house.take(&Asked(command));
            house.take(&Done);
        }
        house
    }

    #[track_caller]
    pub(crate) fn after(given: &[Given]) -> Self {
        let mut house = Self::furnished();
        given.iter().for_each(|given| house.take(given));
        house
    }

    #[track_caller]
    fn take(&mut self, given: &Given) {
        match given {
            Asked(command) => {
                let told = self.submit(command);
                assert!(told.is_ok(), "{command:?} is refused: {told:?}");
            }
            Done => {
                while !self.tasks.is_empty() {
                    let task = self.tasks.remove(0);
                    let outcome = self.performed(&task);
                    self.report(&task, outcome);
                }
            }
            Failed(message) => {
                let task = self.tasks.remove(0);
                let message = (*message).to_owned();
                let failure = Failure { kind: FailureKind::Failed, message };
                self.report(&task, Outcome::Failed(failure));
            }
            Answered(outcome) => {
                let task = self.tasks.remove(0);
                let outcome = outcome.clone().unwrap_or_else(|| self.performed(&task));
                self.report(&task, outcome);
            }
            Happened(stream, event) => {
                let context = self.context();
                self.commits += 1;
                let body = Body::Events(vec![event.clone()]);
                self.append(&context, context.operation, *stream, body);
            }
            Members => {
                for command in cluster(&["test", "two", "three"]) {
                    self.take(&Asked(command));
                    self.take(&Done);
                }
            }
            Ended(name, cause, after_seconds) => {
                let exited = self.exited(name, *cause, *after_seconds);
                self.take(&Asked(Command::ObserveExit(exited)));
            }
        }
    }

    fn report(&mut self, task: &Task, outcome: Outcome) {
        self.take(&Asked(Command::Report(Box::new(task.report(outcome)))));
    }

    /// What the node says of a task that went well.
    #[allow(clippy::wildcard_enum_match_arm, reason = "some kinds of work have more to say")]
    fn performed(&self, task: &Task) -> Outcome {
        match &task.work {
            Work::Start { spec, .. } => Outcome::Started(self.started(spec)),
            Work::Stop { force, .. } => {
                let cause = if *force { ExitCause::Forced } else { ExitCause::GuestShutdown };
                Outcome::Stopped { cause, at: self.now() }
            }
            Work::Assess => {
                Outcome::Assessed(Preflight { verdict: Mobility::Live, reasons: Vec::new() })
            }
            Work::Receive(_) => Outcome::Received { bytes: 4096 },
            Work::Checkpoint => Outcome::Checkpointed { at: self.now(), bytes: 1 << 20 },
            Work::Restore { spec, .. } => {
                Outcome::Restored { running: self.started(spec), bytes: 1 << 20 }
            }
            _ => Outcome::Done,
        }
    }

    fn started(&self, spec: &GuestSpec) -> Running {
        let GuestSpec { instance, incarnation, .. } = *spec;
        Running {
            instance,
            incarnation,
            pid: 42,
            started_at: self.now(),
            frozen: false,
            held: None,
        }
    }

    /// The end of an instance's guest, so long after its start.
    pub(crate) fn exited(&self, name: &str, cause: ExitCause, after_seconds: i64) -> Exited {
        let instance = self.instance(name);
        let since = instance.last_started_at.unwrap_or_default();
        let at = since + TimeDelta::seconds(after_seconds);
        Exited { instance: instance.id, incarnation: instance.guest, cause, at }
    }

    #[track_caller]
    pub(crate) fn instance(&self, name: &str) -> &Instance {
        self.world.instance("default", name).expect("the instance is there")
    }

    /// The decision in short.
    pub(crate) fn decide(&self, command: &Command) -> String {
        match decide(&self.world, &self.context(), command) {
            Ok(decision) => told(&decision),
            Err(rejection) => rejection.to_string(),
        }
    }

    /// What is decided when the first node answers, or fails, what is ordered first.
    #[track_caller]
    #[allow(clippy::wildcard_enum_match_arm, reason = "the others are no answers")]
    pub(crate) fn told_of(&mut self, given: &Given) -> String {
        let task = self.tasks.remove(0);
        let outcome = match given {
            Answered(Some(outcome)) => outcome.clone(),
            Answered(None) => self.performed(&task),
            Failed(message) => {
                let message = (*message).to_owned();
                Outcome::Failed(Failure { kind: FailureKind::Failed, message })
            }
            other => panic!("{other:?} is no answer"),
        };
        self.decide(&Command::Report(Box::new(task.report(outcome))))
    }

    /// What is decided about moves when a node is lost.
    pub(crate) fn told_of_loss(&self, name: &str) -> String {
        let context = self.context();
        let mut decision = Decision::for_context(&context);
        let lost = node(name).node;
        instance::node_gone(&self.world, &context, &mut decision, lost, instance::Gone::Lost)
            .expect("what was can be again");
        told(&decision)
    }

    /// The first instance of a house is always the same.
    pub(crate) fn named(name: &str) -> InstanceId {
        let given = [vec![Members], stopped(name, &[]).to_vec()].concat();
        Self::after(&given).instance(name).id
    }

    /// As its node sees it.
    pub(crate) fn guest(&self, name: &str) -> Running {
        let instance = self.instance(name);
        let (id, incarnation) = (instance.id, instance.guest);
        Running {
            instance: id,
            incarnation,
            pid: 42,
            started_at: self.now(),
            frozen: false,
            held: None,
        }
    }

    /// What the newest operation that ended well gave.
    pub(crate) fn gained(&self) -> Option<Gain> {
        self.gained.clone()
    }

    pub(crate) fn refusal(&self, command: &Command) -> Rejection {
        decide(&self.world, &self.context(), command).expect_err("it is refused")
    }

    fn now(&self) -> DateTime<Utc> {
        let seconds = i64::try_from(self.commits).expect("few commits");
        DateTime::from_timestamp(seconds, 0).expect("it is a time")
    }

    fn context(&self) -> Context {
        let id = Uuid::from_u128(self.commits + 1);
        Context {
            commit: CommitId(id),
            operation: OperationId(id),
            time: self.now(),
            actor: Actor::system(),
            reason: None,
            caused_by: None,
        }
    }

    /// What the placement of a new instance, or of one that moves, weighed.
    #[track_caller]
    pub(crate) fn told_placement(&self, command: &Command) -> Vec<instance::Considered> {
        let decision = decide(&self.world, &self.context(), command).expect("it is taken");
        let events = decision.events.into_iter().flat_map(|(_, events)| events);
        #[allow(clippy::wildcard_enum_match_arm, reason = "the others place nothing")]
        let weighed = events.filter_map(|event| match event {
            Event::Instance(instance::Event::Created(created)) => Some(created.placement),
            Event::Instance(instance::Event::Requested { journey, .. }) => Some(journey?.placement),
            _ => None,
        });
        weighed.flatten().collect()
    }

    /// Where the decision meets others that it may depend on, or that depend on it.
    #[track_caller]
    pub(crate) fn guards(&self, command: &Command) -> BTreeSet<StreamId> {
        let decision = decide(&self.world, &self.context(), command).expect("it is taken");
        let streams = decision.events.iter().map(|(stream, _)| *stream);
        streams.filter(|stream| is_guard(*stream)).collect()
    }

    pub(crate) fn any_context(&self) -> Context {
        self.context()
    }

    /// Asked for, and taken.
    #[track_caller]
    pub(crate) fn ask(&mut self, command: &Command) {
        self.take(&Asked(command.clone()));
    }

    /// The nodes do all that is ordered, well.
    pub(crate) fn perform_all(&mut self) {
        self.take(&Done);
    }

    /// What is ordered first is done, well.
    pub(crate) fn perform_one(&mut self) {
        let task = self.tasks.remove(0);
        let outcome = self.performed(&task);
        self.report(&task, outcome);
    }

    /// What is ordered first, and from whom.
    pub(crate) fn ordered(&self) -> (&Work, NodeId) {
        let task = self.tasks.first().expect("something is ordered");
        (&task.work, task.node)
    }

    /// Whether this node is the one that is to answer first.
    pub(crate) fn next_task_is_of(&self, node: NodeId) -> bool {
        self.tasks.first().is_some_and(|task| task.node == node)
    }

    fn submit(&mut self, command: &Command) -> Result<(), Rejection> {
        let context = self.context();
        let decision = decide(&self.world, &context, command)?;
        self.commits += 1;
        self.tasks.extend(decision.tasks.iter().cloned());
        let operation = decision.answer.operation;
        let events =
            decision.events.into_iter().map(|(stream, events)| (stream, Body::Events(events)));
        let tasks = decision
            .tasks
            .into_iter()
            .map(|task| (StreamId::new(StreamKind::Task, task.node), Body::Task(Box::new(task))));
        for (stream, body) in events.chain(tasks).collect::<Vec<_>>() {
            self.append(&context, operation, stream, body);
        }
        Ok(())
    }

    fn append(&mut self, context: &Context, operation: OperationId, stream: StreamId, body: Body) {
        if let Body::Events(events) = &body
            && let Some(Event::Operation(operation::Event::Succeeded { gain })) = events.last()
        {
            self.gained = Some(gain.clone());
        }
        let tail = self.world.tail(stream);
        self.sequence += 1;
        let record = Record {
            id: Uuid::from_u128(u128::from(self.sequence)),
            time: context.time,
            actor: context.actor.clone(),
            operation,
            caused_by: None,
            reason: None,
            epoch: Epoch::default(),
            prev: if stream.kind == StreamKind::Task { None } else { tail.digest },
            body,
        };
        let stored = Stored {
            sequence: Sequence(self.sequence),
            stream,
            revision: tail.revision.next(),
            commit: context.commit,
            last_in_commit: true,
            payload: record.encode(),
        };
        let recorded = Recorded::read(&stored).expect("just written");
        self.world.apply(&recorded).expect("just decided");
    }
}

fn is_guard(stream: StreamId) -> bool {
    Server::guards().any(|guard| guard == stream)
}

fn told(decision: &Decision) -> String {
    let told = |stream: StreamId| stream.kind != StreamKind::Name && !is_guard(stream);
    let events = decision.events.iter().filter(|(stream, _)| told(*stream));
    let events: Vec<String> = events.flat_map(|(_, events)| events).map(Event::type_name).collect();
    let works: Vec<String> = decision.tasks.iter().map(word).collect();
    match (events.is_empty(), works.is_empty()) {
        (true, true) if decision.answer.pending => "joins".to_owned(),
        (true, true) => "nothing".to_owned(),
        (_, true) => events.join(", "),
        (_, false) => format!("{}; {}", events.join(", "), works.join(", ")),
    }
}

/// `Stop { force: true, .. }` on the node `two` is `Stop!@two`; the first node is not named.
fn word(task: &Task) -> String {
    let debug = format!("{:?}", task.work);
    let name = debug.split(|c: char| !c.is_alphanumeric()).next().unwrap_or_default();
    let forced = matches!(task.work, Work::Stop { force: true, .. });
    let elsewhere = ["two", "three"].into_iter().find(|name| task.node == node(name).node);
    let place = elsewhere.map_or(String::new(), |name| format!("@{name}"));
    format!("{name}{}{place}", if forced { "!" } else { "" })
}

pub(crate) fn node_stream(name: &str) -> StreamId {
    crate::node::Node::stream(node(name).node)
}

pub(crate) fn create(wanted: Create) -> Command {
    Command::CreateInstance(Box::new(wanted))
}

/// A stopped instance with this configuration.
pub(crate) fn stopped(name: &str, pairs: &[(&str, &str)]) -> [Given; 2] {
    [Asked(create(Create { config: config(pairs), ..instance(name) })), Done]
}

/// A running one.
pub(crate) fn running(name: &str, pairs: &[(&str, &str)]) -> [Given; 2] {
    [Asked(create(Create { config: config(pairs), start: true, ..instance(name) })), Done]
}

pub(crate) fn start(name: &str) -> Command {
    Command::StartInstance { target: target(name) }
}

pub(crate) fn stop(name: &str, force: bool) -> Command {
    Command::StopInstance { target: target(name), force, timeout: Duration::from_secs(30) }
}

pub(crate) fn restart(name: &str, force: bool) -> Command {
    Command::RestartInstance { target: target(name), force, timeout: Duration::from_secs(30) }
}

pub(crate) fn delete(name: &str, force: bool) -> Command {
    Command::DeleteInstance { target: target(name), force }
}

pub(crate) fn snapshot(name: &str, snapshot: &str) -> Command {
    let name_of_it = Some(snapshot.to_owned());
    Command::CreateSnapshot { target: target(name), name: name_of_it, expires_at: None }
}
