//! Guests move with their processes and connections: a client counts over one TCP connection while a
//! busybox guest and a stock Debian guest go from machine to machine.

use stapes_scenarios::hosts::{Counted, Counter, Hosts, busybox, debian};

const PORT: u16 = 7007;
/// The longest that a client may wait.
const GAP_MAX_MS: f64 = 1000.0;

/// Gives the connection back what it sends; Debian's smallest system has perl.
const ECHO: &str = "use Socket; socket(L, PF_INET, SOCK_STREAM, 0); setsockopt(L, SOL_SOCKET, SO_REUSEADDR, 1); \
     bind(L, sockaddr_in(7007, INADDR_ANY)); listen(L, 5); \
     while (accept(C, L)) { next if fork; while (sysread(C, my $b, 4096)) { syswrite(C, $b) } exit }";

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

#[tokio::test(flavor = "multi_thread")]
async fn a_debian_guest_keeps_its_connection() {
    let hosts = formed().await;
    hosts.import(0, &debian(), "debian");
    hosts.hosts[0].stapes(&["launch", "debian", "deb", "--target", "n1"]);
    hosts.systemd_runs(0, "deb").await;
    let address = hosts.address(0, "deb").await;
    hosts.hosts[0].stapes(&["exec", "deb", "--", "systemd-run", "perl", "-e", ECHO]);
    for to in ["n2", "n3", "n1"] {
        let counter = Counter::connect(&hosts.client, &address, PORT);
        moved(&hosts, counter, "deb", to).await;
        hosts.systemd_runs(1, "deb").await;
    }
    eprintln!("{}", hosts.hosts[2].stapes(&["log", "deb"]));
    hosts.hosts[0].stapes(&["delete", "--force", "deb"]);
}
