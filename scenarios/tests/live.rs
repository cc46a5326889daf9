//! Guests move with their processes and connections: a client counts over one TCP connection while the
//! guest goes from machine to machine.

#![allow(clippy::print_stderr, reason = "what it took is of interest")]

use stapes_scenarios::hosts::{Counted, Counter, Hosts, busybox};

const PORT: u16 = 7007;
/// The longest that a client may wait.
const GAP_MAX_MS: f64 = 1000.0;

async fn moved(hosts: &Hosts, counter: Counter, name: &str, to: &str) -> Counted {
    let began = std::time::Instant::now();
    let words = ["move", name, "--target", to, "--live", "required"];
    let said = hosts.hosts[0].stapes(&words);
    eprintln!("{name} to {to}: {:.0?} {}", began.elapsed(), said.trim());
    assert_eq!(hosts.location(1, name).await, to);
    // It still counts, now over there.
    std::thread::sleep(std::time::Duration::from_millis(300));
    let counted = counter.stop();
    eprintln!("{name} to {to}: {counted:?}");
    assert!(counted.whole, "{name} to {to}: {counted:?}");
    assert!(counted.gap_ms < GAP_MAX_MS, "{name} to {to}: {counted:?}");
    counted
}

async fn formed() -> Hosts {
    let mut hosts = Hosts::new(3);
    hosts.form_cluster().await;
    hosts.join_guests();
    hosts
}

#[tokio::test(flavor = "multi_thread")]
async fn a_busybox_guest_keeps_its_connection() {
    let hosts = formed().await;
    hosts.import(0, &busybox(), "busybox");
    hosts.hosts[0].stapes(&["launch", "busybox", "one", "--target", "n1"]);
    let address = hosts.address(0, "one").await;
    let serve =
        format!("busybox setsid busybox nc -ll -p {PORT} -e /bin/cat </dev/null >/dev/null 2>&1 &");
    hosts.hosts[0].stapes(&["exec", "one", "--", "sh", "-c", &serve]);
    for to in ["n2", "n3", "n1"] {
        let counter = Counter::connect(&hosts.client, &address, PORT);
        moved(&hosts, counter, "one", to).await;
    }
    eprintln!("{}", hosts.hosts[2].stapes(&["log", "one"]));
    hosts.hosts[0].stapes(&["delete", "--force", "one"]);
}
