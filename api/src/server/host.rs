//! What the kernel tells anybody of this machine: read, never changed.

use std::{fs, net::Ipv4Addr};

use ipnet::Ipv4Net;

use crate::wire::network::{NetworkBridge, NetworkCounters, NetworkState};

const INTERFACES: &str = "/sys/class/net";

/// Interfaces that a network could be made of, with what they are.
pub(super) fn interfaces() -> Vec<(String, &'static str)> {
    let entries = fs::read_dir(INTERFACES).into_iter().flatten().flatten();
    let mut found: Vec<_> = entries
        .filter_map(|entry| {
            let name = entry.file_name().into_string().ok()?;
            let has = |part: &str| entry.path().join(part).exists();
            let kind = match () {
                () if name == "lo" => "loopback",
                () if has("bridge") => "bridge",
                () if has("bonding") => "bond",
                () if has("device") => "physical",
                () => return None,
            };
            Some((name, kind))
        })
        .collect();
    found.sort();
    found
}

/// Ranges that the machine has routes to: a network must not take them.
pub(super) fn routes() -> Vec<Ipv4Net> {
    routes_in(&fs::read_to_string("/proc/net/route").unwrap_or_default())
}

fn routes_in(table: &str) -> Vec<Ipv4Net> {
    let address = |field: Option<&str>| {
        // The kernel prints addresses as they lie in memory.
        Some(Ipv4Addr::from(u32::from_str_radix(field?, 16).ok()?.to_ne_bytes()))
    };
    let route = |line: &str| {
        let mut fields = line.split_whitespace();
        let destination = address(fields.nth(1))?;
        let mask = address(fields.nth(5))?;
        let net = Ipv4Net::with_netmask(destination, mask).ok()?;
        (net.prefix_len() > 0).then_some(net)
    };
    table.lines().skip(1).filter_map(route).collect()
}

/// An interface's state, when there is one of this name.
pub(super) fn interface_state(name: &str) -> Option<NetworkState> {
    if name.contains(['/', '\0']) || name.starts_with('.') {
        return None;
    }
    let base = format!("{INTERFACES}/{name}");
    let read = |file: &str| {
        fs::read_to_string(format!("{base}/{file}")).ok().map(|text| text.trim().to_owned())
    };
    let number = |file: &str| read(file).and_then(|text| text.parse().ok()).unwrap_or_default();
    let hwaddr = read("address")?;
    let flags = read("flags").unwrap_or_default();
    let flags = u32::from_str_radix(flags.trim_start_matches("0x"), 16).unwrap_or_default();
    let (up, loopback) = (flags & 1 != 0, flags & 8 != 0);
    let bridge = read("bridge/bridge_id").map(|id| NetworkBridge {
        id,
        stp: number("bridge/stp_state") != 0,
        forward_delay: number("bridge/forward_delay"),
        vlan_default: number("bridge/default_pvid"),
        vlan_filtering: number("bridge/vlan_filtering") != 0,
        upper_devices: members(&base),
    });
    Some(NetworkState {
        addresses: Vec::new(),
        counters: NetworkCounters {
            bytes_received: number("statistics/rx_bytes"),
            bytes_sent: number("statistics/tx_bytes"),
            packets_received: number("statistics/rx_packets"),
            packets_sent: number("statistics/tx_packets"),
        },
        hwaddr,
        mtu: u32::try_from(number("mtu")).unwrap_or_default(),
        state: if up { "up" } else { "down" }.to_owned(),
        kind: if loopback { "loopback" } else { "broadcast" }.to_owned(),
        bridge,
        ..NetworkState::default()
    })
}

fn members(base: &str) -> Vec<String> {
    let entries = fs::read_dir(format!("{base}/brif")).into_iter().flatten().flatten();
    let mut names: Vec<_> =
        entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
    names.sort();
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn routes_are_read_as_the_kernel_prints_them() {
        let table = "Iface Destination Gateway Flags RefCnt Use Metric Mask MTU Window IRTT\n\
            eth0 00000000 0101A8C0 0003 0 0 0 00000000 0 0 0\n\
            eth0 0001A8C0 00000000 0001 0 0 0 00FFFFFF 0 0 0\n";
        let expected: Ipv4Net = "192.168.1.0/24".parse().unwrap();
        assert_eq!(routes_in(table), [expected]);
    }

    #[test]
    fn a_name_is_never_a_path() {
        assert_eq!(interface_state("../../../proc"), None);
        assert!(interface_state("lo").is_some());
    }
}
