//! What guests get: addresses, names, a way out.

use std::{
    net::{IpAddr, Ipv4Addr, UdpSocket},
    os::unix::fs::PermissionsExt,
};

use hickory_proto::{
    op::{Message, Metadata},
    rr::{RData, Record},
};
use stapes_core::{port::network::Networks, spec::NetworkSpec};

use super::world::{Guest, World, eventually, in_a_new_world, with_own_ipv6};

/// Configures the interface and writes down what else came.
const UDHCPC_SCRIPT: &str = r#"#!/bin/sh
case "$1" in bound|renew)
  ip address add "$ip/$mask" dev "$interface"
  ip route add default via "$router"
  echo "$ip/$mask via $router dns $dns domain $domain hostname $hostname lease $lease" > "$0.got"
esac
"#;

async fn udhcpc(world: &World, guest: &Guest) -> Result<String, String> {
    let script = world.file(&format!("udhcpc-{}", guest.reservation.hostname));
    std::fs::write(&script, UDHCPC_SCRIPT).unwrap();
    std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).unwrap();
    let script = script.display();
    let client = format!("busybox udhcpc -i eth0 -f -n -q -t 3 -T 1 -s {script}");
    match guest.namespace.run_beside(&client).await {
        (true, _) => Ok(std::fs::read_to_string(format!("{script}.got")).unwrap()),
        (false, said) => Err(said),
    }
}

async fn dig(guest: &Guest, question: &str) -> String {
    let (_, said) = guest.namespace.run_beside(&format!("dig +tries=1 +time=5 {question}")).await;
    said.trim().to_owned()
}

#[test]
fn a_guest_gets_its_address_and_finds_its_neighbour() {
    in_a_new_world(|| async {
        let world = World::new();
        world.networks.ensure_network(&world.network()).await.unwrap();
        let one = world.guest("one", 2).await;
        let two = world.guest("two", 3).await;
        let got = udhcpc(&world, &one).await.unwrap();
        assert_eq!(
            got.trim(),
            "10.213.42.2/24 via 10.213.42.1 dns 10.213.42.1 domain law.test hostname one lease 3600"
        );
        udhcpc(&world, &two).await.unwrap();
        let server = format!("@{}", world.gateway());
        for (question, answer) in [
            ("two.law.test", "10.213.42.3"),
            ("two", "10.213.42.3"),
            ("-x 10.213.42.3", "two.law.test."),
            ("+tcp two.law.test", "10.213.42.3"),
        ] {
            assert_eq!(dig(&one, &format!("{server} +short {question}")).await, answer);
        }
        let nobody = dig(&one, &format!("{server} nobody.law.test")).await;
        assert!(nobody.contains("NXDOMAIN"), "{nobody}");
        assert!(one.namespace.run_beside("ping -c1 -W5 10.213.42.3").await.0);
        let counters = world.networks.counters(&one.reservation.nic.host_name).await.unwrap();
        assert!(counters.packets_sent > 0 && counters.bytes_received > 0, "{counters:?}");
        let host = tokio::process::Command::new("dig")
            .args(["+tries=1", &server, "+short", "one.law.test"])
            .output()
            .await
            .unwrap();
        assert_eq!(host.stdout, b"10.213.42.2\n", "the host may ask, too");
    });
}

/// systemd-networkd as in a container: no udev, a /run of its own.
const NETWORKD_SCRIPT: &str = r"
set -e
mount -t sysfs -o ro sysfs /sys
mount -t tmpfs tmpfs /run
mkdir -p /run/systemd/network /run/systemd/netif/links /run/systemd/netif/leases /run/systemd/netif/lldp
chown -R systemd-network /run/systemd/netif
printf '[Match]\nName=eth0\n[Network]\nDHCP=yes\n' > /run/systemd/network/10-eth0.network
/lib/systemd/systemd-networkd &
daemon=$!
trap 'kill $daemon' EXIT
until ip route | grep -q default && ip -6 address show dev eth0 | grep -q fd42; do sleep 0.05; done
ip address show dev eth0
ip route
cat /run/systemd/netif/leases/*
";

#[test]
fn networkd_configures_a_debian_guest() {
    in_a_new_world(|| async {
        let world = World::new();
        let spec = world.with_ipv6();
        world.networks.ensure_network(&spec).await.unwrap();
        let one = with_own_ipv6(&spec, world.example.reservation("one", 2));
        let guest = world.guest_with(one).await;
        let script = world.file("networkd");
        std::fs::write(&script, NETWORKD_SCRIPT).unwrap();
        let networkd = format!("timeout 15 unshare -m sh {}", script.display());
        let (configured, said) = guest.namespace.run_beside(&networkd).await;
        assert!(configured, "{said}");
        let address = guest.reservation.nic.ipv6.unwrap().to_string();
        for expected in
            ["10.213.42.2/24", &address, "via 10.213.42.1", "HOSTNAME=one", "DOMAINNAME=law.test"]
        {
            assert!(said.contains(expected), "no {expected} in {said}");
        }
    });
}

#[test]
fn a_guest_without_a_reservation_gets_no_address() {
    in_a_new_world(|| async {
        let world = World::new();
        world.networks.ensure_network(&world.network()).await.unwrap();
        let guest = world.guest("one", 2).await;
        world.networks.reserve(guest.reservation.instance, &[]).await.unwrap();
        let said = udhcpc(&world, &guest).await.unwrap_err();
        assert!(said.contains("no lease"), "{said}");
    });
}

#[test]
fn guests_reach_the_outside_through_nat_only_if_asked_for() {
    in_a_new_world(|| async {
        let world = World::new();
        let spec = world.network();
        world.networks.ensure_network(&spec).await.unwrap();
        let outside = world.outside();
        let guest = world.configured_guest("one", 2).await;
        let ping = "ping -c1 -W1 192.0.2.2";
        assert!(guest.namespace.run_beside("ping -c1 -W5 192.0.2.2").await.0);
        let ipv4 = spec.ipv4.map(|mut ipv4| {
            ipv4.nat = false;
            ipv4
        });
        world.networks.ensure_network(&NetworkSpec { ipv4, ..spec }).await.unwrap();
        assert!(!guest.namespace.run_beside(ping).await.0, "outside knows no way back");
        drop(outside);
    });
}

#[test]
fn other_names_are_asked_for_above() {
    in_a_new_world(|| async {
        let world = World::new();
        let outside = world.outside();
        let above: IpAddr = [192, 0, 2, 2].into();
        let dead: IpAddr = [192, 0, 2, 9].into();
        let socket = outside.inside(move || UdpSocket::bind((above, 53)).unwrap()).join().unwrap();
        let server = outside.inside(move || {
            let mut buffer = [0; 512];
            let (length, from) = socket.recv_from(&mut buffer).unwrap();
            let question = Message::from_vec(&buffer[..length]).unwrap();
            let mut reply = Message::response(0, question.metadata.op_code);
            reply.metadata = Metadata::response_from_request(&question.metadata);
            reply.add_queries(question.queries.clone());
            let name = question.queries[0].name.clone();
            reply.add_answer(Record::from_rdata(
                name,
                60,
                RData::A(Ipv4Addr::new(203, 0, 113, 7).into()),
            ));
            socket.send_to(&reply.to_vec().unwrap(), from).unwrap();
        });
        let spec = NetworkSpec { dns_upstream: vec![dead, above], ..world.network() };
        world.networks.ensure_network(&spec).await.unwrap();
        let guest = world.configured_guest("one", 2).await;
        let answer = dig(&guest, &format!("@{} +short example.org", world.gateway())).await;
        assert_eq!(answer, "203.0.113.7", "from the second server, as the first is dead");
        server.join().unwrap();
    });
}

#[test]
fn guests_make_themselves_ipv6_addresses_that_dns_knows() {
    in_a_new_world(|| async {
        let world = World::new();
        let spec = world.with_ipv6();
        world.networks.ensure_network(&spec).await.unwrap();
        let guest =
            world.guest_with(with_own_ipv6(&spec, world.example.reservation("one", 2))).await;
        let address = guest.reservation.nic.ipv6.unwrap().to_string();
        eventually("the guest has its address and a route", async || {
            let (_, addresses) = guest.namespace.run_beside("ip -6 address show dev eth0").await;
            let (_, routes) = guest.namespace.run_beside("ip -6 route").await;
            let ready = addresses.contains(&address) && !addresses.contains("tentative");
            ready && routes.contains("default via fe80::")
        })
        .await;
        assert!(guest.namespace.run_beside("ping -c1 -W5 fd42:1:2:3::1").await.0);
        let answer = dig(&guest, "@fd42:1:2:3::1 +short AAAA one.law.test").await;
        assert_eq!(answer, address);
    });
}
