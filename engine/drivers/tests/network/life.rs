//! Making, changing and removing networks.

use stapes_core::{
    port::{
        DriverError,
        network::{Networks, laws},
    },
    spec::NetworkSpec,
};

use super::world::{World, eventually, in_a_new_world, other_network, run, traces};

#[test]
fn the_laws_hold_on_a_host() {
    in_a_new_world(|| async {
        let world = World::new();
        laws::all(&world.networks, &world.example).await;
    });
}

#[test]
fn removing_leaves_nothing() {
    in_a_new_world(|| async {
        let before = traces();
        let world = World::new();
        let spec = world.with_ipv6();
        world.networks.ensure_network(&spec).await.unwrap();
        let guest = world.configured_guest("one", 2).await;
        assert!(guest.namespace.run_beside(&format!("ping -c1 -W5 {}", world.gateway())).await.0);
        assert_ne!(traces(), before);
        let instance = guest.reservation.instance;
        drop(guest);
        world.networks.reserve(instance, &[]).await.unwrap();
        world.networks.remove_network(spec.network).await.unwrap();
        // The kernel takes a namespace down, and its interface with it, in its own time.
        eventually("nothing is left", async || traces() == before).await;
        world.networks.remove_network(spec.network).await.unwrap();
    });
}

#[test]
fn a_restart_finds_everything_as_it_was() {
    in_a_new_world(|| async {
        let mut world = World::new();
        let spec = world.network();
        world.networks.ensure_network(&spec).await.unwrap();
        let guest = world.configured_guest("one", 2).await;
        let gateway = world.gateway();
        let link = || run("ip -o link show dev stapest0");
        let (before, rules) = (link(), run("nft list ruleset"));
        world.restart().await;
        assert!(guest.namespace.run_beside(&format!("ping -c1 -W5 {gateway}")).await.0);
        world.networks.ensure_network(&spec).await.unwrap();
        let nics = std::slice::from_ref(&guest.reservation);
        world.networks.reserve(guest.reservation.instance, nics).await.unwrap();
        world.networks.settle().await.unwrap();
        assert_eq!((link(), run("nft list ruleset")), (before, rules));
    });
}

#[test]
fn guests_that_come_and_go_change_elements_alone() {
    in_a_new_world(|| async {
        let mut world = World::new();
        let spec = world.with_ipv6();
        world.networks.ensure_network(&spec).await.unwrap();
        let tables = || {
            let text = run("nft -a list ruleset");
            let tables = text.lines().filter(|line| line.starts_with("table "));
            tables.map(str::to_owned).collect::<Vec<_>>()
        };
        let made = tables();
        assert!(made.iter().all(|table| table.contains("# handle")), "{made:?}");
        let guests = [("one", 2), ("two", 3), ("six", 6)];
        let guests = guests.map(|(name, last)| world.example.reservation(name, last));
        for guest in &guests {
            world.networks.reserve(guest.instance, std::slice::from_ref(guest)).await.unwrap();
            world.networks.settle().await.unwrap();
        }
        world.networks.reserve(guests[1].instance, &[]).await.unwrap();
        world.networks.settle().await.unwrap();
        assert_eq!(tables(), made, "the tables are the same ones");
        let elements = || {
            let text = run("nft list table bridge stapes_test");
            let words = text.split([',', '{', '}', '\n']).map(|word| word.trim().to_owned());
            words.collect::<std::collections::BTreeSet<_>>()
        };
        let one_by_one = elements();
        let name = |guest: usize| guests[guest].nic.host_name.as_str();
        let has = |name: &str| one_by_one.iter().any(|element| element.contains(name));
        assert!(has(name(0)) && !has(name(1)) && has(name(2)), "{one_by_one:?}");

        // Another daemon makes all of it at once: of the same text.
        world.restart().await;
        world.networks.ensure_network(&spec).await.unwrap();
        for guest in [&guests[0], &guests[2]] {
            world.networks.reserve(guest.instance, std::slice::from_ref(guest)).await.unwrap();
        }
        world.networks.settle().await.unwrap();
        assert_ne!(tables(), made);
        assert_eq!(elements(), one_by_one);
    });
}

#[test]
fn a_restart_cuts_nobody_off_while_it_is_told_its_networks() {
    in_a_new_world(|| async {
        let mut world = World::new();
        let _outside = world.outside();
        let later = world.network();
        let first = laws::Example::new("stapest1", 43).network();
        world.networks.ensure_network(&later).await.unwrap();
        let guest = world.configured_guest("one", 2).await;
        let rules = || run("nft list table bridge stapes_test");
        let before = rules();
        let name = &guest.reservation.nic.host_name;
        eventually("the plan is kept", async || {
            std::fs::read_to_string(world.file("plan.json")).is_ok_and(|plan| plan.contains(name))
        })
        .await;
        world.restart().await;
        world.networks.ensure_network(&first).await.unwrap();
        assert_eq!(rules(), before, "filtered as before");
        assert!(guest.namespace.run_beside("ping -c1 -W5 192.0.2.2").await.0, "NAT as before");
        // Its log says that the network is no more, and it never knew more than the id.
        world.networks.remove_network(later.network).await.unwrap();
        assert!(!run("ip -o link").contains("stapest0"));
        assert!(!rules().contains(&guest.reservation.nic.host_name));
    });
}

#[test]
fn an_interface_of_somebody_else_is_left_alone() {
    in_a_new_world(|| async {
        let world = World::new();
        run("ip link add stapest0 type bridge");
        let before = traces();
        let refused = world.networks.ensure_network(&world.network()).await.unwrap_err();
        assert!(matches!(&refused, DriverError::Refused(text) if text.contains("ip link delete")));
        world.networks.remove_network(world.network().network).await.unwrap();
        assert_eq!(traces(), before);
        let other = NetworkSpec { network: other_network("a"), ..world.network() };
        assert!(world.networks.ensure_network(&other).await.is_err());
    });
}

#[test]
fn a_crash_between_making_and_marking_a_bridge_is_repaired() {
    in_a_new_world(|| async {
        let world = World::new();
        let spec = world.network();
        let mac = stapes_core::address::bridge_mac(spec.network);
        run(&format!("ip link add stapest0 address {mac} type bridge"));
        world.networks.ensure_network(&spec).await.unwrap();
        let link = run("ip link show dev stapest0");
        assert!(link.contains(&spec.network.to_string()) && link.contains(",UP"), "{link}");
    });
}

#[test]
fn a_changed_network_gets_its_new_addresses_only() {
    in_a_new_world(|| async {
        let world = World::new();
        world.networks.ensure_network(&world.with_ipv6()).await.unwrap();
        let mut spec = world.network();
        spec.ipv4 = spec.ipv4.map(|mut ipv4| {
            ipv4.gateway = [10, 213, 99, 1].into();
            ipv4
        });
        world.networks.ensure_network(&spec).await.unwrap();
        let addresses = run("ip -o address show dev stapest0");
        assert!(addresses.contains("10.213.99.1/24"), "{addresses}");
        assert_eq!(addresses.lines().count(), 1, "{addresses}");
        assert!(run("nft list ruleset").contains("10.213.99.0/24 masquerade"));
    });
}

#[test]
fn a_port_that_is_taken_is_told_and_had_later() {
    in_a_new_world(|| async {
        let world = World::new();
        for (port, service) in [(67, "DHCP"), (53, "DNS")] {
            let other = std::net::UdpSocket::bind(("0.0.0.0", port)).unwrap();
            let refused = world.networks.ensure_network(&world.network()).await.unwrap_err();
            let text = refused.to_string();
            assert!(text.contains(service) && text.contains(&format!("port {port}")), "{text}");
            assert!(!refused.retryable());
            drop(other);
        }
        world.networks.ensure_network(&world.network()).await.unwrap();
    });
}

#[test]
fn a_packet_filter_that_fails_is_told_and_repaired() {
    in_a_new_world(|| async {
        let world = World::new();
        // A table with an owner cannot be replaced by anybody else.
        let mut owner = std::process::Command::new("nft")
            .arg("-i")
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::null())
            .spawn()
            .unwrap();
        let mut orders = owner.stdin.take().unwrap();
        std::io::Write::write_all(&mut orders, b"add table inet stapes_test { flags owner; }\n")
            .unwrap();
        eventually("the table is owned", async || run("nft list tables").contains("stapes_test"))
            .await;
        let failed = world.networks.ensure_network(&world.network()).await;
        drop(orders);
        owner.wait().unwrap();
        let Err(DriverError::Failed(text)) = failed else { panic!("{failed:?}") };
        assert!(text.contains("refused.nft") && world.file("refused.nft").exists(), "{text}");
        world.networks.ensure_network(&world.network()).await.unwrap();
        assert!(run("nft list tables").contains("bridge stapes_test"));
    });
}

#[test]
fn rules_that_somebody_flushed_come_back_with_the_next_change() {
    in_a_new_world(|| async {
        let world = World::new();
        world.networks.ensure_network(&world.network()).await.unwrap();
        run("nft flush ruleset");
        let one = world.example.reservation("one", 2);
        world.networks.reserve(one.instance, std::slice::from_ref(&one)).await.unwrap();
        world.networks.settle().await.unwrap();
        let rules = run("nft list ruleset");
        assert!(rules.contains("masquerade") && rules.contains(&one.nic.host_name), "{rules}");
    });
}

#[test]
fn many_reservations_settle_together() {
    in_a_new_world(|| async {
        let world = World::new();
        world.networks.ensure_network(&world.network()).await.unwrap();
        for last in 2..252 {
            let guest = world.example.reservation(&format!("g{last}"), last);
            world.networks.reserve(guest.instance, &[guest]).await.unwrap();
        }
        world.networks.settle().await.unwrap();
        let guests = run("nft -j list set bridge stapes_test guests");
        assert_eq!(guests.matches("\"veth").count(), 250);
    });
}

#[test]
fn routes_of_the_host_are_listed() {
    in_a_new_world(|| async {
        let world = World::new();
        world.networks.ensure_network(&world.network()).await.unwrap();
        let routes = world.networks.ipv4_routes().await.unwrap();
        assert!(routes.contains(&"10.213.42.0/24".parse().unwrap()), "{routes:?}");
    });
}

#[test]
fn preflight_finds_what_is_in_the_way() {
    in_a_new_world(|| async {
        let bad = |checks: Vec<stapes_drivers::network::Check>| {
            let bad = checks.into_iter().filter(|check| !check.ok);
            bad.map(|check| check.name).collect::<Vec<_>>()
        };
        let checks = stapes_drivers::network::preflight().await;
        assert_eq!(bad(checks), Vec::<String>::new());
        run("nft add table ip filter");
        let drop = "{ type filter hook forward priority 0; policy drop; }";
        run(&format!("nft add chain ip filter FORWARD {drop}"));
        let _other = std::net::UdpSocket::bind("0.0.0.0:67").unwrap();
        let checks = stapes_drivers::network::preflight().await;
        assert_eq!(bad(checks), ["other firewalls", "ports 53 and 67"]);
    });
}
