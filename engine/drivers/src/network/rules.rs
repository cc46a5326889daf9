//! The packet filter, as text: a pure function of the plan.
//!
//! Two tables of the same name are ours and always replaced together, in one transaction:
//!
//! - `inet`: masquerading for NAT networks, and accepting what guests need of the host.
//! - `bridge`: what a guest may send, judged where its frame enters the bridge. Guests are told
//!   apart by the interface they come in through, and sets may name interfaces that are not there
//!   yet. So all of it is in place before a guest starts, and starting one costs nothing here.
//!
//! Between one plan and the next usually only sets' elements differ; then these alone are sent
//! (see [`elements`](super::elements)).
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
    fmt::{self, Write},
    net::Ipv4Addr,
};

use ipnet::Ipv6Net;
use stapes_core::{
    address,
    port::network::Plan,
    spec::{MacAddress, NetworkSpec, Reservation},
};

/// A set of the rules, by family and name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Set {
    pub(super) family: Family,
    pub(super) name: &'static str,
    definition: &'static str,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Family {
    Bridge,
    Inet,
}

impl Family {
    const ALL: [Self; 2] = [Self::Inet, Self::Bridge];

    const fn as_str(self) -> &'static str {
        match self {
            Self::Inet => "inet",
            Self::Bridge => "bridge",
        }
    }

    /// `NFPROTO_INET`, `NFPROTO_BRIDGE`
    pub(super) const fn number(self) -> u8 {
        match self {
            Self::Inet => 1,
            Self::Bridge => 7,
        }
    }
}

const BRIDGES: Set = Set { family: Family::Inet, name: "bridges", definition: "type ifname;" };
/// Guests' interfaces on the host.
const GUESTS: Set = Set { family: Family::Bridge, name: "guests", definition: "type ifname;" };
/// Those whose IPv4 or IPv6 addresses are in a plan; networks without one carry what they like.
const BOUND4: Set = Set { family: Family::Bridge, name: "bound4", definition: "type ifname;" };
const BOUND6: Set = Set { family: Family::Bridge, name: "bound6", definition: "type ifname;" };
/// What each may call itself.
const SENDERS: Set =
    Set { family: Family::Bridge, name: "senders", definition: "type ifname . ether_addr;" };
const SENDERS4: Set =
    Set { family: Family::Bridge, name: "senders4", definition: "type ifname . ipv4_addr;" };
const SENDERS6: Set = Set {
    family: Family::Bridge,
    name: "senders6",
    definition: "type ifname . ipv6_addr; flags interval;",
};

/// Interfaces of the host in a bridge, with the bridge's own address.
const UPLINKS: Set =
    Set { family: Family::Bridge, name: "uplinks", definition: "type ifname . ether_addr;" };

const SETS: [Set; 8] = [BRIDGES, GUESTS, BOUND4, BOUND6, SENDERS, SENDERS4, SENDERS6, UPLINKS];

static NONE: BTreeSet<Element> = BTreeSet::new();

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

/// What a set may hold: an interface, or one and what it may call itself.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Element {
    Interface(String),
    Mac(String, MacAddress),
    Ipv4(String, Ipv4Addr),
    Ipv6(String, Ipv6Net),
}

/// As nft writes it.
impl fmt::Display for Element {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Interface(name) => write!(f, "\"{name}\""),
            Self::Mac(name, mac) => write!(f, "\"{name}\" . {mac}"),
            Self::Ipv4(name, address) => write!(f, "\"{name}\" . {address}"),
            Self::Ipv6(name, addresses) => write!(f, "\"{name}\" . {addresses}"),
        }
    }
}

impl Element {
    /// As the kernel has it: the first key that it means, and the last if it means more than one.
    /// Each part of a key fills whole words.
    pub(super) fn keys(&self) -> (Vec<u8>, Option<Vec<u8>>) {
        const NAME_BYTES: usize = 16;
        let key = |name: &str, of: &[u8]| {
            let mut key = name.as_bytes().to_vec();
            key.resize(NAME_BYTES, 0);
            key.extend_from_slice(of);
            key.resize(key.len().next_multiple_of(4), 0);
            key
        };
        match self {
            Self::Interface(name) => (key(name, &[]), None),
            Self::Mac(name, mac) => (key(name, &mac.0), None),
            Self::Ipv4(name, address) => (key(name, &address.octets()), None),
            Self::Ipv6(name, addresses) => {
                let (first, last) = (addresses.network(), addresses.broadcast());
                (key(name, &first.octets()), Some(key(name, &last.octets())))
            }
        }
    }
}

/// Elements that come to a set or leave it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Edit<'a> {
    pub(super) adds: bool,
    pub(super) set: Set,
    /// At least one.
    pub(super) elements: Vec<&'a Element>,
}

/// The rules that a plan asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Rules {
    table: String,
    /// Addresses of NAT networks, which have rules of their own.
    masqueraded: Vec<String>,
    elements: BTreeMap<Set, BTreeSet<Element>>,
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
        for family in Family::ALL.map(Family::as_str) {
            // Adding first makes the deletion work whether or not the table is there.
            writeln!(script, "add table {family} {table}\ndelete table {family} {table}").ok();
        }
        if self.is_empty() {
            return script;
        }
        self.define_inet(&mut script);
        self.define_bridge(&mut script);
        for (set, elements) in &self.elements {
            let elements: Vec<String> = elements.iter().map(Element::to_string).collect();
            for line in elements.chunks(ELEMENTS_PER_LINE) {
                let (family, name, line) = (set.family.as_str(), set.name, line.join(", "));
                writeln!(script, "add element {family} {table} {name} {{ {line} }}").ok();
            }
        }
        script
    }

    /// What makes these rules out of `old` ones that are in force; `None` when more than elements
    /// differ.
    pub(super) fn changing<'a>(&'a self, old: &'a Self) -> Option<Vec<Edit<'a>>> {
        let same_tables = self.is_empty() == old.is_empty();
        if self.table != old.table || self.masqueraded != old.masqueraded || !same_tables {
            return None;
        }
        let mut edits = Vec::new();
        for set in SETS {
            let [new, old] = [self, old].map(|rules| rules.elements.get(&set).unwrap_or(&NONE));
            for (adds, elements) in [(false, old.difference(new)), (true, new.difference(old))] {
                let elements: Vec<_> = elements.collect();
                if !elements.is_empty() {
                    edits.push(Edit { adds, set, elements });
                }
            }
        }
        Some(edits)
    }

    pub(super) fn table(&self) -> &str {
        &self.table
    }

    fn add_network(&mut self, network: &NetworkSpec) {
        self.add(BRIDGES, Element::Interface(network.bridge.clone()));
        for uplink in &network.uplinks {
            let mac = address::bridge_mac(network.network);
            self.add(UPLINKS, Element::Mac(uplink.clone(), mac));
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
        let name = || nic.host_name.clone();
        self.add(SENDERS, Element::Mac(name(), nic.mac));
        if network.ipv4.is_some() {
            self.add(BOUND4, Element::Interface(name()));
        }
        if let Some(address) = nic.ipv4 {
            self.add(SENDERS4, Element::Ipv4(name(), address));
        }
        if let Some(subnet) = network.ipv6.and_then(|plan| plan.subnet().ok()) {
            self.add(BOUND6, Element::Interface(name()));
            self.add(SENDERS6, Element::Ipv6(name(), subnet));
        }
        self.add(GUESTS, Element::Interface(name()));
    }

    fn add(&mut self, set: Set, element: Element) {
        self.elements.entry(set).or_default().insert(element);
    }

    fn define_inet(&self, script: &mut String) {
        writeln!(script, "table inet {} {{", self.table).ok();
        define_sets(script, Family::Inet);
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
        define_sets(script, Family::Bridge);
        script.push_str(GUEST_CHAINS);
        script.push_str("}\n");
    }
}

fn define_sets(script: &mut String, family: Family) {
    for set in SETS.iter().filter(|set| set.family == family) {
        writeln!(script, "  set {} {{ {} }}", set.name, set.definition).ok();
    }
}

#[cfg(test)]
mod tests;
