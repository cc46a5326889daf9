//! One member: its host, its daemon's half-read log, and what is on its way to and from it.

use std::collections::{BTreeMap, BTreeSet};

use stapes_core::{
    agent,
    ids::{InstanceId, NodeId, OperationId},
    port::guest::Exited,
    record::Recorded,
    task::{Report, Task},
    world::World,
};

use crate::{host::Host, log::Log, random::Random};

pub(crate) struct Member {
    pub(crate) node: NodeId,
    pub(crate) name: &'static str,
    pub(crate) host: Host,
    /// What it has read of the log.
    pub(crate) world: World,
    pub(crate) read: usize,
    /// Ordered from it, read, and not acknowledged yet.
    pub(crate) tasks: Vec<Task>,
    /// Tasks that are read are sought from here on.
    tasks_read: usize,
    /// On their way to the log; sent at least once, in any order.
    pub(crate) reports: Vec<Report>,
    pub(crate) exits: Vec<Exited>,
    /// Whether it reaches the log and the other members.
    pub(crate) connected: bool,
    /// Whether it may let run what may run elsewhere.
    pub(crate) lease: bool,
    /// What its evacuation asked for.
    pub(crate) asked: BTreeMap<InstanceId, OperationId>,
    pub(crate) tried: BTreeSet<InstanceId>,
}

impl Member {
    pub(crate) fn new(name: &'static str) -> Self {
        Self {
            node: NodeId::derive(&[name]),
            name,
            host: Host::default(),
            world: World::default(),
            read: 0,
            tasks: Vec::new(),
            tasks_read: 0,
            reports: Vec::new(),
            exits: Vec::new(),
            connected: true,
            lease: true,
            asked: BTreeMap::new(),
            tried: BTreeSet::new(),
        }
    }

    /// Reads decisions up to about that length, whole ones.
    pub(crate) fn read_to(&mut self, log: &Log, mut length: usize) {
        while !log.is_whole_at(length) {
            length += 1;
        }
        for recorded in log.after(self.read).iter().take(length.saturating_sub(self.read)) {
            self.world.apply(recorded).expect("it was decided");
        }
        self.read = self.read.max(length);
    }

    pub(crate) fn catch_up(&mut self, log: &Log) {
        self.read_to(log, log.len());
    }

    /// Some of what it has not read yet.
    pub(crate) fn read_some(&mut self, log: &Log, random: &mut Random) {
        let behind = log.len() - self.read;
        self.read_to(log, self.read + random.below(behind + 1));
    }

    pub(crate) fn take_orders(&mut self, log: &Log) {
        let tasks = log.after(self.tasks_read).iter().filter_map(Recorded::task);
        self.tasks.extend(tasks.filter(|task| task.node == self.node).cloned());
        self.tasks_read = log.len();
    }

    /// The daemon is killed: what was in its memory is gone, and every order comes again.
    pub(crate) fn forget(&mut self, log: &Log) {
        self.world = World::default();
        self.read = 0;
        self.catch_up(log);
        self.reports.clear();
        self.tasks.clear();
        self.tasks_read = 0;
        self.asked.clear();
        self.tried.clear();
    }

    /// Guests that may be started elsewhere, as far as this member knows.
    pub(crate) fn is_ha(&self, instance: InstanceId) -> bool {
        self.world.instances.get(&instance).is_some_and(|it| it.is_ha(&self.world))
    }

    /// Whether the log still wants the task; none: it cannot be asked.
    pub(crate) fn is_wanted(&mut self, log: &Log, task: &Task) -> Option<bool> {
        if !agent::asks_first(&task.work) {
            return Some(true);
        }
        if !self.connected {
            return None;
        }
        self.catch_up(log);
        Some(agent::is_wanted(&self.world, task))
    }
}
