//! The live state of an instance, from one look at its guest.

use std::collections::BTreeMap;

use stapes_core::{
    config,
    instance::{Instance, Lease, Status},
    port::{
        guest::{Measured, MeasuredInterface},
        storage::Usage,
    },
    world::World,
};

use super::{is_reachable, status_of};
use crate::wire::{
    Time,
    instance_state::{
        Address, Counters, CpuState, DiskState, InstanceState, MemoryState, NetworkInterfaceState,
    },
};

/// `measured` is `None` for a guest that does not run, or that nobody could look at.
pub(in crate::server) fn state(
    world: &World,
    it: &Instance,
    measured: Option<&Measured>,
    usage: Option<Usage>,
) -> InstanceState {
    let code = status_of(world, it);
    let mut state = InstanceState {
        status: code.name().to_owned(),
        status_code: code,
        disk: disk(world, it, usage),
        ..InstanceState::default()
    };
    if let Status::Running { pid, since } | Status::Frozen { pid, since } = it.status {
        state.pid = i64::from(pid);
        state.started_at = Time(since);
        state.network = Some(leased(it));
        if !is_reachable(world, it.node) {
            (state.pid, state.network) = (0, None);
        }
    }
    if let Some(measured) = measured {
        state.processes = signed(measured.processes);
        state.cpu = CpuState { usage: measured.cpu_ns, allocated_time: 0 };
        state.memory = memory(world, it, measured);
        let interfaces = measured.interfaces.iter();
        state.network = Some(interfaces.map(|nic| (nic.name.clone(), interface(nic))).collect());
    }
    state
}

/// The interfaces as the address plan has them: what is known of a guest on another node.
fn leased(it: &Instance) -> BTreeMap<String, NetworkInterfaceState> {
    let interface = |lease: &Lease| NetworkInterfaceState {
        addresses: Vec::from_iter(lease.ipv4.map(|address| Address {
            family: "inet".to_owned(),
            address: address.to_string(),
            netmask: String::new(),
            scope: "global".to_owned(),
        })),
        hwaddr: lease.mac.to_string(),
        state: "up".to_owned(),
        kind: "broadcast".to_owned(),
        ..NetworkInterfaceState::default()
    };
    it.leases.iter().map(|(device, lease)| (device.clone(), interface(lease))).collect()
}

fn disk(world: &World, it: &Instance, usage: Option<Usage>) -> BTreeMap<String, DiskState> {
    let Some(usage) = usage else { return BTreeMap::new() };
    let devices = it.expanded(world).map(|expanded| expanded.devices).unwrap_or_default();
    let is_root = |device: &config::Device| device.get("path").is_some_and(|path| path == "/");
    let root = devices.iter().find(|(_, device)| is_root(device));
    let name = root.map_or("root", |(name, _)| name).to_owned();
    BTreeMap::from([(name, DiskState { usage: usage.used_bytes, total: usage.total_bytes })])
}

fn memory(world: &World, it: &Instance, measured: &Measured) -> MemoryState {
    let expanded = it.expanded(world).map(|expanded| expanded.config).unwrap_or_default();
    let limit = expanded.get("limits.memory").and_then(|text| config::bytes(text).ok());
    MemoryState {
        usage: measured.memory_bytes,
        usage_peak: measured.memory_peak_bytes,
        total: limit.unwrap_or_default(),
        swap_usage: measured.swap_bytes,
        swap_usage_peak: 0,
    }
}

fn interface(nic: &MeasuredInterface) -> NetworkInterfaceState {
    let addresses = nic.addresses.iter().map(|(address, prefix, scope)| Address {
        family: if address.is_ipv4() { "inet" } else { "inet6" }.to_owned(),
        address: address.to_string(),
        netmask: prefix.to_string(),
        scope: scope.clone(),
    });
    NetworkInterfaceState {
        addresses: addresses.collect(),
        counters: Counters {
            bytes_received: nic.bytes_received,
            bytes_sent: nic.bytes_sent,
            packets_received: nic.packets_received,
            packets_sent: nic.packets_sent,
            ..Counters::default()
        },
        hwaddr: nic.mac.clone(),
        host_name: nic.host_name.clone(),
        mtu: nic.mtu,
        state: if nic.up { "up" } else { "down" }.to_owned(),
        kind: if nic.loopback { "loopback" } else { "broadcast" }.to_owned(),
    }
}

fn signed(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
