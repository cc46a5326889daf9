//! How long guests are away when they move between three machines, as a table: cold, near-live and
//! live, a Debian guest with 200 MB written.
//!
//! `cargo run --release -p stapes-scenarios --features host --example moves [keep]`; with `keep` the
//! machines stay until the end of standard input.

#![allow(clippy::print_stdout, reason = "the table is what it is for")]

use std::io::Read as _;

use stapes_scenarios::hosts::{Counter, DEBIAN_ECHO, ECHO_PORT, Hosts, Moved, debian};

/// Each way so often, from machine to machine.
const TIMES: usize = 5;
const WRITE: &str = "head -c 200M /dev/urandom > /data && sync";

#[tokio::main]
async fn main() {
    let mut hosts = Hosts::new(3);
    hosts.form_cluster().await;
    hosts.join_guests();
    hosts.import(0, &debian(), "debian");
    hosts.hosts[0].stapes(&["launch", "debian", "web", "--target", "n1"]);
    hosts.systemd_runs(0, "web").await;
    hosts.hosts[0].stapes(&["exec", "web", "--", "sh", "-c", WRITE]);
    // So that every machine has the image before anything is measured.
    for to in ["n2", "n3", "n1"] {
        hosts.moved(0, "web", to, "never").await;
    }
    println!("{:10} {:>9} {:>9} {:>9} {:>9}", "", "took", "downtime", "client", "sent");
    let mut at = 0;
    for way in ["cold", "near-live", "live"] {
        for _ in 0..TIMES {
            at = (at + 1) % hosts.hosts.len();
            let to = hosts.hosts[at].name.clone();
            let (moved, gap) = measured(&hosts, way, &to).await;
            let Moved { mode, downtime, bytes, took, phases } = moved;
            let gap = gap.map_or_else(|| "-".to_owned(), |gap| format!("{gap:.0}"));
            println!(
                "{mode:10} {:>6} ms {:>6} ms {gap:>6} ms {:>5} MiB",
                took.as_millis(),
                downtime.as_millis(),
                bytes >> 20
            );
            phases.iter().for_each(|phase| println!("    {phase}"));
        }
    }
    if std::env::args().nth(1).as_deref() == Some("keep") {
        for host in &hosts.hosts {
            println!("{} {} {}", host.name, host.namespace().name(), host.directory().display());
        }
        println!("client {}", hosts.client.name());
        let _end = std::io::stdin().read_to_string(&mut String::new());
    }
    hosts.hosts[0].stapes(&["delete", "--force", "web"]);
}

/// Moves it, and says what a client saw whose connection stays.
async fn measured(hosts: &Hosts, way: &str, to: &str) -> (Moved, Option<f64>) {
    match way {
        "cold" => {
            hosts.hosts[0].stapes(&["stop", "web"]);
            let moved = hosts.moved(0, "web", to, "never").await;
            hosts.hosts[0].stapes(&["start", "web"]);
            hosts.systemd_runs(0, "web").await;
            (moved, None)
        }
        "near-live" => {
            let moved = hosts.moved(0, "web", to, "never").await;
            hosts.systemd_runs(0, "web").await;
            (moved, None)
        }
        _ => {
            let echo = [&["exec", "web", "--"], DEBIAN_ECHO].concat();
            let _runs_already = hosts.hosts[0].try_stapes(&echo);
            let address = hosts.address(0, "web").await;
            let counter = Counter::connect(&hosts.client, &address, ECHO_PORT);
            let moved = hosts.moved(0, "web", to, "required").await;
            let counted = counter.stop();
            assert!(counted.whole, "{counted:?}");
            (moved, Some(counted.gap_ms))
        }
    }
}
