//! What reserving an address costs, with few and with many guests there already.
//!
//! `cargo bench -p stapes-drivers --features host --bench network`; needs root, touches nothing
//! outside a network namespace of its own.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a bench")]

#[path = "../tests/network/world.rs"]
#[allow(dead_code, reason = "the tests need more of it")]
mod world;

use std::time::{Duration, Instant};

use stapes_core::{
    address::host_interface_name,
    ids::InstanceId,
    port::network::Networks,
    spec::{MacAddress, NetworkSpec, Reservation},
};
use world::{World, in_a_new_world};

const ROUNDS: u32 = 40;

fn main() {
    in_a_new_world(|| async {
        let world = World::new();
        let mut spec = world.network();
        spec.ipv4 = spec.ipv4.map(|mut ipv4| {
            ipv4.prefix = 16;
            ipv4.gateway = [10, 213, 0, 1].into();
            ipv4
        });
        let start = Instant::now();
        world.networks.ensure_network(&spec).await.unwrap();
        println!("network made                      {:>9.2?}", start.elapsed());
        let start = Instant::now();
        world.networks.ensure_network(&spec).await.unwrap();
        println!("network there already             {:>9.2?}", start.elapsed());

        let mut there = 0;
        for guests in [0, 100, 1000, 5000] {
            let start = Instant::now();
            for number in there..guests {
                reserve(&world, &guest(&spec, number)).await;
            }
            world.networks.settle().await.unwrap();
            println!(
                "{:>4} more guests at once          {:>9.2?}",
                guests - there,
                start.elapsed()
            );
            there = guests;
            let (mut reserving, mut settling) = (Vec::new(), Vec::new());
            for round in 0..ROUNDS {
                let guest = guest(&spec, 10_000 + round);
                let start = Instant::now();
                reserve(&world, &guest).await;
                reserving.push(start.elapsed());
                world.networks.settle().await.unwrap();
                settling.push(start.elapsed());
                world.networks.reserve(guest.instance, &[]).await.unwrap();
                world.networks.settle().await.unwrap();
            }
            println!(
                "one more beside {guests:>4}: reserve {:>9.2?}, and settle {:>9.2?} (slowest {:.2?})",
                median(&mut reserving),
                median(&mut settling),
                settling.last().unwrap(),
            );
        }
        let start = Instant::now();
        world.networks.settle().await.unwrap();
        println!("settle with nothing to do         {:>9.2?}", start.elapsed());
    });
}

async fn reserve(world: &World, guest: &Reservation) {
    world.networks.reserve(guest.instance, std::slice::from_ref(guest)).await.unwrap();
}

fn guest(spec: &NetworkSpec, number: u32) -> Reservation {
    let hostname = format!("guest-{number}");
    let instance = InstanceId::derive(&[&hostname]);
    let mut reservation =
        stapes_core::port::network::laws::Example::new(&spec.bridge, 0).reservation(&hostname, 2);
    reservation.instance = instance;
    reservation.nic.network = spec.network;
    // Not derived: of so many, two would be the same.
    let [a, b, c, d] = number.to_be_bytes();
    reservation.nic.mac = MacAddress([2, 0, a, b, c, d]);
    reservation.nic.host_name = host_interface_name(instance, "eth0");
    reservation.nic.ipv4 = Some(std::net::Ipv4Addr::from(0x0ad5_0002 + number));
    reservation
}

fn median(times: &mut [Duration]) -> Duration {
    times.sort();
    times[times.len() / 2]
}
