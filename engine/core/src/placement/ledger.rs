//! What the nodes have promised: kept beside the fold, so that a decision looks things up where it
//! would otherwise have to look through every instance.
//!
//! It holds nothing that the rest of the world does not say. An instance's claim is what it was when
//! it was made, moved or changed: a profile that changes afterwards counts from then on.

use std::collections::BTreeMap;

use imbl::{OrdMap, OrdSet};
use serde::{Deserialize, Serialize};

use super::{SLOTS, slots_from};
use crate::{
    config,
    ids::{InstanceId, NetworkId, NodeId},
    instance::Instance,
    spec::MacAddress,
    table::Table,
    world::World,
};

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Ledger {
    loads: Table<NodeId, Load>,
    on: OrdSet<(NodeId, InstanceId)>,
    macs: OrdMap<(NetworkId, MacAddress), u32>,
    /// By the value of `placement.spread`.
    spread: OrdMap<(String, NodeId), u32>,
    slots: Slots,
}

/// All that the instances of a node may use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Load {
    pub instances: u32,
    pub memory_bytes: u64,
    /// Thousandths of a CPU.
    pub cpu_milli: u64,
}

/// What one instance may use, and where. The instance keeps it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Claim {
    node: NodeId,
    memory_bytes: u64,
    cpu_milli: u64,
    spread: Option<String>,
    macs: Vec<(NetworkId, MacAddress)>,
}

/// The settings that a claim follows from.
const CLAIMED: [&str; 4] =
    ["limits.memory", "limits.cpu", "limits.cpu.allowance", "placement.spread"];

impl Claim {
    pub(crate) fn of(world: &World, instance: &Instance) -> Self {
        let config = instance.settings(world, &CLAIMED).unwrap_or_default();
        let host_bytes = world.nodes.get(&instance.node).map_or(0, |node| node.memory_bytes);
        let spread = config.get("placement.spread").filter(|text| !text.is_empty());
        let leases = instance.leases.values();
        Self {
            node: instance.node,
            memory_bytes: memory(&config, host_bytes),
            cpu_milli: cpu_milli(&config),
            spread: spread.cloned(),
            macs: leases.map(|lease| (lease.network, lease.mac)).collect(),
        }
    }
}

/// What is not limited is not promised.
pub(super) fn memory(config: &config::Config, host_bytes: u64) -> u64 {
    config::memory(config, host_bytes).ok().flatten().unwrap_or(0)
}

pub(super) fn cpu_milli(config: &config::Config) -> u64 {
    let limit = config::cpu(config).ok().flatten();
    limit.map_or(0, |cpu| cpu.quota_us.saturating_mul(1000) / cpu.period_us.max(1))
}

impl Ledger {
    /// The instance's claim is this from now on, instead of the one before.
    pub(crate) fn settle(&mut self, id: InstanceId, old: Option<&Claim>, new: Option<&Claim>) {
        if let Some(old) = old {
            self.give_back(id, old);
        }
        if let Some(new) = new {
            self.promise(id, new);
        }
    }

    fn promise(&mut self, id: InstanceId, claim: &Claim) {
        let mut load = self.load(claim.node);
        load.instances += 1;
        load.memory_bytes = load.memory_bytes.saturating_add(claim.memory_bytes);
        load.cpu_milli = load.cpu_milli.saturating_add(claim.cpu_milli);
        self.loads.insert(claim.node, load);
        self.on.insert((claim.node, id));
        for mac in &claim.macs {
            *self.macs.entry(*mac).or_default() += 1;
        }
        if let Some(spread) = &claim.spread {
            *self.spread.entry((spread.clone(), claim.node)).or_default() += 1;
        }
    }

    fn give_back(&mut self, id: InstanceId, claim: &Claim) {
        let mut load = self.load(claim.node);
        load.instances = load.instances.saturating_sub(1);
        load.memory_bytes = load.memory_bytes.saturating_sub(claim.memory_bytes);
        load.cpu_milli = load.cpu_milli.saturating_sub(claim.cpu_milli);
        if load.instances == 0 {
            self.loads.remove(&claim.node);
        } else {
            self.loads.insert(claim.node, load);
        }
        self.on.remove(&(claim.node, id));
        for mac in &claim.macs {
            count_down(&mut self.macs, mac);
        }
        if let Some(spread) = &claim.spread {
            count_down(&mut self.spread, &(spread.clone(), claim.node));
        }
    }

    #[must_use]
    pub fn load(&self, node: NodeId) -> Load {
        self.loads.get(&node).copied().unwrap_or_default()
    }

    /// The instances of a node, by id.
    pub fn on(&self, node: NodeId) -> impl Iterator<Item = InstanceId> {
        let ids = self.on.range((node, InstanceId(uuid::Uuid::nil()))..);
        ids.take_while(move |(on, _)| *on == node).map(|(_, id)| *id)
    }

    #[must_use]
    pub(crate) fn has_mac(&self, network: NetworkId, mac: MacAddress) -> bool {
        self.macs.contains_key(&(network, mac))
    }

    /// How many instances that are to be spread like this are on which nodes.
    pub(super) fn spread(&self, value: &str) -> BTreeMap<NodeId, u32> {
        let counts = self.spread.range((value.to_owned(), NodeId(uuid::Uuid::nil()))..);
        let counts = counts.take_while(|((known, _), _)| known == value);
        counts.map(|((_, node), count)| (*node, *count)).collect()
    }

    pub(crate) fn take_slot(&mut self, slot: u32) {
        self.slots.take(slot);
    }

    pub(crate) fn free_slot(&mut self, slot: u32) {
        self.slots.free(slot);
    }

    /// A range of host ids that no node uses: the first from `start` on, and round.
    pub(super) fn slot_free_everywhere(&self, start: u32) -> Option<u32> {
        self.slots.unused(start)
    }
}

fn count_down<K: Ord + Clone>(counts: &mut OrdMap<K, u32>, key: &K) {
    match counts.get_mut(key) {
        Some(count) if *count > 1 => *count -= 1,
        _ => drop(counts.remove(key)),
    }
}

/// Ranges of host ids, by the number of nodes that use each.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Slots(OrdMap<u32, u32>);

impl Slots {
    fn take(&mut self, slot: u32) {
        *self.0.entry(slot).or_default() += 1;
    }

    fn free(&mut self, slot: u32) {
        count_down(&mut self.0, &slot);
    }

    fn unused(&self, start: u32) -> Option<u32> {
        // Looked for only when there is one: few are left free by many instances.
        if self.0.len() >= SLOTS as usize {
            return None;
        }
        slots_from(start).find(|slot| !self.0.contains_key(slot))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_range_that_nobody_uses_is_found() {
        let mut slots = Slots::default();
        assert_eq!(slots.unused(7), Some(7));
        slots.take(7);
        slots.take(7);
        slots.take(9);
        assert_eq!(slots.unused(7), Some(8));
        slots.take(8);
        assert_eq!(slots.unused(7), Some(10));
        slots.free(7);
        assert_eq!(slots.unused(7), Some(10), "another node uses it");
        slots.free(7);
        assert_eq!(slots.unused(7), Some(7));
    }

    #[test]
    fn the_search_goes_round_and_ends() {
        let mut slots = Slots::default();
        (1..SLOTS).for_each(|slot| slots.take(slot));
        assert_eq!(slots.unused(SLOTS - 1), Some(0));
        slots.take(0);
        assert_eq!(slots.unused(SLOTS - 1), None);
    }
}
