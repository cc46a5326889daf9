//! Control, log and node of one installation, with everything that can happen between them.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use chrono::{DateTime, TimeDelta, Utc};
use stapes_core::{
    command::{Command, decide},
    decision::{Context, Decision},
    furniture::{furnished, instance, network, pool, target},
    ids::{CommitId, Epoch, NodeId, OperationId, Sequence, StreamId, StreamKind},
    instance::{Create, Source, Status},
    port::{guest::Exited, log::Stored},
    record::{Actor, Body, Record, Recorded},
    session,
    task::{Report, Task},
    world::World,
};
use uuid::Uuid;

use crate::{host::Host, random::Random};

const NAMES: [&str; 4] = ["a", "b", "c", "d"];
/// Deliveries after the faults are over: more than any job has steps, for every instance.
const SETTLING_MAX: usize = 1000;

pub(crate) struct Installation {
    world: World,
    log: Vec<Stored>,
    host: Host,
    /// On their way to the node; delivered at least once, in any order.
    tasks: Vec<Task>,
    /// On their way back; likewise.
    reports: Vec<Report>,
    exits: Vec<Exited>,
    now: DateTime<Utc>,
    commits: u128,
}

impl Installation {
    pub(crate) fn found() -> Self {
        let mut installation = Self {
            world: World::default(),
            log: Vec::new(),
            host: Host::default(),
            tasks: Vec::new(),
            reports: Vec::new(),
            exits: Vec::new(),
            now: DateTime::UNIX_EPOCH,
            commits: 0,
        };
        for command in furnished("one", pool("dir", &[]), network(&[])) {
            let command_name = format!("{command:?}");
            assert!(installation.submit(&command), "{command_name} is refused");
            while let Some(task) = installation.tasks.pop() {
                // A generator that never says "one in twelve": what is founded is there.
                let report = installation.host.take(&task, installation.now, &mut Random(3));
                installation.submit(&Command::Report(Box::new(report.expect("it is new"))));
            }
        }
        installation
    }

    /// Decides, appends, applies. Whether the command was taken.
    fn submit(&mut self, command: &Command) -> bool {
        self.commits += 1;
        self.now += TimeDelta::milliseconds(1);
        let id = Uuid::from_u128(self.commits);
        let context = Context {
            commit: CommitId(id),
            operation: OperationId(id),
            time: self.now,
            actor: Actor::system(),
            reason: None,
            caused_by: None,
        };
        match decide(&self.world, &context, command) {
            Ok(decision) => {
                self.append(&context, decision);
                true
            }
            Err(_) => false,
        }
    }

    fn append(&mut self, context: &Context, decision: Decision) {
        self.tasks.extend(decision.tasks.iter().cloned());
        let events =
            decision.events.into_iter().map(|(stream, events)| (stream, Body::Events(events)));
        let tasks = decision.tasks.into_iter();
        let tasks = tasks
            .map(|task| (StreamId::new(StreamKind::Task, task.node), Body::Task(Box::new(task))));
        let bodies: Vec<_> = events.chain(tasks).collect();
        let count = bodies.len();
        for (index, (stream, body)) in bodies.into_iter().enumerate() {
            let tail = self.world.tail(stream);
            let record = Record {
                id: Uuid::new_v5(&context.commit.0, &index.to_be_bytes()),
                time: context.time,
                actor: context.actor.clone(),
                operation: decision.answer.operation,
                caused_by: None,
                reason: None,
                epoch: Epoch::default(),
                prev: if stream.kind == StreamKind::Task { None } else { tail.digest },
                body,
            };
            let stored = Stored {
                sequence: Sequence(self.log.len() as u64 + 1),
                stream,
                revision: tail.revision.next(),
                commit: context.commit,
                last_in_commit: index + 1 == count,
                payload: record.encode(),
            };
            self.world
                .apply(&Recorded::read(&stored).expect("just written"))
                .expect("just decided");
            self.log.push(stored);
        }
    }

    pub(crate) fn step(&mut self, random: &mut Random) {
        match random.below(16) {
            0..=5 => {
                let command = any_request(random);
                self.submit(&command);
            }
            6..=9 => self.deliver_task(random),
            10..=12 => self.deliver_report(random),
            13 => self.exits.extend(self.host.end_one(self.now, random)),
            14 => self.deliver_exit(random),
            _ => self.crash(random),
        }
    }

    fn deliver_task(&mut self, random: &mut Random) {
        if let Some(task) = pick(&mut self.tasks, random) {
            self.reports.extend(self.host.take(&task, self.now, random));
        }
    }

    fn deliver_report(&mut self, random: &mut Random) {
        if let Some(report) = pick(&mut self.reports, random) {
            self.submit(&Command::Report(Box::new(report)));
        }
    }

    fn deliver_exit(&mut self, random: &mut Random) {
        if let Some(exited) = pick(&mut self.exits, random) {
            self.submit(&Command::ObserveExit(exited));
        }
    }

    /// The daemon is killed, with all that was under way in it; now and then the host goes too.
    fn crash(&mut self, random: &mut Random) {
        let mut exited = std::mem::take(&mut self.exits);
        self.reports.clear();
        if random.one_in(4) {
            exited.extend(self.host.reboot(self.now));
        }
        self.world = self.replayed();
        for operation in self.sessions() {
            let how = session::End::Failed("the daemon was restarted".to_owned());
            self.submit(&Command::EndSession { operation, how });
        }
        self.adopt(&exited);
        self.tasks = self.tasks_of_the_log();
    }

    fn adopt(&mut self, exited: &[Exited]) {
        let known: Vec<_> = self.world.instances.keys().copied().collect();
        for instance in known {
            let running = self.host.guests.get(&instance).copied();
            let exited = exited.iter().rfind(|exited| exited.instance == instance).copied();
            let node = NodeId::derive(&["one"]);
            self.submit(&Command::ObserveAdopted { node, instance, running, exited });
        }
    }

    fn sessions(&self) -> Vec<OperationId> {
        let sessions = self.world.operations.values();
        let sessions = sessions
            .filter(|operation| operation.class == stapes_core::operation::Class::Websocket);
        sessions.map(|operation| operation.id).collect()
    }

    /// A cursor that was lost: every task there ever was comes again.
    fn tasks_of_the_log(&self) -> Vec<Task> {
        let read = |stored| Recorded::read(stored).expect("it was written");
        self.log.iter().map(read).filter_map(|recorded| recorded.task().cloned()).collect()
    }

    fn replayed(&self) -> World {
        let mut world = World::default();
        for stored in &self.log {
            world
                .apply(&Recorded::read(stored).expect("it was written"))
                .expect("it was applied once");
        }
        world
    }

    pub(crate) fn check_replay(&self) {
        assert_eq!(self.replayed(), self.world, "memory and log disagree");
    }

    pub(crate) fn check_safety(&self) {
        let instances = self.world.instances.values();
        let held = instances.clone().flat_map(|instance| {
            let addresses =
                instance.leases.values().filter_map(|lease| lease.ipv4).map(|ip| ip.to_string());
            addresses.chain([instance.name.clone(), instance.idmap.base.to_string()])
        });
        let mut seen = BTreeSet::new();
        for thing in held {
            assert!(seen.insert(thing.clone()), "two hold {thing}");
        }
        for instance in instances {
            if let Some(job) = &instance.job {
                assert!(!job.steps.is_empty(), "a job without steps: {job:?}");
                assert!(
                    self.world.operations.contains_key(&job.operation),
                    "a job for nobody: {job:?}"
                );
            }
        }
    }

    /// The faults are over: everything is delivered, in order, until nothing is under way.
    pub(crate) fn settle(&mut self) {
        for operation in self.sessions() {
            self.submit(&Command::EndSession { operation, how: session::End::Closed });
        }
        for exited in std::mem::take(&mut self.exits) {
            self.submit(&Command::ObserveExit(exited));
        }
        self.tasks = self.tasks_of_the_log();
        for _ in 0..SETTLING_MAX {
            if self.tasks.is_empty() && self.reports.is_empty() {
                return;
            }
            for task in std::mem::take(&mut self.tasks) {
                self.reports.extend(self.host.take(&task, self.now, &mut Random(3)));
            }
            for report in std::mem::take(&mut self.reports) {
                self.submit(&Command::Report(Box::new(report)));
            }
        }
        panic!("never settled: {:?}", self.world.operations);
    }

    pub(crate) fn check_liveness(&self) {
        assert!(
            self.world.operations.is_empty(),
            "under way for ever: {:?}",
            self.world.operations
        );
        for instance in self.world.instances.values() {
            assert!(instance.job.is_none(), "{:?}", instance.job);
            assert_ne!(instance.status, Status::Creating, "{}", instance.name);
            let guest = self.host.guests.get(&instance.id);
            assert_eq!(
                guest.is_some(),
                instance.status.is_up(),
                "{}: {:?}",
                instance.name,
                instance.status
            );
        }
        let known: BTreeSet<_> = self.world.instances.keys().map(|id| (*id).into()).collect();
        let there: BTreeSet<_> = self.host.volumes.keys().copied().collect();
        assert_eq!(known, there, "volumes are left over or missing");
        let snapshots = |(id, instance): (&_, &stapes_core::instance::Instance)| {
            let ids =
                instance.snapshots.values().map(|snapshot| snapshot.id).collect::<BTreeSet<_>>();
            (stapes_core::ids::VolumeId::from(*id), ids)
        };
        let known: BTreeMap<_, _> = self.world.instances.iter().map(snapshots).collect();
        for (volume, snapshots) in known {
            assert!(snapshots.is_subset(&self.host.volumes[&volume]), "a snapshot is missing");
        }
        let held = self
            .world
            .names
            .keys()
            .filter(|name| name.kind == stapes_core::name::NameKind::Instance)
            .count();
        assert_eq!(held, self.world.instances.len(), "names are left over");
    }
}

/// One of them; more often than not it is then gone.
fn pick<T: Clone>(things: &mut Vec<T>, random: &mut Random) -> Option<T> {
    if things.is_empty() {
        return None;
    }
    let index = random.below(things.len());
    Some(if random.one_in(4) { things[index].clone() } else { things.swap_remove(index) })
}

fn any_request(random: &mut Random) -> Command {
    let target = target(NAMES[random.below(NAMES.len())]);
    let other = NAMES[random.below(NAMES.len())].to_owned();
    let snapshot = format!("s{}", random.below(2));
    let timeout = Duration::from_secs(30);
    match random.below(18) {
        0..=3 => Command::CreateInstance(Box::new(create(
            &target.name,
            Source::Image("test".to_owned()),
            random,
        ))),
        4 => {
            let (project, name) = ("default".to_owned(), other);
            let source =
                Source::Copy { project, name, snapshot: None, instance_only: random.one_in(3) };
            Command::CreateInstance(Box::new(create(&target.name, source, random)))
        }
        5..=7 => Command::StartInstance { target },
        8 => Command::StopInstance { target, force: false, timeout },
        9 => Command::StopInstance { target, force: true, timeout },
        10 => Command::RestartInstance { target, force: random.one_in(2), timeout },
        11 if random.one_in(2) => Command::FreezeInstance { target },
        11 => Command::UnfreezeInstance { target },
        12 => Command::CreateSnapshot { target, name: Some(snapshot), expires_at: None },
        13 if random.one_in(2) => Command::DeleteSnapshot { target, name: snapshot },
        13 => Command::RestoreSnapshot { target, name: snapshot },
        14 => Command::RenameInstance { target, to: other },
        15 => Command::RebuildInstance { target, image: Some("test".to_owned()) },
        16 => Command::BeginExec { target, command: vec!["true".to_owned()] },
        _ => Command::DeleteInstance { target, force: random.one_in(2) },
    }
}

fn create(name: &str, source: Source, random: &mut Random) -> Create {
    let (ephemeral, start) = (random.one_in(6), random.one_in(2));
    Create { ephemeral, source, start, ..instance(name) }
}
