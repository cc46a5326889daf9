//! The packet filter, as text: a pure function of the plan.
//!
//! Two tables of the same name are ours and always replaced together, in one transaction:
//!
//! - `inet`: masquerading for NAT networks, and accepting what guests need of the host.
//! - `bridge`: what a guest may send, judged where its frame enters the bridge. Guests are told
//!   apart by the interface they come in through, and sets may name interfaces that are not there
//!   yet. So all of it is in place before a guest starts, and starting one costs nothing here.
//!
//! Between one plan and the next usually only sets' elements differ; then these alone are sent,
//! which the kernel does in a fifth of the time.
//!
//! IPv4 and MAC addresses are bound to the guest. IPv6 is bound to the network's prefix: systems
//! that draw private or stable addresses of their own could not work otherwise.
//!
//! A network may span nodes through uplinks. On each node its gateway has the same address and the
//! same MAC address, and serves the guests that are there: what a gateway sends stays on its node.
//!
//! Everything written here is a number, an address, or a name that [`Plan`] has checked.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write,
};

use stapes_core::{
    address,
    port::network::Plan,
    spec::{NetworkSpec, Reservation},
};

/// A set of the rules, by family and name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Set {
    family: &'static str,
    name: &'static str,
    definition: &'static str,
}

const BRIDGES: Set = Set { family: "inet", name: "bridges", definition: "type ifname;" };
/// Guests' interfaces on the host.
const GUESTS: Set = Set { family: "bridge", name: "guests", definition: "type ifname;" };
/// Those whose IPv4 or IPv6 addresses are in a plan; networks without one carry what they like.
const BOUND4: Set = Set { family: "bridge", name: "bound4", definition: "type ifname;" };
const BOUND6: Set = Set { family: "bridge", name: "bound6", definition: "type ifname;" };
/// What each may call itself.
const SENDERS: Set =
    Set { family: "bridge", name: "senders", definition: "type ifname . ether_addr;" };
const SENDERS4: Set =
    Set { family: "bridge", name: "senders4", definition: "type ifname . ipv4_addr;" };
const SENDERS6: Set = Set {
    family: "bridge",
    name: "senders6",
    definition: "type ifname . ipv6_addr; flags interval;",
};

/// Interfaces of the host in a bridge, with the bridge's own address.
const UPLINKS: Set =
    Set { family: "bridge", name: "uplinks", definition: "type ifname . ether_addr;" };

const SETS: [Set; 8] = [BRIDGES, GUESTS, BOUND4, BOUND6, SENDERS, SENDERS4, SENDERS6, UPLINKS];

/// Elements in one line at most, so that no line is too long for a reader or for nft.
const ELEMENTS_PER_LINE: usize = 100;

/// What a guest may send. `@name` are the sets above.
const GUEST_CHAINS: &str = "\
  chain prerouting {
    type filter hook prerouting priority -300; policy accept;
    iifname @guests jump guest
    iifname . ether saddr @uplinks drop
  }
  chain postrouting {
    type filter hook postrouting priority 0; policy accept;
    oifname . ether saddr @uplinks drop
  }
  chain guest {
    iifname . ether saddr != @senders drop
    ether type ip jump guest4
    ether type arp jump guest_arp
    ether type ip6 jump guest6
    drop
  }
  chain guest_arp {
    iifname . arp saddr ether != @senders drop
    iifname != @bound4 accept
    arp saddr ip 0.0.0.0 accept
    iifname . arp saddr ip @senders4 accept
    drop
  }
  chain guest4 {
    udp sport 67 drop
    iifname != @bound4 accept
    ip saddr 0.0.0.0 udp sport 68 udp dport 67 accept
    iifname . ip saddr @senders4 accept
    drop
  }
  chain guest6 {
    icmpv6 type { nd-router-advert, nd-redirect } drop
    udp sport 547 drop
    iifname != @bound6 accept
    ip6 saddr { ::, fe80::/10 } accept
    iifname . ip6 saddr @senders6 accept
    drop
  }
";

/// The rules that a plan asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Rules {
    table: String,
    /// Addresses of NAT networks, which have rules of their own.
    masqueraded: Vec<String>,
    elements: BTreeMap<Set, BTreeSet<String>>,
}

impl Rules {
    pub(super) fn of(table: &str, plan: &Plan) -> Self {
        let mut rules =
            Self { table: table.into(), masqueraded: Vec::new(), elements: BTreeMap::new() };
        for network in plan.networks() {
            rules.add_network(network);
        }
        for reservation in plan.reservations() {
            if let Some(network) = plan.network(reservation.nic.network) {
                rules.add_guest(network, reservation);
            }
        }
        rules
    }

    /// No tables at all.
    pub(super) fn is_empty(&self) -> bool {
        self.elements.is_empty()
    }

    /// The script that makes these rules the only ones, whatever was there.
    pub(super) fn replacing(&self) -> String {
        let table = &self.table;
        let mut script = String::new();
        for family in ["inet", "bridge"] {
            // Adding first makes the deletion work whether or not the table is there.
            writeln!(script, "add table {family} {table}\ndelete table {family} {table}").ok();
        }
        if self.is_empty() {
            return script;
        }
        self.define_inet(&mut script);
        self.define_bridge(&mut script);
        for (set, elements) in &self.elements {
            change(&mut script, table, "add", set, elements.iter());
        }
        script
    }

    /// The script that makes these rules out of `old` ones that are in force; `None` when more
    /// than elements differ.
    pub(super) fn changing(&self, old: &Self) -> Option<String> {
        let same_tables = self.is_empty() == old.is_empty();
        if self.table != old.table || self.masqueraded != old.masqueraded || !same_tables {
            return None;
        }
        let mut script = String::new();
        let none = BTreeSet::new();
        for set in &SETS {
            let new = self.elements.get(set).unwrap_or(&none);
            let old = old.elements.get(set).unwrap_or(&none);
            change(&mut script, &self.table, "delete", set, old.difference(new));
            change(&mut script, &self.table, "add", set, new.difference(old));
        }
        Some(script)
    }

    fn add_network(&mut self, network: &NetworkSpec) {
        self.add(BRIDGES, quoted(&network.bridge));
        for uplink in &network.uplinks {
            let mac = address::bridge_mac(network.network);
            self.add(UPLINKS, format!("{} . {mac}", quoted(uplink)));
        }
        if let Some(plan) = network.ipv4.filter(|plan| plan.nat)
            && let Ok(subnet) = plan.subnet()
        {
            self.masqueraded.push(format!("ip saddr {subnet}"));
        }
        if let Some(plan) = network.ipv6.filter(|plan| plan.nat)
            && let Ok(subnet) = plan.subnet()
        {
            self.masqueraded.push(format!("ip6 saddr {subnet}"));
        }
    }

    fn add_guest(&mut self, network: &NetworkSpec, reservation: &Reservation) {
        let nic = &reservation.nic;
        let interface = quoted(&nic.host_name);
        self.add(SENDERS, format!("{interface} . {}", nic.mac));
        if network.ipv4.is_some() {
            self.add(BOUND4, interface.clone());
        }
        if let Some(address) = nic.ipv4 {
            self.add(SENDERS4, format!("{interface} . {address}"));
        }
        if let Some(subnet) = network.ipv6.and_then(|plan| plan.subnet().ok()) {
            self.add(BOUND6, interface.clone());
            self.add(SENDERS6, format!("{interface} . {subnet}"));
        }
        self.add(GUESTS, interface);
    }

    fn add(&mut self, set: Set, element: String) {
        self.elements.entry(set).or_default().insert(element);
    }

    fn define_inet(&self, script: &mut String) {
        writeln!(script, "table inet {} {{", self.table).ok();
        define_sets(script, "inet");
        // Replies come back through connection tracking; accepting here outranks no other
        // firewall's drop, which `preflight` therefore looks for.
        script.push_str(
            "  chain input {
    type filter hook input priority filter; policy accept;
    iifname @bridges udp dport { 53, 67, 547 } accept
    iifname @bridges tcp dport 53 accept
  }
  chain forward {
    type filter hook forward priority filter; policy accept;
    iifname @bridges accept
    oifname @bridges accept
  }
  chain postrouting {
    type nat hook postrouting priority srcnat; policy accept;
    oifname @bridges return
",
        );
        for source in &self.masqueraded {
            writeln!(script, "    {source} masquerade").ok();
        }
        script.push_str("  }\n}\n");
    }

    fn define_bridge(&self, script: &mut String) {
        writeln!(script, "table bridge {} {{", self.table).ok();
        define_sets(script, "bridge");
        script.push_str(GUEST_CHAINS);
        script.push_str("}\n");
    }
}

fn define_sets(script: &mut String, family: &str) {
    for set in SETS.iter().filter(|set| set.family == family) {
        writeln!(script, "  set {} {{ {} }}", set.name, set.definition).ok();
    }
}

fn change<'a>(
    script: &mut String,
    table: &str,
    verb: &str,
    set: &Set,
    elements: impl Iterator<Item = &'a String>,
) {
    let elements: Vec<&str> = elements.map(String::as_str).collect();
    for line in elements.chunks(ELEMENTS_PER_LINE) {
        let Set { family, name, definition: _ } = set;
        let line = line.join(", ");
        writeln!(script, "{verb} element {family} {table} {name} {{ {line} }}").ok();
    }
}

fn quoted(name: &str) -> String {
    format!("\"{name}\"")
}

#[cfg(test)]
mod tests;
