//! Three machines with a replicated log: instances on each from one command line, and a guest with
//! data moved around all three. In the end every instance is on exactly one machine.

#![allow(clippy::print_stderr, reason = "what it took is of interest")]

use std::time::Instant;

use stapes_scenarios::hosts::{Hosts, busybox, debian};

#[tokio::test(flavor = "multi_thread")]
async fn instances_move_around_three_machines() {
    let mut hosts = Hosts::new(3);
    hosts.form_cluster().await;
    hosts.import(0, &busybox(), "busybox");
    hosts.import(0, &debian(), "debian");

    // One command line, instances on each.
    for (name, target) in [("b1", "n1"), ("b2", "n2"), ("b3", "n3")] {
        hosts.hosts[0].stapes(&["launch", "busybox", name, "--target", target]);
        assert_eq!(hosts.location(1, name).await, target);
    }
    hosts.assert_each_on_one_machine(&[0, 1, 2], &["b1", "b2", "b3"]).await;

    // A Debian guest with data, around all three.
    hosts.hosts[0].stapes(&["launch", "debian", "web", "--target", "n1"]);
    hosts.systemd_runs(0, "web").await;
    let write = "head -c 200M /dev/urandom > /data && sha256sum /data > /sum && sync";
    hosts.hosts[1].stapes(&["exec", "web", "--", "sh", "-c", write]);
    for (target, how) in [("n2", "never"), ("n3", "never"), ("n1", "never")] {
        let began = Instant::now();
        let said = hosts.hosts[0].stapes(&["move", "web", "--target", target, "--live", how]);
        eprintln!("move to {target}, live {how}: {:.0?} {}", began.elapsed(), said.trim());
        hosts.systemd_runs(2, "web").await;
        hosts.hosts[1].stapes(&["exec", "web", "--", "sha256sum", "--check", "--status", "/sum"]);
    }
    hosts.assert_each_on_one_machine(&[0, 1, 2], &["web", "b1", "b2", "b3"]).await;
    eprintln!("{}", hosts.hosts[1].stapes(&["log", "web"]));
    for name in ["web", "b1", "b2", "b3"] {
        hosts.hosts[0].stapes(&["delete", "--force", name]);
    }
}
