//! What guests may not do. Each test has its control: the same with the guest's own address works.

use std::{
    net::{SocketAddr, UdpSocket},
    time::Duration,
};

use stapes_core::port::network::Networks;

use super::world::{Guest, World, in_a_new_world, run};

async fn pings(guest: &Guest, from: &str, to: &str) -> bool {
    guest.namespace.run_beside(&format!("ping -c1 -W1 -I {from} {to}")).await.0
}

#[test]
fn a_guest_speaks_from_its_own_addresses_only() {
    in_a_new_world(|| async {
        let world = World::new();
        world.networks.ensure_network(&world.network()).await.unwrap();
        let one = world.configured_guest("one", 2).await;
        let two = world.configured_guest("two", 3).await;
        let gateway = world.gateway();
        assert!(pings(&one, "10.213.42.2", &gateway).await);
        assert!(pings(&one, "10.213.42.2", "10.213.42.3").await);

        // Another address: to the host and to a neighbour, who both would know the way back.
        one.namespace.run("ip address add 10.213.42.9/24 dev eth0");
        assert!(!pings(&one, "10.213.42.9", &gateway).await, "another IPv4 address");
        assert!(!pings(&one, "10.213.42.9", "10.213.42.3").await, "another IPv4 address");

        // Telling others that the gateway is here.
        let neighbours = || two.namespace.run("ip neighbour show 10.213.42.1");
        assert!(pings(&two, "10.213.42.3", &gateway).await);
        let before = neighbours().split(" lladdr ").nth(1).unwrap()[..17].to_owned();
        let claim = "busybox arping -U -c 2 -I eth0 -s 10.213.42.1 10.213.42.1";
        one.namespace.run("ip address add 10.213.42.1/32 dev eth0");
        one.namespace.run_beside(claim).await;
        assert!(neighbours().contains(&before), "{}", neighbours());
        one.namespace.run("ip address del 10.213.42.1/32 dev eth0");

        one.namespace.run("ip link set eth0 address 02:00:00:00:00:99");
        assert!(!pings(&one, "10.213.42.2", &gateway).await, "another MAC address");
        let own = one.reservation.nic.mac;
        one.namespace.run(&format!("ip link set eth0 address {own}"));
        assert!(pings(&one, "10.213.42.2", &gateway).await, "its own again");
    });
}

/// What `from` sends from each address and port to `to`, in turn, as far as it arrives. The last
/// has to: had an earlier one not been dropped, it would be there before.
fn arriving(from: &Guest, to: &Guest, sources: &[&'static str]) -> Vec<String> {
    let at: SocketAddr = format!("{}:68", to.address()).parse().unwrap();
    let listening = move || {
        let socket = UdpSocket::bind(at).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        socket
    };
    let receiver = to.namespace.inside(listening).join().unwrap();
    for source in sources {
        let source: &'static str = source;
        let send = move || UdpSocket::bind(source).unwrap().send_to(b"hello", at).map(drop);
        from.namespace.inside(send).join().unwrap().unwrap();
    }
    let mut arrived = Vec::new();
    while arrived.last().map(String::as_str) != sources.last().copied() {
        arrived.push(receiver.recv_from(&mut [0; 16]).unwrap().1.to_string());
    }
    arrived
}

#[test]
fn a_datagram_with_a_false_sender_does_not_arrive() {
    in_a_new_world(|| async {
        let world = World::new();
        world.networks.ensure_network(&world.network()).await.unwrap();
        let one = world.configured_guest("one", 2).await;
        let two = world.configured_guest("two", 3).await;
        one.namespace.run("ip address add 10.213.42.9/24 dev eth0");
        // With the neighbour known, ARP is out of the way and the datagram itself is judged.
        let mac = two.reservation.nic.mac;
        one.namespace.run(&format!("ip neighbour replace 10.213.42.3 lladdr {mac} dev eth0"));
        let sources = ["10.213.42.9:700", "10.213.42.2:700"];
        assert_eq!(arriving(&one, &two, &sources), ["10.213.42.2:700"]);
        run("nft delete table bridge stapes_test");
        assert_eq!(arriving(&one, &two, &sources), sources, "without the rules both do");
    });
}

#[test]
fn a_guest_does_not_answer_dhcp() {
    in_a_new_world(|| async {
        let world = World::new();
        world.networks.ensure_network(&world.network()).await.unwrap();
        let one = world.configured_guest("one", 2).await;
        let two = world.configured_guest("two", 3).await;
        let sources = ["10.213.42.2:67", "10.213.42.2:700"];
        assert_eq!(arriving(&one, &two, &sources), ["10.213.42.2:700"]);
    });
}

#[test]
fn a_guest_is_no_ipv6_router() {
    in_a_new_world(|| async {
        let world = World::new();
        world.networks.ensure_network(&world.with_ipv6()).await.unwrap();
        let one = world.configured_guest("one", 2).await;
        one.namespace.run("ip address add 2001:db8::1/64 dev eth0 nodad");
        one.namespace.run("ip address add fd42:1:2:3::77/64 dev eth0 nodad");
        assert!(pings(&one, "fd42:1:2:3::77", "fd42:1:2:3::1").await, "any of the network's own");
        run("ip -6 route add 2001:db8::/64 dev stapest0");
        assert!(!pings(&one, "2001:db8::1", "fd42:1:2:3::1").await, "another prefix");
        let rules = run("nft list chain bridge stapes_test guest6");
        assert!(rules.contains("nd-router-advert"), "{rules}");
    });
}

#[test]
fn traffic_flows_while_the_rules_are_replaced() {
    in_a_new_world(|| async {
        let world = World::new();
        world.networks.ensure_network(&world.network()).await.unwrap();
        let _outside = world.outside();
        let one = world.configured_guest("one", 2).await;
        assert!(one.namespace.run_beside("ping -c1 -W5 192.0.2.2").await.0);
        let ping = one.namespace.run_beside("ping -c 200 -i 0.005 -W 1 192.0.2.2");
        let replacing = async {
            for round in 0..20 {
                let mut spec = world.network();
                spec.ipv6 = (round % 2 == 0).then(|| world.with_ipv6().ipv6).flatten();
                world.networks.ensure_network(&spec).await.unwrap();
            }
        };
        let ((all, said), ()) = tokio::join!(ping, replacing);
        assert!(all && said.contains(" 0% packet loss"), "{said}");
    });
}
