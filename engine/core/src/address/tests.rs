//! Tries addresses.

use std::collections::BTreeSet;

use super::*;

const PLAN: Ipv4Plan =
    Ipv4Plan { gateway: Ipv4Addr::new(10, 1, 2, 1), prefix: 29, nat: true, dhcp: true };

fn address(last: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 1, 2, last)
}

fn net(text: &str) -> Ipv4Net {
    text.parse().unwrap()
}

#[test]
fn every_usable_address_is_given_once_and_then_none() {
    for seed in 0..50 {
        let mut taken = BTreeSet::new();
        for _ in 0..5 {
            let picked = pick_ipv4(&PLAN, |it| taken.contains(&it), None, seed).unwrap();
            assert!(taken.insert(picked), "{picked} twice");
        }
        assert_eq!(taken, (2..=6).map(address).collect());
        let full = pick_ipv4(&PLAN, |it| taken.contains(&it), None, seed);
        assert_eq!(full, Err(AddressError::Exhausted(net("10.1.2.0/29"))));
    }
}

#[test]
fn picking_is_repeatable() {
    let plan = Ipv4Plan { prefix: 24, ..PLAN };
    let pick = |seed| pick_ipv4(&plan, |_| false, None, seed).unwrap();
    assert_eq!(pick(7), pick(7));
    assert!((0..20).map(pick).collect::<BTreeSet<_>>().len() > 15);
}

#[test]
fn addresses_of_others_do_not_exhaust_a_network() {
    let elsewhere = (0..200).map(|last| Ipv4Addr::new(10, 9, 9, last)).collect::<BTreeSet<_>>();
    assert!(pick_ipv4(&PLAN, |it| elsewhere.contains(&it), None, 1).is_ok());
}

#[test]
fn a_wanted_address_is_given_or_refused_with_the_reason() {
    let taken = BTreeSet::from([address(3)]);
    let want = |wanted| pick_ipv4(&PLAN, |it| taken.contains(&it), Some(wanted), 0);
    assert_eq!(want(address(2)), Ok(address(2)));
    assert_eq!(want(address(3)), Err(AddressError::Taken(address(3))));
    for own in [0, 1, 7] {
        assert_eq!(want(address(own)), Err(AddressError::Reserved(address(own))));
    }
    let outside = AddressError::Outside { address: address(8), network: net("10.1.2.0/29") };
    assert_eq!(want(address(8)), Err(outside));
}

#[test]
fn a_free_subnet_overlaps_no_route() {
    let plan = free_subnet(&[], 5).unwrap();
    assert_eq!(plan, free_subnet(&[net("0.0.0.0/0")], 5).unwrap(), "a default route is no claim");
    assert_eq!((plan.gateway.octets()[0], plan.gateway.octets()[3], plan.prefix), (10, 1, 24));
    let taken = [net("10.0.0.0/9"), plan.subnet().unwrap()];
    for seed in 0..100 {
        let next = free_subnet(&taken, seed).unwrap().subnet().unwrap();
        assert!(!taken.iter().any(|route| route.contains(&next)), "{next}");
    }
    let other = free_subnet(&[net("10.0.0.0/8")], 5).unwrap();
    assert_eq!(other.gateway.octets()[0], 172);
    let all = [net("10.0.0.0/8"), net("172.16.0.0/12"), net("192.168.0.0/16")];
    assert_eq!(free_subnet(&all, 5), Err(AddressError::NoFreeRange));
}

#[test]
fn network_addresses_read_as_incus_reads_them() {
    let parse = str::parse::<NetworkAddress4>;
    assert_eq!(parse("none"), Ok(NetworkAddress4::None));
    assert_eq!(parse("auto"), Ok(NetworkAddress4::Auto));
    assert_eq!(parse("10.1.2.1/24"), Ok(NetworkAddress4::Gateway(net("10.1.2.1/24"))));
    for bad in ["", "10.1.2.1", "10.1.2.0/24", "10.1.2.255/24", "10.1.2.1/31", "1.2.3.4/4"] {
        assert!(parse(bad).is_err(), "{bad}");
    }
    for bad in ["Auto", "fd42::1/64", "127.0.0.1/8", "224.0.0.1/24", "0.0.0.1/99", "10.1.2.1/24\n"]
    {
        assert!(parse(bad).is_err(), "{bad}");
    }
    let error = parse("10.1.2.0/24").unwrap_err().to_string();
    assert!(error.contains("10.1.2.1/24"), "{error}");
}

#[test]
fn ipv6_networks_are_64_bits_long() {
    let parse = str::parse::<NetworkAddress6>;
    assert_eq!(parse("none"), Ok(NetworkAddress6::None));
    let gateway = "fd42:1:2:3::1/64".parse().unwrap();
    assert_eq!(parse("fd42:1:2:3::1/64"), Ok(NetworkAddress6::Gateway(gateway)));
    for bad in ["fd42::1", "fd42::1/65", "fd42::/64", "fe80::1/64", "ff02::1/64", "10.0.0.1/24"] {
        assert!(parse(bad).is_err(), "{bad}");
    }
}

#[test]
fn local_ipv6_ranges_are_unique_and_name_guests_by_their_mac() {
    let plan = local_ipv6(1);
    assert_ne!(plan, local_ipv6(2));
    assert!(plan.gateway.to_string().starts_with("fd42:"), "{plan:?}");
    let plan = Ipv6Plan { gateway: "fd42:1:2:3::1".parse().unwrap(), ..plan };
    let mac = MacAddress([0x10, 0x66, 0x6a, 1, 2, 3]);
    assert_eq!(plan.address_of(mac).unwrap().to_string(), "fd42:1:2:3:1266:6aff:fe01:203");
}

#[test]
fn a_mac_address_that_is_taken_is_passed_over() {
    let one = InstanceId::derive(&["one"]);
    let mut taken = BTreeSet::new();
    assert_eq!(pick_mac(one, "eth0", |it| taken.contains(&it)), Some(derive_mac(one, "eth0")));
    for _ in 0..5 {
        let mac = pick_mac(one, "eth0", |it| taken.contains(&it)).unwrap();
        assert!(taken.insert(mac) && mac.0.starts_with(&MAC_PREFIX), "{mac}");
    }
}

#[test]
fn names_on_the_host_follow_from_the_instance() {
    let one = InstanceId::derive(&["one"]);
    let two = InstanceId::derive(&["two"]);
    assert_eq!(derive_mac(one, "eth0"), derive_mac(one, "eth0"));
    assert_ne!(derive_mac(one, "eth0"), derive_mac(one, "eth1"));
    assert_ne!(derive_mac(one, "eth0"), derive_mac(two, "eth0"));
    assert!(derive_mac(one, "eth0").to_string().starts_with("10:66:6a:"));
    let name = host_interface_name(one, "eth0");
    assert!(name.starts_with("veth") && name.len() == 12 && is_interface_name(&name), "{name}");
    assert_ne!(name, host_interface_name(two, "eth0"));
}

#[test]
fn names_that_could_mean_something_else_are_refused() {
    for bad in ["", "-x", ".", "..", "a/b", "a b", "a\n", "a\"", "sixteen-letters-", "bré"] {
        assert!(!is_interface_name(bad), "{bad:?}");
    }
    for bad in ["", "-a", "a-", "a.b", "a_b", "a\0", &"a".repeat(64)] {
        assert!(!is_dns_label(bad), "{bad:?}");
    }
    assert!(is_dns_name("lab.example") && !is_dns_name("a..b") && !is_dns_name("a."));
}
