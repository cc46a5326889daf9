//! Where an instance goes: every node is weighed, the best one wins, and why is written down.
//!
//! What excludes a node: nobody hears it, it is evacuated, another architecture, no such pool
//! there, a volume that lies elsewhere, more memory than it has, `scheduler.instance` (`manual`:
//! only when it is named; `group`: only when one of its groups is), not the group that is asked for.
//!
//! What weighs: room in memory and CPUs after what is promised already, fewer instances, the image
//! being there, and what the instance's configuration says of its company:
//!
//! | key | means |
//! |---|---|
//! | `placement.affinity=a,b` | rather where instances `a` and `b` of its project are |
//! | `placement.anti-affinity=a,b` | rather where they are not |
//! | `placement.spread=web` | rather apart, by node and failure domain, from all that say the same |
//!
//! They are wishes: an instance is placed badly rather than not at all. Equals are told apart by
//! the nodes' ids, so that every decider chooses the same.

use std::{cmp::Reverse, collections::BTreeSet};

use crate::{
    config::{Config, Devices},
    ids::{InstanceId, NetworkId, NodeId, PoolId},
    instance::Considered,
    name::NameKind,
    node::{Duty, Node},
    pool::Pool,
    project::Project,
    rejection::{Noun, Rejection},
    world::{World, missing},
};

mod ledger;
mod score;
#[cfg(test)]
mod tests;

pub(crate) use ledger::Claim;
pub use ledger::{Ledger, Load};

/// Ranges of host ids on a node.
pub(crate) const SLOTS: u32 = 15_258;
/// Nodes whose weighing is written down at most.
const CONSIDERED_MAX: usize = 8;
/// Nodes that a refusal names at most.
const NAMED_MAX: usize = 5;

/// What is to be placed.
#[derive(Clone, Debug)]
pub struct Wanted<'a> {
    /// A node's name, or `@` and a group's; none: anywhere.
    pub target: Option<&'a str>,
    pub architecture: Option<&'a str>,
    pub pool: PoolId,
    pub project: &'a Project,
    /// With its profiles'.
    pub config: &'a Config,
    pub devices: &'a Devices,
    /// That its interfaces are on.
    pub networks: BTreeSet<NetworkId>,
    /// That have its image, if it is of one.
    pub holders: BTreeSet<NodeId>,
    /// It is there and is to leave.
    pub leaves: Option<NodeId>,
    /// It is placed already, under this id.
    pub instance: Option<InstanceId>,
    /// It can be nowhere else.
    pub bound_to: Option<NodeId>,
}

/// The node for it, and what was weighed.
///
/// # Errors
/// When the target does not exist or cannot take it, or no node can.
pub fn choose(world: &World, wanted: &Wanted<'_>) -> Result<(NodeId, Vec<Considered>), Rejection> {
    if world.server.cluster.is_none() {
        return alone(world, wanted).map(|node| (node, Vec::new()));
    }
    let target = Target::parse(world, wanted.target)?;
    if let Target::Node(node) = target {
        refuse(world, wanted, node)?;
        let reasons = vec!["asked for".to_owned()];
        return Ok((node.id, vec![Considered { node: node.id, score: None, reasons }]));
    }
    let scale = score::Scale::of(world, wanted);
    let mut weighed: Vec<_> = world
        .nodes
        .values()
        .map(|node| match excluded(world, wanted, &target, node) {
            Some(_) => (None, node),
            None => (Some(scale.weigh(node)), node),
        })
        .collect();
    weighed.sort_by_key(|(score, node)| (Reverse(*score), node.id));
    let considered = |(score, node): &(Option<i64>, &Node)| Considered {
        node: node.id,
        score: *score,
        reasons: match excluded(world, wanted, &target, node) {
            Some(why) => vec![why],
            None => scale.reasons(node),
        },
    };
    match weighed.first() {
        Some((Some(_), best)) => {
            Ok((best.id, weighed.iter().take(CONSIDERED_MAX).map(considered).collect()))
        }
        Some((None, _)) | None => Err(nowhere(world, wanted, &target)),
    }
}

/// Where there is no cluster there is no choice.
fn alone(world: &World, wanted: &Wanted<'_>) -> Result<NodeId, Rejection> {
    if wanted.target.is_some() {
        return Err(Rejection::Invalid("Target only allowed when clustered".to_owned()));
    }
    world.nodes.keys().next().copied().ok_or_else(|| missing(Noun::Node, "any"))
}

/// What users may ask for.
enum Target<'a> {
    Anywhere,
    Group(&'a str),
    Node(&'a Node),
}

impl<'a> Target<'a> {
    fn parse(world: &'a World, text: Option<&'a str>) -> Result<Self, Rejection> {
        match text.filter(|text| !text.is_empty()) {
            None => Ok(Self::Anywhere),
            Some(text) => match text.strip_prefix('@') {
                Some(group) if world.cluster()?.groups.contains_key(group) => {
                    Ok(Self::Group(group))
                }
                Some(group) => Err(missing(Noun::ClusterGroup, group)),
                None => world.node(text).map(Self::Node),
            },
        }
    }
}

/// Why a node that was named cannot take it.
fn refuse(world: &World, wanted: &Wanted<'_>, node: &Node) -> Result<(), Rejection> {
    node.reachable()?;
    let why = match unfit(world, wanted, node) {
        None => return Ok(()),
        Some(why) => why,
    };
    let hint = match node.duty {
        Duty::Evacuated => format!("stapes cluster restore {}", node.name),
        Duty::Serving | Duty::Evacuating { .. } | Duty::Restoring { .. } => {
            "choose another member; see: stapes cluster list".to_owned()
        }
    };
    let message = format!("Cluster member {:?} cannot take the instance: {why}", node.name);
    Err(Rejection::NotAllowed { message, hint })
}

/// Why a node that nobody named is left out.
fn excluded(
    world: &World,
    wanted: &Wanted<'_>,
    target: &Target<'_>,
    node: &Node,
) -> Option<String> {
    let scheduler = node.config.get("scheduler.instance").map_or("all", String::as_str);
    match target {
        Target::Group(group) if !node.groups.contains(*group) => {
            return Some(format!("not in group {group}"));
        }
        Target::Anywhere if scheduler == "group" => {
            return Some("it takes instances for its groups only".to_owned());
        }
        Target::Anywhere | Target::Group(_) if scheduler == "manual" => {
            return Some("it takes instances only when it is named".to_owned());
        }
        Target::Anywhere | Target::Group(_) | Target::Node(_) => {}
    }
    if !node.is_online() {
        return Some("unreachable".to_owned());
    }
    unfit(world, wanted, node)
}

/// Why it cannot be on the node, whoever asks.
fn unfit(world: &World, wanted: &Wanted<'_>, node: &Node) -> Option<String> {
    match node.duty {
        Duty::Serving => {}
        // What comes home comes while the node is restored.
        Duty::Restoring { .. } if wanted.target.is_some() => {}
        Duty::Evacuated => return Some("it is evacuated".to_owned()),
        Duty::Evacuating { .. } => return Some("it is being evacuated".to_owned()),
        Duty::Restoring { .. } => return Some("it is being restored".to_owned()),
    }
    if wanted.leaves == Some(node.id) {
        return Some("it is there already".to_owned());
    }
    if let Some(bound) = wanted.bound_to.filter(|bound| *bound != node.id) {
        let name = world.nodes.get(&bound).map_or("another member", |node| node.name.as_str());
        return Some(format!("what it is made from lies on {name}"));
    }
    if let Some(other) = wanted.architecture.filter(|wanted| *wanted != node.architecture) {
        return Some(format!("it is {}, not {other}", node.architecture));
    }
    if world.pools.get(&wanted.pool).is_none_or(|pool| !pool.parts.is_ready_on(node.id)) {
        return Some("the storage pool is not there".to_owned());
    }
    let network =
        |id: &NetworkId| world.networks.get(id).filter(|it| !it.parts.is_ready_on(node.id));
    if let Some(network) = wanted.networks.iter().find_map(network) {
        return Some(format!("network {} is not there", network.name));
    }
    if let Some(why) = image_away(world, wanted, node.id) {
        return Some(why);
    }
    let memory = ledger::memory(wanted.config, node.memory_bytes);
    if memory > node.memory_bytes {
        return Some(format!("it has {} of memory", score::mebibytes(node.memory_bytes)));
    }
    volume_elsewhere(world, wanted.devices, node.id)
}

/// The image that has to come from another node, while none that has it is heard.
fn image_away(world: &World, wanted: &Wanted<'_>, node: NodeId) -> Option<String> {
    let holders = wanted.holders.iter().filter_map(|holder| world.nodes.get(holder));
    if wanted.holders.contains(&node) || holders.clone().any(Node::is_online) {
        return None;
    }
    let names: Vec<_> = holders.map(|holder| holder.name.as_str()).take(NAMED_MAX).collect();
    if names.is_empty() {
        return None;
    }
    Some(format!("the image is on {} only, which nobody hears", names.join(", ")))
}

/// The volume that an instance with these devices attaches and that lies on another node.
pub(crate) fn volume_elsewhere(world: &World, devices: &Devices, node: NodeId) -> Option<String> {
    devices.values().find_map(|device| {
        let (pool, source) = (device.get("pool")?, device.get("source")?);
        let volume = world.volume(pool, source).ok().filter(|volume| volume.node != node)?;
        let name = world.nodes.get(&volume.node).map_or("", |node| node.name.as_str());
        Some(format!("volume {source} lies on {name}"))
    })
}

fn nowhere(world: &World, wanted: &Wanted<'_>, target: &Target<'_>) -> Rejection {
    let why = |node: &Node| {
        let why = excluded(world, wanted, target, node).unwrap_or_default();
        format!("{}: {why}", node.name)
    };
    let in_question = world.nodes.values().filter(|node| match target {
        Target::Group(group) => node.groups.contains(*group),
        Target::Anywhere | Target::Node(_) => true,
    });
    let listed: Vec<_> = in_question.map(why).take(NAMED_MAX).collect();
    let reasons =
        if listed.is_empty() { "the group is empty".to_owned() } else { listed.join("; ") };
    Rejection::NotAllowed {
        message: format!("No cluster member can take the instance: {reasons}"),
        hint: "see: stapes cluster list".to_owned(),
    }
}

/// The node that a new volume lies on: the one that is named, else the emptiest.
///
/// # Errors
/// When it cannot be there, or nowhere.
pub(crate) fn node_for_volume(
    world: &World,
    pool: &Pool,
    target: Option<&str>,
) -> Result<NodeId, Rejection> {
    if world.server.cluster.is_none() {
        if target.is_some() {
            return Err(Rejection::Invalid("Target only allowed when clustered".to_owned()));
        }
        return world.nodes.keys().next().copied().ok_or_else(|| missing(Noun::Node, "any"));
    }
    let there = |node: &&Node| pool.parts.is_ready_on(node.id);
    if let Some(name) = target.filter(|name| !name.is_empty()) {
        let node = world.node(name)?;
        node.reachable()?;
        return Some(node).filter(there).map(|node| node.id).ok_or_else(|| Rejection::NotAllowed {
            message: format!("Storage pool {:?} is not on cluster member {name:?}", pool.name),
            hint: format!("stapes storage info {}", pool.name),
        });
    }
    let takers = world.nodes.values().filter(|node| node.takes_instances()).filter(there);
    let emptiest = takers.min_by_key(|node| (world.ledger.load(node.id).instances, node.id));
    emptiest.map(|node| node.id).ok_or_else(|| Rejection::NotAllowed {
        message: format!("No cluster member can take a volume in storage pool {:?}", pool.name),
        hint: "see: stapes cluster list".to_owned(),
    })
}

/// A range of host ids for an instance on this node: rather one that is free on every node, so that
/// the instance keeps its ids wherever it moves while it runs. Where the search begins follows from
/// the instance, so that those made at the same time do not all want the same one.
///
/// # Errors
/// When the node has none left.
pub fn slot(world: &World, node: NodeId, instance: InstanceId) -> Result<u32, Rejection> {
    let [.., a, b, c, d] = instance.0.into_bytes();
    let start = u32::from_be_bytes([a, b, c, d]) % SLOTS;
    if let Some(slot) = world.ledger.slot_free_everywhere(start) {
        return Ok(slot);
    }
    let free = slots_from(start).find(|slot| is_slot_free(world, node, *slot));
    free.ok_or_else(|| {
        Rejection::Exhausted(format!("All {SLOTS} ranges of host ids are in use on this node"))
    })
}

/// All of them, from `start` on and round.
fn slots_from(start: u32) -> impl Iterator<Item = u32> {
    (start..SLOTS).chain(0..start)
}

fn is_slot_free(world: &World, node: NodeId, slot: u32) -> bool {
    world.holder(NameKind::IdMap, node, &slot.to_string()).is_none()
}
