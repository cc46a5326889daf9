//! Several members over one log, with everything that can happen between them.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, TimeDelta, Utc};
use stapes_core::{
    agent::Verdict,
    cluster::evacuation::{self, Act, STOP_TIMEOUT},
    command::{Command, decide},
    decision::Context,
    ids::{CommitId, InstanceId, OperationId},
    node::{Duty, FencingProof, Reach},
    operation::Class,
    port::guest::{ExitCause, Exited},
    record::Actor,
    session,
    task::{Outcome, Report, Task},
    world::World,
};
use uuid::Uuid;

use crate::{
    history::History,
    host::{Content, Fetched, Luck, wanted},
    log::Log,
    member::Member,
    random::Random,
    requests::{any_request, furniture, inhabitants},
};

const NAMES: [&str; 3] = ["one", "two", "three"];
/// A decision that loses so often is not made.
const RACES_MAX: usize = 20;
/// Turns after the faults are over: more than any evacuation has steps.
const SETTLING_MAX: usize = 400;

pub(crate) struct Members {
    pub(crate) log: Log,
    /// All that is in the log.
    pub(crate) truth: World,
    pub(crate) members: Vec<Member>,
    pub(crate) history: History,
    pub(crate) now: DateTime<Utc>,
    applied: usize,
    commits: u128,
    content: Content,
}

impl Members {
    pub(crate) fn found() -> Self {
        let mut it = Self {
            log: Log::default(),
            truth: World::default(),
            members: NAMES.map(Member::new).into(),
            history: History::default(),
            now: DateTime::UNIX_EPOCH,
            applied: 0,
            commits: 0,
            content: 0,
        };
        for command in furniture(NAMES) {
            it.members.iter_mut().for_each(|member| member.catch_up(&it.log));
            assert!(it.submit(0, &command), "{command:?} is refused");
            it.deliver_all();
        }
        for command in inhabitants() {
            assert!(it.submit(0, &command), "{command:?} is refused");
            while !it.deliver_all() {}
        }
        for instance in it.truth.instances.keys().copied().collect::<Vec<_>>() {
            it.submit(0, &Command::ReplicateInstance { instance });
            while !it.deliver_all() {}
        }
        it
    }

    /// A member decides with what it has read, and tries again with more when it lost a race.
    pub(crate) fn submit(&mut self, by: usize, command: &Command) -> bool {
        self.commits += 1;
        let commit = CommitId(Uuid::from_u128(self.commits));
        self.submit_as(by, commit, command).is_some()
    }

    /// The operation of what was decided; none: it was refused, or cannot reach the log.
    pub(crate) fn submit_as(
        &mut self,
        by: usize,
        commit: CommitId,
        command: &Command,
    ) -> Option<OperationId> {
        self.now += TimeDelta::milliseconds(1);
        let context = Context {
            commit,
            operation: OperationId(commit.0),
            time: self.now,
            actor: Actor::system(),
            reason: None,
            caused_by: None,
        };
        let member = &mut self.members[by];
        if !member.connected {
            return None;
        }
        for _ in 0..RACES_MAX {
            let decision = decide(&member.world, &context, command).ok()?;
            let operation = decision.answer.operation;
            if decision.is_empty() {
                return Some(operation);
            }
            let appended = self.log.append(&member.world, &context, decision);
            member.catch_up(&self.log);
            if appended.is_ok() {
                self.apply();
                return Some(operation);
            }
        }
        panic!("{command:?} loses for ever");
    }

    fn apply(&mut self) {
        for recorded in self.log.after(self.applied) {
            self.truth.apply(recorded).expect("it was decided");
            self.history.note(recorded, &self.members);
        }
        self.applied = self.log.len();
    }

    pub(crate) fn step(&mut self, random: &mut Random) {
        let by = random.below(self.members.len());
        self.members.iter_mut().for_each(|member| member.host.write(&mut self.content));
        let with = |what: fn(&Member) -> bool, random: &mut Random| {
            let found: Vec<_> =
                (0..self.members.len()).filter(|it| what(&self.members[*it])).collect();
            found.get(random.below(found.len().max(1))).copied().unwrap_or(by)
        };
        match random.below(48) {
            0..=8 => {
                self.read_some(by, random);
                let command = any_request(&self.truth, random);
                self.submit(by, &command);
            }
            9..=13 => self.read_some(by, random),
            14..=25 => self.perform(with(|it| !it.tasks.is_empty(), random), random),
            26..=35 => self.deliver_report(with(|it| !it.reports.is_empty(), random), random),
            36 => {
                let nth = random.below(4);
                let which = self.members[by].host.guests.keys().nth(nth).copied();
                let causes =
                    [ExitCause::GuestShutdown, ExitCause::GuestReboot, ExitCause::Signal(9)];
                self.end_guests(by, causes[random.below(3)], |it| Some(it) == which);
            }
            37 => self.deliver_exit(by, random),
            38..=40 => self.watch(by),
            41 => self.overheld(by),
            42 if random.one_in(2) => self.crash(by, random),
            43 if random.one_in(2) => self.cut_off(by, random),
            _ => self.heal(random),
        }
    }

    fn read_some(&mut self, by: usize, random: &mut Random) {
        let member = &mut self.members[by];
        if member.connected {
            member.read_some(&self.log, random);
            member.take_orders(&self.log);
        }
    }

    fn perform(&mut self, by: usize, random: &mut Random) {
        // Tasks of one subject are performed in order, those of several in any.
        let tasks = &mut self.members[by].tasks;
        let picked = random.below(tasks.len().max(1));
        let Some(subject) = tasks.get(picked).map(|task| task.subject.clone()) else { return };
        let first = tasks.iter().position(|task| task.subject == subject).unwrap_or(picked);
        let task = tasks.remove(first);
        self.perform_task(by, first, task, Some(random));
    }

    /// What was taken from that place in the queue.
    fn perform_task(&mut self, by: usize, place: usize, task: Task, mut luck: Luck<'_>) {
        let member = &mut self.members[by];
        if member.host.verdict(&task) == Verdict::Perform {
            match member.is_wanted(&self.log, &task) {
                Some(true) => {}
                Some(false) => return,
                None => {
                    member.tasks.insert(place, task);
                    return;
                }
            }
        }
        let again = luck.as_mut().is_some_and(|random| random.one_in(5));
        let fetched = self.fetch(by, &task);
        let member = &mut self.members[by];
        let report = member.host.take(&task, fetched, self.now, luck);
        // Without an answer it comes again, unless it is of the past; with one it may.
        if again || (report.is_none() && member.host.verdict(&task) != Verdict::Drop) {
            member.tasks.insert(place.min(member.tasks.len()), task);
        }
        member.reports.extend(report);
    }

    fn fetch(&mut self, by: usize, task: &Task) -> Option<Fetched> {
        let transfer = wanted(task)?;
        if self.members[by].host.verdict(task) != Verdict::Perform {
            return None;
        }
        let from = self.members.iter().position(|it| it.node == transfer.from.node)?;
        if !self.members[by].connected || !self.members[from].connected {
            return Some(Err("it does not answer"));
        }
        Some(self.members[from].host.send(task, transfer))
    }

    fn deliver_report(&mut self, by: usize, random: &mut Random) {
        if self.members[by].connected
            && let Some(report) = pick(&mut self.members[by].reports, random)
        {
            self.report(by, report);
        }
    }

    fn report(&mut self, by: usize, report: Report) {
        // The node may be ahead: a report is not judged by a world without its task.
        self.members[by].catch_up(&self.log);
        let kind = if matches!(report.outcome, Outcome::Failed(_)) { "failed" } else { "done" };
        let commit = CommitId::derive(&["report", &report.task.to_string(), kind]);
        self.submit_as(by, commit, &Command::Report(Box::new(report)));
    }

    fn end_guests(&mut self, at: usize, cause: ExitCause, which: impl Fn(InstanceId) -> bool) {
        let member = &mut self.members[at];
        let ended = member.host.end(cause, self.now, |it| which(it.instance) && it.held.is_none());
        member.exits.extend(ended);
    }

    fn deliver_exit(&mut self, by: usize, random: &mut Random) {
        if self.members[by].connected
            && let Some(exited) = pick(&mut self.members[by].exits, random)
        {
            self.submit(by, &Command::ObserveExit(exited));
        }
    }

    fn overheld(&mut self, by: usize) {
        let member = &self.members[by];
        let held = member.host.guests.values().find(|guest| guest.held.is_some()).copied();
        if let Some(held) = held {
            let node = member.node;
            self.submit(by, &Command::ObserveOverheld { node, held });
        }
    }

    /// The daemon is killed and starts again; now and then the machine does.
    fn crash(&mut self, by: usize, random: &mut Random) {
        if !self.members[by].connected {
            return;
        }
        let mut exited = std::mem::take(&mut self.members[by].exits);
        if random.one_in(3) {
            exited.extend(self.members[by].host.end(ExitCause::HostReboot, self.now, |_| true));
        }
        self.members[by].forget(&self.log);
        self.adopt(by, &exited);
    }

    fn adopt(&mut self, by: usize, exited: &[Exited]) {
        let member = &self.members[by];
        let node = member.node;
        let mut known: BTreeSet<_> = member.host.guests.keys().copied().collect();
        known.extend(member.world.instances_on(node).map(|it| it.id));
        for instance in known {
            let running = self.members[by].host.guests.get(&instance).copied();
            let exited = exited.iter().rfind(|it| it.instance == instance).copied();
            self.submit(by, &Command::ObserveAdopted { node, instance, running, exited });
        }
    }

    /// At most one at a time: with two of three the log itself would stand still.
    fn cut_off(&mut self, by: usize, random: &mut Random) {
        if self.members.iter().all(|member| member.connected) {
            self.members[by].connected = false;
        } else if random.one_in(12) {
            // They do not hear one that is there.
            let node = self.members[by].node;
            self.by_another(by, |by| Command::LoseNode { node, by });
        }
    }

    fn by_another(&mut self, than: usize, command: impl Fn(stapes_core::ids::NodeId) -> Command) {
        let other = (0..self.members.len()).find(|it| *it != than && self.members[*it].connected);
        if let Some(other) = other {
            let by = self.members[other].node;
            self.submit(other, &command(by));
        }
    }

    /// What follows when a member is cut off, one thing after the other; or it is back.
    fn heal(&mut self, random: &mut Random) {
        let Some(gone) = self.members.iter().position(|member| !member.connected) else {
            self.return_all();
            return;
        };
        let node = self.members[gone].node;
        let reach = self.truth.nodes[&node].reach;
        match (reach, random.below(10)) {
            (_, 0) => self.reconnect(gone),
            (_, 1..=4) if self.members[gone].lease => self.lose_lease(gone),
            (Reach::Online, _) => self.by_another(gone, |by| Command::LoseNode { node, by }),
            // The others wait longer than a lease.
            (Reach::Unreachable { .. }, _) if !self.members[gone].lease => {
                let proof = FencingProof::LeaseExpired;
                self.by_another(gone, |_| Command::FenceNode { node, proof });
            }
            (Reach::Unreachable { .. }, _) => {}
            (Reach::Fenced { .. }, _) => self.take_over_all(gone),
        }
    }

    /// It stops what may run elsewhere, as far as it knows.
    fn lose_lease(&mut self, at: usize) {
        self.members[at].lease = false;
        let may_run_elsewhere: BTreeSet<_> = {
            let member = &self.members[at];
            member.host.guests.keys().copied().filter(|it| member.is_ha(*it)).collect()
        };
        let cause = ExitCause::Lost;
        let ended = self.members[at]
            .host
            .end(cause, self.now, |it| may_run_elsewhere.contains(&it.instance));
        self.members[at].exits.extend(ended);
    }

    fn take_over_all(&mut self, from: usize) {
        let node = self.members[from].node;
        let due: Vec<_> = self.truth.instances_on(node).collect();
        let due = due.into_iter().filter(|it| it.replica.is_some() && it.is_ha(&self.truth));
        for instance in due.map(|it| it.id).collect::<Vec<_>>() {
            self.by_another(from, |_| Command::TakeOverInstance { instance });
        }
    }

    fn reconnect(&mut self, at: usize) {
        let member = &mut self.members[at];
        (member.connected, member.lease) = (true, true);
        member.catch_up(&self.log);
        let node = member.node;
        self.submit(at, &Command::ReturnNode { node });
        self.adopt(at, &[]);
    }

    fn return_all(&mut self) {
        for at in 0..self.members.len() {
            let node = self.members[at].node;
            if self.members[at].connected && !self.truth.nodes[&node].is_online() {
                self.submit(at, &Command::ReturnNode { node });
            }
        }
    }

    /// What a member's own watch does about its evacuation, or the end of it.
    fn watch(&mut self, by: usize) {
        let member = &mut self.members[by];
        if !member.connected {
            return;
        }
        member.catch_up(&self.log);
        let world = &member.world;
        let Some(plan) = evacuation::next(world, member.node, &member.tried) else {
            member.tried.clear();
            return;
        };
        if plan.is_over() {
            let failed = member.tried.iter().map(ToString::to_string).collect();
            let name = member.name.to_owned();
            let command = match world.nodes[&member.node].duty {
                Duty::Restoring { .. } => Command::FinishRestore { name, failed },
                Duty::Evacuating { .. } | Duty::Serving | Duty::Evacuated => {
                    Command::FinishEvacuation { name, failed }
                }
            };
            member.tried.clear();
            self.submit(by, &command);
            return;
        }
        let acts: Vec<_> = plan
            .acts
            .into_iter()
            .filter_map(|(id, act)| {
                let target = evacuation::target_of(world, world.instances.get(&id)?)?;
                Some((
                    id,
                    match act {
                        Act::Move { to, live } => Command::MoveInstance { target, to, live },
                        Act::Stop { force } => {
                            Command::StopInstance { target, force, timeout: STOP_TIMEOUT }
                        }
                        Act::Start => Command::StartInstance { target },
                    },
                ))
            })
            .collect();
        for (id, command) in acts {
            // What does not help at once is left alone: it is not the watch that is tried here.
            self.members[by].tried.insert(id);
            self.submit(by, &command);
        }
    }

    /// Everything is read, done and reported, in order, without faults.
    pub(crate) fn deliver_all(&mut self) -> bool {
        let mut idle = true;
        for at in 0..self.members.len() {
            self.members[at].catch_up(&self.log);
            self.members[at].take_orders(&self.log);
            for exited in std::mem::take(&mut self.members[at].exits) {
                idle = false;
                self.submit(at, &Command::ObserveExit(exited));
            }
            for task in std::mem::take(&mut self.members[at].tasks) {
                idle = false;
                self.perform_task(at, 0, task, None);
            }
            for report in std::mem::take(&mut self.members[at].reports) {
                idle = false;
                self.report(at, report);
            }
        }
        idle
    }

    /// The faults are over: everybody is back, and everything is done until nothing is under way.
    pub(crate) fn settle(&mut self) {
        for at in 0..self.members.len() {
            if !self.members[at].connected {
                self.reconnect(at);
            }
        }
        for at in 0..self.members.len() {
            let exited = std::mem::take(&mut self.members[at].exits);
            self.members[at].forget(&self.log);
            self.adopt(at, &exited);
        }
        for operation in self.sessions() {
            self.submit(0, &Command::EndSession { operation, how: session::End::Closed });
        }
        for _ in 0..SETTLING_MAX {
            self.return_all();
            let idle = self.deliver_all();
            (0..self.members.len()).for_each(|at| self.watch(at));
            if idle && self.truth.operations.is_empty() {
                return;
            }
        }
        panic!("never settled: {:?}", self.truth.operations);
    }

    fn sessions(&self) -> Vec<OperationId> {
        let sessions = self.truth.operations.values();
        let sessions = sessions.filter(|operation| operation.class == Class::Websocket);
        sessions.map(|operation| operation.id).collect()
    }

    /// Where each instance's guest runs, not held.
    pub(crate) fn running(&self) -> BTreeMap<InstanceId, Vec<&'static str>> {
        let mut running: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for member in &self.members {
            for guest in member.host.guests.values().filter(|guest| guest.held.is_none()) {
                running.entry(guest.instance).or_default().push(member.name);
            }
        }
        running
    }
}

/// One of them; more often than not it is then gone.
fn pick<T: Clone>(things: &mut Vec<T>, random: &mut Random) -> Option<T> {
    if things.is_empty() {
        return None;
    }
    let index = random.below(things.len());
    Some(if random.one_in(5) { things[index].clone() } else { things.swap_remove(index) })
}
