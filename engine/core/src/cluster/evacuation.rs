//! Emptying a member and bringing back what it had: what is to be done next, from the world alone.
//!
//! ```text
//! evacuate ─► (a few moves at a time) ─► nothing is left, or what is left failed ─► finish
//! ```
//!
//! The member itself asks for the moves, so that one asks and not all. It may forget what it asked
//! for: the next step follows from where the instances are.

use std::{collections::BTreeSet, time::Duration};

use crate::{
    config::Devices,
    ids::{InstanceId, NodeId},
    instance::{self, Instance, LivePolicy, Status, Target},
    node::{Duty, Evacuation, Node},
    table::Table,
    world::World,
};

/// Moves under way at once.
pub const AT_ONCE: usize = 3;
/// A guest that is stopped cleanly has so long.
pub const STOP_TIMEOUT: Duration = Duration::from_secs(60);

/// What is to be asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Act {
    /// To this member, or to any other.
    Move {
        to: Option<String>,
        live: LivePolicy,
    },
    Stop {
        force: bool,
    },
    Start,
}

/// What comes next.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    pub acts: Vec<(InstanceId, Act)>,
    /// Instances with something under way.
    pub busy: usize,
}

impl Plan {
    #[must_use]
    pub const fn is_over(&self) -> bool {
        self.acts.is_empty() && self.busy == 0
    }

    fn add(&mut self, instance: &Instance, act: Option<Act>) {
        if instance.job.is_some() {
            self.busy += 1;
        } else if let Some(act) = act {
            self.acts.push((instance.id, act));
        }
    }

    fn at_once(mut self) -> Self {
        self.acts.truncate(AT_ONCE.saturating_sub(self.busy));
        self
    }
}

/// How users name the instance.
#[must_use]
pub fn target_of(world: &World, instance: &Instance) -> Option<Target> {
    let project = world.projects.get(&instance.project)?.name.clone();
    Some(Target { project, name: instance.name.clone() })
}

/// What is to be done for the duty that the node has; what was tried and failed is left alone.
#[must_use]
pub fn next(world: &World, node: NodeId, failed: &BTreeSet<InstanceId>) -> Option<Plan> {
    let node = world.nodes.get(&node)?;
    let mut plan = Plan::default();
    match node.duty {
        Duty::Evacuating { mode, .. } => {
            let untried = |it: &&Instance| !failed.contains(&it.id) || it.job.is_some();
            for instance in world.instances_on(node.id).filter(untried) {
                plan.add(instance, leave(world, instance, mode));
            }
        }
        Duty::Restoring { .. } => {
            let came = |it: &&Instance| it.home == Some(node.id);
            let untried = |it: &&Instance| !failed.contains(&it.id) || it.job.is_some();
            for instance in world.instances.values().filter(came).filter(untried) {
                plan.add(instance, come_back(instance, node));
            }
        }
        Duty::Serving | Duty::Evacuated => return None,
    }
    Some(plan.at_once())
}

fn leave(world: &World, instance: &Instance, mode: Evacuation) -> Option<Act> {
    let expanded = instance.expanded(world).unwrap_or_default();
    let own = expanded.config.get("cluster.evacuate").and_then(|text| Evacuation::parse(text));
    let mode = if mode == Evacuation::Auto { own.unwrap_or_default() } else { mode };
    let is_up = instance.status.is_up();
    let stop = |force| is_up.then_some(Act::Stop { force });
    match mode {
        Evacuation::Auto if is_bound(&expanded.devices) => stop(false),
        Evacuation::Auto => Some(Act::Move { to: None, live: LivePolicy::Preferred }),
        Evacuation::LiveMigrate if is_up => {
            Some(Act::Move { to: None, live: LivePolicy::Required })
        }
        Evacuation::LiveMigrate | Evacuation::Migrate => {
            Some(Act::Move { to: None, live: LivePolicy::Never })
        }
        Evacuation::Stop => stop(false),
        Evacuation::ForceStop => stop(true),
    }
}

/// Whether it uses something that is on its node alone: directories of the host, custom volumes.
fn is_bound(devices: &Devices) -> bool {
    let is_disk = |kind: &String| kind == "disk";
    let mut disks = devices.values().filter(|device| device.get("type").is_some_and(is_disk));
    disks.any(|device| device.get("path").is_some_and(|path| path != "/"))
}

fn come_back(instance: &Instance, node: &Node) -> Option<Act> {
    if instance.node != node.id {
        let to = Some(node.name.clone());
        return Some(Act::Move { to, live: LivePolicy::Preferred });
    }
    (instance.status == Status::Stopped).then_some(Act::Start)
}

/// What its node's evacuation stops belongs there and is to run again: `instance` is as it is after
/// `event`. What moves says itself where its home is.
pub(crate) fn remember_home(
    nodes: &Table<NodeId, Node>,
    instance: &mut Instance,
    event: &instance::Event,
) {
    let is_evacuating = |node: &NodeId| {
        nodes.get(node).is_some_and(|node| matches!(node.duty, Duty::Evacuating { .. }))
    };
    #[allow(clippy::wildcard_enum_match_arm, reason = "no other fact says whether it runs")]
    match event {
        instance::Event::Stopped { .. } if is_evacuating(&instance.node) => {
            instance.home = instance.home.or(Some(instance.node));
        }
        instance::Event::Started { .. } if instance.home == Some(instance.node) => {
            instance.home = None;
        }
        _ => {}
    }
}
