//! Guests move with their processes and connections: a client counts over one TCP connection while a
//! busybox guest and a stock Debian guest go from machine to machine.

#![allow(clippy::print_stderr, reason = "how long guests were away is of interest")]

use stapes_scenarios::hosts::{
    BUSYBOX_ECHO, Counter, DEBIAN_ECHO, ECHO_PORT, Hosts, busybox, debian,
};

/// A client that waits longer takes the connection for hung. How short it can be is measured by
/// `examples/moves.rs`: here other tests have made the host as busy as it may be.
const GAP_MAX_MS: f64 = 5000.0;
/// Nor does it wait much longer than the guest is away: what it sent meanwhile was kept. What the guest
/// said in its last moment is said again by its kernel, a second after it goes on.
const LONGER_MAX_MS: f64 = 1500.0;

#[tokio::test(flavor = "multi_thread")]
async fn guests_keep_their_connections() {
    let mut hosts = Hosts::new(3);
    hosts.form_cluster().await;
    hosts.join_guests();
    hosts.import(0, &busybox(), "busybox");
    hosts.import(0, &debian(), "debian");

    hosts.hosts[0].stapes(&["launch", "busybox", "one", "--target", "n1"]);
    moves_around(&hosts, "one", BUSYBOX_ECHO).await;

    hosts.hosts[0].stapes(&["launch", "debian", "deb", "--target", "n1"]);
    hosts.systemd_runs(0, "deb").await;
    moves_around(&hosts, "deb", DEBIAN_ECHO).await;
    hosts.systemd_runs(1, "deb").await;

    hosts.assert_each_on_one_machine(&[0, 1, 2], &["one", "deb"]).await;
    hosts.hosts[0].stapes(&["delete", "--force", "one", "deb"]);
}

/// From machine to machine while a client counts.
async fn moves_around(hosts: &Hosts, name: &str, echo: &[&str]) {
    let address = hosts.address(0, name).await;
    hosts.hosts[0].stapes(&[&["exec", name, "--"], echo].concat());
    let (mut gaps, mut longer) = (Vec::new(), Vec::new());
    for to in ["n2", "n3", "n1"] {
        let counter = Counter::connect(&hosts.client, &address, ECHO_PORT);
        let moved = hosts.moved(0, name, to, "required").await;
        let counted = counter.stop();
        let (took, away) = (moved.took.as_millis(), moved.downtime.as_millis());
        eprintln!("{name} to {to}: took {took} ms, downtime {away} ms, {counted:?}");
        moved.phases.iter().for_each(|phase| eprintln!("    {phase}"));
        assert!(counted.whole, "{name} to {to}: {counted:?}");
        assert_eq!(moved.mode, "live");
        gaps.push(counted.gap_ms);
        longer.push(counted.gap_ms - moved.downtime.as_secs_f64() * 1000.0);
    }
    assert!(middle(&longer) < LONGER_MAX_MS, "{name}: its client waited {longer:?} ms longer");
    assert!(middle(&gaps) < GAP_MAX_MS, "{name} was away for {gaps:?} ms");
}

fn middle(of: &[f64]) -> f64 {
    let mut of = of.to_vec();
    of.sort_by(f64::total_cmp);
    of[of.len() / 2]
}
