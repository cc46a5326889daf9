//! Tries the text of the rules.

use stapes_core::{
    ids::InstanceId,
    port::network::laws::Example,
    spec::{Ipv6Plan, NetworkSpec},
};

use super::*;

fn example() -> Example {
    Example::new("lab0", 7)
}

fn plan(guests: &[(&str, u8)]) -> Plan {
    let mut plan = Plan::default();
    let gateway = "fd42:1:2:3::1".parse().unwrap();
    let ipv6 = Some(Ipv6Plan { gateway, prefix: 64, nat: true });
    plan.ensure(&NetworkSpec { ipv6, ..example().network() }).unwrap();
    for (name, last) in guests {
        let mut guest = example().reservation(name, *last);
        guest.nic.host_name = format!("veth-{name}");
        guest.nic.mac = format!("10:66:6a:00:00:{last:02x}").parse().unwrap();
        plan.reserve(guest.instance, &[guest]).unwrap();
    }
    plan
}

#[test]
fn one_network_and_one_guest_as_a_whole() {
    let script = Rules::of("stapes_t", &plan(&[("one", 2)])).replacing();
    let expected = format!(
        r#"add table inet stapes_t
delete table inet stapes_t
add table bridge stapes_t
delete table bridge stapes_t
table inet stapes_t {{
  set bridges {{ type ifname; }}
  chain input {{
    type filter hook input priority filter; policy accept;
    iifname @bridges udp dport {{ 53, 67, 547 }} accept
    iifname @bridges tcp dport 53 accept
  }}
  chain forward {{
    type filter hook forward priority filter; policy accept;
    iifname @bridges accept
    oifname @bridges accept
  }}
  chain postrouting {{
    type nat hook postrouting priority srcnat; policy accept;
    oifname @bridges return
    ip saddr 10.213.7.0/24 masquerade
    ip6 saddr fd42:1:2:3::/64 masquerade
  }}
}}
table bridge stapes_t {{
  set guests {{ type ifname; }}
  set bound4 {{ type ifname; }}
  set bound6 {{ type ifname; }}
  set senders {{ type ifname . ether_addr; }}
  set senders4 {{ type ifname . ipv4_addr; }}
  set senders6 {{ type ifname . ipv6_addr; flags interval; }}
  set uplinks {{ type ifname . ether_addr; }}
{GUEST_CHAINS}}}
add element bridge stapes_t bound4 {{ "veth-one" }}
add element bridge stapes_t bound6 {{ "veth-one" }}
add element bridge stapes_t guests {{ "veth-one" }}
add element bridge stapes_t senders {{ "veth-one" . 10:66:6a:00:00:02 }}
add element bridge stapes_t senders4 {{ "veth-one" . 10.213.7.2 }}
add element bridge stapes_t senders6 {{ "veth-one" . fd42:1:2:3::/64 }}
add element inet stapes_t bridges {{ "lab0" }}
"#
    );
    assert_eq!(script, expected);
}

#[test]
fn what_the_gateway_sends_stays_on_its_node() {
    let mut plan = Plan::default();
    let spec = NetworkSpec { uplinks: vec!["eth1".to_owned()], ..example().network() };
    plan.ensure(&spec).unwrap();
    let script = Rules::of("stapes_t", &plan).replacing();
    let mac = address::bridge_mac(spec.network);
    let element = format!("add element bridge stapes_t uplinks {{ \"eth1\" . {mac} }}");
    assert!(script.contains(&element), "{script}");
}

#[test]
fn no_network_leaves_no_table() {
    let script = Rules::of("stapes_t", &Plan::default()).replacing();
    assert_eq!(
        script,
        "add table inet stapes_t\ndelete table inet stapes_t\n\
         add table bridge stapes_t\ndelete table bridge stapes_t\n"
    );
}

#[test]
fn another_guest_changes_elements_only() {
    let before = Rules::of("stapes_t", &plan(&[("one", 2), ("two", 3)]));
    let after = Rules::of("stapes_t", &plan(&[("two", 3), ("six", 6)]));
    let edits = after.changing(&before).unwrap();
    let senders = edits.iter().filter(|edit| edit.set == SENDERS);
    let senders: Vec<_> = senders.map(|edit| (edit.adds, edit.elements[0].to_string())).collect();
    let (gone, new) = ("\"veth-one\" . 10:66:6a:00:00:02", "\"veth-six\" . 10:66:6a:00:00:06");
    assert_eq!(senders, [(false, gone.to_owned()), (true, new.to_owned())]);
    let text = format!("{edits:?}");
    assert!(text.contains("veth-six") && !text.contains("veth-two"), "{text}");
}

#[test]
fn equal_rules_need_no_change() {
    let rules = Rules::of("stapes_t", &plan(&[("one", 2)]));
    assert_eq!(rules, Rules::of("stapes_t", &plan(&[("one", 2)])));
    assert_eq!(rules.changing(&rules), Some(Vec::new()));
}

#[test]
fn another_network_or_none_replaces_all() {
    let one = Rules::of("stapes_t", &plan(&[]));
    let none = Rules::of("stapes_t", &Plan::default());
    assert_eq!(one.changing(&none), None);
    assert_eq!(none.changing(&one), None);
    let mut without_nat = plan(&[]);
    let mut spec = without_nat.networks().next().unwrap().clone();
    spec.ipv4 = spec.ipv4.map(|ipv4| stapes_core::spec::Ipv4Plan { nat: false, ..ipv4 });
    without_nat.ensure(&spec).unwrap();
    assert_eq!(Rules::of("stapes_t", &without_nat).changing(&one), None);
}

#[test]
fn a_network_without_addresses_binds_none() {
    let mut plan = Plan::default();
    plan.ensure(&NetworkSpec { ipv4: None, ..example().network() }).unwrap();
    let mut guest = example().reservation("one", 2);
    guest.nic.ipv4 = None;
    let instance: InstanceId = guest.instance;
    plan.reserve(instance, &[guest]).unwrap();
    let script = Rules::of("stapes_t", &plan).replacing();
    assert!(script.contains("stapes_t senders {") && !script.contains("masquerade"), "{script}");
    assert!(!script.contains("element bridge stapes_t bound4"), "{script}");
}

#[test]
fn long_sets_are_sent_in_pieces() {
    let mut plan = plan(&[]);
    for number in 0..=u8::try_from(ELEMENTS_PER_LINE).unwrap() {
        let guest = example().reservation(&format!("g{number}"), number + 2);
        plan.reserve(guest.instance, &[guest]).unwrap();
    }
    let script = Rules::of("stapes_t", &plan).replacing();
    assert_eq!(script.matches("add element bridge stapes_t guests").count(), 2);
}

#[test]
fn keys_are_as_the_kernel_has_them() {
    let name = |name: &str| {
        let mut bytes = name.as_bytes().to_vec();
        bytes.resize(16, 0);
        bytes
    };
    let mac = Element::Mac("veth-one".to_owned(), "10:66:6a:00:00:02".parse().unwrap());
    let filled = [0x10, 0x66, 0x6a, 0, 0, 2, 0, 0];
    assert_eq!(mac.keys(), ([name("veth-one"), filled.to_vec()].concat(), None));
    let prefix = Element::Ipv6("eth1".to_owned(), "fd42:1:2:3::/64".parse().unwrap());
    let first = [0xfd, 0x42, 0, 1, 0, 2, 0, 3, 0, 0, 0, 0, 0, 0, 0, 0];
    let mut last = first;
    last[8..].fill(0xff);
    let keys = [first, last].map(|address| [name("eth1"), address.to_vec()].concat());
    let [first, last] = keys;
    assert_eq!(prefix.keys(), (first, Some(last)));
}
