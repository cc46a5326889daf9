//! The control plane at scale: nodes join, instances are made and started, and the API lists and gets
//! them; how fast, and in how much memory.
//!
//! `cargo run --release -p stapes-scenarios --example scale [nodes] [instances] [memory|segment]`
//!
//! One process is the deciding side of a member: the log, control, views, and the API on a socket. All
//! nodes' executors are one task that answers what they are told to do, at once. Their guests are
//! pretended; decisions, the log, reports, views and answers are the real ones.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::expect_used,
    reason = "a measurement talks and may panic"
)]

mod answering;
mod house;
mod measure;

use std::time::Instant;

use stapes_core::{command::Command, instance};
use stapes_scenarios::pretend::{instance_of_image, named};

use house::House;
use measure::{Times, rss, stage};

/// Requests that are decided at the same time.
const CLIENTS: usize = 16;
/// Operations under way at most: more requests wait.
const UNDER_WAY_MAX: usize = 512;
/// Decisions that are looked at one by one, on the world as it is at the end.
const LOOKS: usize = 500;

#[tokio::main(flavor = "multi_thread")]
async fn main() {
    let argument = |at| std::env::args().nth(at);
    let number = |at, otherwise: usize| {
        argument(at).map_or(otherwise, |text| text.parse().expect("a number"))
    };
    let (nodes, instances) = (number(1, 1000), number(2, 100_000));
    let kind = argument(3).unwrap_or_else(|| "segment".to_owned());
    println!("{nodes} nodes, {instances} instances, {kind} log; RSS at the start {}", rss());
    let house = House::open(&kind).await;
    house.furnish().await;

    let (since, mut times) = (Instant::now(), Times::default());
    for number in 1..nodes {
        let before = Instant::now();
        house.join(number).await;
        times.add(before);
    }
    house.quiet().await;
    stage("join", nodes - 1, since, times);

    let since = Instant::now();
    let create = |number: usize| Command::CreateInstance(Box::new(wanted(number)));
    let times = house.submit_all(instances, create).await;
    house.quiet().await;
    stage("create", instances, since, times);

    let since = Instant::now();
    let start = |number: usize| Command::StartInstance { target: named(&name(number)) };
    let times = house.submit_all(instances, start).await;
    house.quiet().await;
    stage("start", instances, since, times);
    house.check(nodes, instances);

    house.decide("placement", LOOKS, |number| create(instances + number));
    house.decide("stop", LOOKS, |number| Command::StopInstance {
        target: named(&name(number * (instances / LOOKS).max(1) % instances)),
        force: true,
        timeout: std::time::Duration::ZERO,
    });
    house.spread(nodes);
    house.snapshot();
    house.views_hold().await;
    read(&house, instances).await;
    println!("RSS at the end {}", rss());
}

fn name(number: usize) -> String {
    format!("c{number:06}")
}

fn wanted(number: usize) -> instance::Create {
    let mut wanted = instance_of_image(&name(number));
    wanted.config = [
        ("limits.memory".to_owned(), "256MiB".to_owned()),
        ("user.shard".to_owned(), (number % 1000).to_string()),
    ]
    .into();
    wanted
}

/// What clients of the dialect ask.
async fn read(house: &House, instances: usize) {
    let mut times = Times::default();
    let since = Instant::now();
    let gets = instances.min(2000);
    for number in 0..gets {
        let before = Instant::now();
        let path = format!("/1.0/instances/{}", name(number * instances / gets));
        let value: serde_json::Value = house.client.get(&path).await.unwrap();
        times.add(before);
        assert_eq!(value["status"], "Running");
    }
    stage("get one", gets, since, times);
    for (what, path, expected) in [
        ("list of URLs", "/1.0/instances", Some(instances)),
        ("list of objects", "/1.0/instances?recursion=1", Some(instances)),
        (
            "list by one field",
            "/1.0/instances?recursion=1&filter=config.user.shard eq 7",
            Some(instances.div_ceil(1000)),
        ),
        (
            "list of two names",
            "/1.0/instances?recursion=1&filter=name eq c000001 or name eq c000002",
            Some(2),
        ),
        ("list of members", "/1.0/cluster/members?recursion=1", None),
    ] {
        for round in ["first", "again"] {
            let before = Instant::now();
            let path = path.replace(' ', "%20");
            let download = house.client.download(&path).await.unwrap();
            let bytes = download.bytes().await.unwrap();
            let took = before.elapsed();
            let value: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
            let count = value["metadata"].as_array().map_or(0, Vec::len);
            assert!(expected.is_none_or(|expected| expected == count), "{what}: {count}");
            println!("{what:>18} ({round}): {count} in {took:.1?}, {} KiB", bytes.len() >> 10);
        }
    }
}
