//! How good a node is for an instance, in points, and in words.

use std::collections::BTreeMap;

use super::{Wanted, ledger};
use crate::{
    ids::{InstanceId, NodeId},
    name::NameKind,
    node::Node,
    world::World,
};

/// Points for all of the memory, and all of the CPUs, being free.
const MEMORY_POINTS: i64 = 1000;
const CPU_POINTS: i64 = 500;
/// Lost for each instance to a CPU, up to a limit.
const CROWD_POINTS: i64 = 20;
const CROWD_POINTS_MAX: i64 = 1000;
/// An image is fetched once: it is worth as much as a twentieth of the memory.
const IMAGE_POINTS: i64 = 50;
const AFFINITY_POINTS: i64 = 4000;
const SPREAD_NODE_POINTS: i64 = 3000;
const SPREAD_DOMAIN_POINTS: i64 = 1000;

/// What every node is weighed against.
pub(super) struct Scale<'a> {
    world: &'a World,
    wanted: &'a Wanted<'a>,
    /// Where those are that it is to be beside, and apart from.
    beside: Vec<(&'a str, NodeId)>,
    apart: Vec<(&'a str, NodeId)>,
    spread: BTreeMap<NodeId, u32>,
    domains: BTreeMap<&'a str, u32>,
}

impl<'a> Scale<'a> {
    pub(super) fn of(world: &'a World, wanted: &'a Wanted<'a>) -> Self {
        let named = |key: &str| {
            let names = wanted.config.get(key).map_or("", String::as_str).split(',');
            let found = |name: &'a str| {
                let held = world.holder(NameKind::Instance, wanted.project.id, name)?;
                let instance = world.instances.get(&InstanceId(held.holder))?;
                Some((name, instance.node))
            };
            names.map(str::trim).filter_map(found).collect()
        };
        let value = wanted.config.get("placement.spread").filter(|value| !value.is_empty());
        let mut spread = value.map(|value| world.ledger.spread(value)).unwrap_or_default();
        if let Some(own) = wanted.instance.and_then(|id| world.instances.get(&id))
            && let Some(count) = spread.get_mut(&own.node)
        {
            *count = count.saturating_sub(1);
        }
        let mut domains = BTreeMap::new();
        for (node, count) in &spread {
            let domain = world.nodes.get(node).map_or("", |node| node.failure_domain.as_str());
            if !domain.is_empty() {
                *domains.entry(domain).or_default() += count;
            }
        }
        let (beside, apart) = (named("placement.affinity"), named("placement.anti-affinity"));
        Self { world, wanted, beside, apart, spread, domains }
    }

    pub(super) fn weigh(&self, node: &Node) -> i64 {
        let load = self.world.ledger.load(node.id);
        let memory = load.memory_bytes.saturating_add(self.memory(node));
        let cpu = load.cpu_milli.saturating_add(ledger::cpu_milli(self.wanted.config));
        let cpus_milli = u64::from(node.cpus.max(1)) * 1000;
        let crowd = i64::from(load.instances) * CROWD_POINTS / i64::from(node.cpus.max(1));
        free(memory, node.memory_bytes, MEMORY_POINTS) + free(cpu, cpus_milli, CPU_POINTS)
            - crowd.min(CROWD_POINTS_MAX)
            + i64::from(self.wanted.holders.contains(&node.id)) * IMAGE_POINTS
            + AFFINITY_POINTS * (count_on(&self.beside, node) - count_on(&self.apart, node))
            - SPREAD_NODE_POINTS * i64::from(self.spread_on(node))
            - SPREAD_DOMAIN_POINTS * i64::from(self.spread_in_domain(node))
    }

    /// The same in words, most important first.
    pub(super) fn reasons(&self, node: &Node) -> Vec<String> {
        let load = self.world.ledger.load(node.id);
        let mut reasons = Vec::new();
        for (name, _) in self.beside.iter().filter(|(_, on)| *on == node.id) {
            reasons.push(format!("beside {name}"));
        }
        for (name, _) in self.apart.iter().filter(|(_, on)| *on == node.id) {
            reasons.push(format!("not apart from {name}"));
        }
        match (self.spread_on(node), self.spread_in_domain(node)) {
            (0, 0) => {}
            (0, count) => {
                reasons.push(format!("{count} of its kind in {}", node.failure_domain));
            }
            (count, _) => reasons.push(format!("{count} of its kind there")),
        }
        reasons.push(format!(
            "{} of {} memory promised",
            mebibytes(load.memory_bytes),
            mebibytes(node.memory_bytes)
        ));
        reasons.push(format!("{} instances on {} CPUs", load.instances, node.cpus));
        if self.wanted.holders.contains(&node.id) {
            reasons.push("has the image".to_owned());
        }
        reasons
    }

    fn memory(&self, node: &Node) -> u64 {
        ledger::memory(self.wanted.config, node.memory_bytes)
    }

    fn spread_on(&self, node: &Node) -> u32 {
        self.spread.get(&node.id).copied().unwrap_or(0)
    }

    fn spread_in_domain(&self, node: &Node) -> u32 {
        self.domains.get(node.failure_domain.as_str()).copied().unwrap_or(0)
    }
}

fn count_on(named: &[(&str, NodeId)], node: &Node) -> i64 {
    named.iter().map(|(_, on)| i64::from(*on == node.id)).sum()
}

/// Points for what is left of `whole`; what is promised twice costs as much again.
fn free(promised: u64, whole: u64, points: i64) -> i64 {
    let whole = i128::from(whole.max(1));
    let left = whole - i128::from(promised);
    let scaled = (left * i128::from(points) / whole).max(i128::from(-points));
    i64::try_from(scaled).unwrap_or(-points)
}

pub(super) fn mebibytes(bytes: u64) -> String {
    let mebibytes = bytes >> 20;
    if mebibytes >= 10 * 1024 {
        format!("{} GiB", mebibytes >> 10)
    } else {
        format!("{mebibytes} MiB")
    }
}
