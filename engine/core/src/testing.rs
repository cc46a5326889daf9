//! Given what was asked and done, when a command comes, then this is decided: one helper, so that a
//! case is one line.
//!
//! A decision is told in short: the events by their types, stream by stream as in the log (without those of
//! names), `;`, the work that is ordered. A refusal is told by its text.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use uuid::Uuid;

use crate::{
    command::{Command, decide},
    config::{Config, Devices},
    decision::{Context, Decision},
    ids::{CommitId, Epoch, Fingerprint, NodeId, OperationId, Sequence, StreamId, StreamKind},
    image::Import,
    instance::{Create, Instance, Source, Target},
    network,
    node::Start,
    port::{
        guest::{ExitCause, Exited, Running},
        image::{ImageFacts, ImageKind},
        log::Stored,
    },
    profile::Wanted,
    record::{Actor, Body, Record, Recorded},
    rejection::Rejection,
    task::{Failure, FailureKind, Outcome, Report, Task, Work},
    world::World,
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
    /// The guest ends by itself, after so many seconds.
    Ended(&'static str, ExitCause, i64),
}
pub(crate) use Given::{Asked, Done, Ended, Failed};

/// A world that is decided about.
#[derive(Debug, Default)]
pub(crate) struct House {
    pub(crate) world: World,
    tasks: Vec<Task>,
    sequence: u64,
    commits: u128,
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
        for command in furniture() {
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
            Ended(name, cause, after_seconds) => {
                let exited = self.exited(name, *cause, *after_seconds);
                self.take(&Asked(Command::ObserveExit(exited)));
            }
        }
    }

    fn report(&mut self, task: &Task, outcome: Outcome) {
        let Task { id, node, operation, subject, incarnation, .. } = task.clone();
        let report = Report { task: id, node, operation, subject, incarnation, outcome };
        self.take(&Asked(Command::Report(Box::new(report))));
    }

    /// What the node says of a task that went well.
    #[allow(clippy::wildcard_enum_match_arm, reason = "two kinds of work have more to say")]
    fn performed(&self, task: &Task) -> Outcome {
        match &task.work {
            Work::Start { spec, .. } => Outcome::Started(Running {
                instance: spec.instance,
                incarnation: spec.incarnation,
                pid: 42,
                started_at: self.now(),
                frozen: false,
                held: None,
            }),
            Work::Stop { force, .. } => {
                let cause = if *force { ExitCause::Forced } else { ExitCause::GuestShutdown };
                Outcome::Stopped { cause, at: self.now() }
            }
            _ => Outcome::Done,
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

fn told(decision: &Decision) -> String {
    let events = decision.events.iter().filter(|(stream, _)| stream.kind != StreamKind::Name);
    let events: Vec<String> =
        events.flat_map(|(_, events)| events).map(crate::event::Event::type_name).collect();
    let works: Vec<String> = decision.tasks.iter().map(|task| word(&task.work)).collect();
    match (events.is_empty(), works.is_empty()) {
        (true, true) if decision.answer.pending => "joins".to_owned(),
        (true, true) => "nothing".to_owned(),
        (_, true) => events.join(", "),
        (_, false) => format!("{}; {}", events.join(", "), works.join(", ")),
    }
}

/// `Stop { force: true, .. }` is `stop!`.
fn word(work: &Work) -> String {
    let debug = format!("{work:?}");
    let name = debug.split(|c: char| !c.is_alphanumeric()).next().unwrap_or_default();
    let forced = matches!(work, Work::Stop { force: true, .. });
    format!("{}{}", name, if forced { "!" } else { "" })
}

pub(crate) fn config(pairs: &[(&str, &str)]) -> Config {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

pub(crate) fn devices(all: &[(&str, &[(&str, &str)])]) -> Devices {
    all.iter().map(|(name, pairs)| ((*name).to_owned(), config(pairs))).collect()
}

pub(crate) fn target(name: &str) -> Target {
    Target { project: "default".to_owned(), name: name.to_owned() }
}

/// An instance of the image, not yet asked for.
pub(crate) fn instance(name: &str) -> Create {
    Create {
        project: "default".to_owned(),
        name: name.to_owned(),
        kind: ImageKind::Container,
        ephemeral: false,
        description: String::new(),
        config: Config::new(),
        devices: Devices::new(),
        profiles: None,
        source: Source::Image("test".to_owned()),
        start: false,
    }
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

pub(crate) fn default_profile(devices: Devices) -> Command {
    let (project, name) = ("default".to_owned(), "default".to_owned());
    let wanted = Box::new(Wanted { devices, ..Wanted::default() });
    Command::ConfigureProfile { project, name, wanted, expected: None }
}

pub(crate) const ROOT: (&str, &[(&str, &str)]) =
    ("root", &[("type", "disk"), ("path", "/"), ("pool", "default")]);
pub(crate) const ETH0: (&str, &[(&str, &str)]) =
    ("eth0", &[("type", "nic"), ("network", "stapesbr0")]);

fn furniture() -> [Command; 6] {
    let text = str::to_owned;
    let node = Start {
        node: NodeId::derive(&["test"]),
        name: text("test"),
        architecture: text("x86_64"),
        cpus: 2,
        memory_bytes: 8 << 30,
        boot: Uuid::nil(),
        version: text("0"),
    };
    let facts = ImageFacts {
        fingerprint: Fingerprint::new("ab".repeat(32)).expect("64 digits"),
        size_bytes: 1,
        kind: ImageKind::Container,
        architecture: text("x86_64"),
        created_at: DateTime::UNIX_EPOCH,
        expires_at: None,
        properties: Config::new(),
        split: false,
        filename: text("test.tar"),
    };
    let import = Import {
        project: text("default"),
        facts,
        properties: Config::new(),
        public: false,
        auto_update: false,
        profiles: Vec::new(),
        aliases: vec![(text("test"), String::new())],
    };
    let network = network::Create {
        project: text("default"),
        name: text("stapesbr0"),
        config: config(&[("ipv4.address", "10.0.3.1/24"), ("ipv6.address", "none")]),
        ..network::Create::default()
    };
    [
        Command::CreateProject {
            name: text("default"),
            description: String::new(),
            config: Config::new(),
        },
        Command::StartNode(Box::new(node)),
        Command::CreatePool {
            name: text("default"),
            driver: text("btrfs"),
            description: String::new(),
            config: config(&[("size", "1GiB")]),
        },
        Command::CreateNetwork(Box::new(network)),
        default_profile(devices(&[ROOT, ETH0])),
        Command::ImportImage(Box::new(import)),
    ]
}
