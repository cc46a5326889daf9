//! Three machines with a replicated log: instances on each from one command line, and a guest with
//! data moved around all three. In the end every instance is on exactly one machine.

#![allow(clippy::print_stderr, reason = "what it took is of interest")]

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
    data_goes_along(&hosts).await;
    incus_moves(&hosts).await;

    let all = ["web", "b1", "b2", "b3", "b4"];
    hosts.assert_each_on_one_machine(&[0, 1, 2], &all).await;
    hosts.hosts[0].stapes(&[&["delete", "--force"], all.as_slice()].concat());
}

/// A Debian guest with data, around all three, stopped and running.
async fn data_goes_along(hosts: &Hosts) {
    hosts.hosts[0].stapes(&["launch", "debian", "web", "--target", "n1"]);
    hosts.systemd_runs(0, "web").await;
    let write = "head -c 200M /dev/urandom > /data && sha256sum /data > /sum && sync";
    hosts.hosts[1].stapes(&["exec", "web", "--", "sh", "-c", write]);
    for (target, mode) in [("n2", "near-live"), ("n3", "stop-copy"), ("n1", "near-live")] {
        let stops = mode == "stop-copy";
        if stops {
            hosts.hosts[0].stapes(&["stop", "web"]);
        }
        let moved = hosts.moved(0, "web", target, "never").await;
        eprintln!("to {target}: {moved:?}");
        assert_eq!(moved.mode, mode);
        if stops {
            hosts.hosts[1].stapes(&["start", "web"]);
        }
        hosts.systemd_runs(2, "web").await;
        hosts.hosts[1].stapes(&["exec", "web", "--", "sha256sum", "--check", "--status", "/sum"]);
    }
    let told = hosts.hosts[1].stapes(&["log", "web"]);
    for words in ["moved from n1 to n2", "moved from n2 to n3", "moved from n3 to n1"] {
        assert!(told.contains(words), "the timeline has {words:?}:\n{told}");
    }
}

/// The peers' own client, on machines that it takes for its own server's.
async fn incus_moves(hosts: &Hosts) {
    let incus = |words: &[&str]| hosts.hosts[1].incus(words);
    let members = incus(&["cluster", "list", "--format", "csv"]);
    for name in ["n1", "n2", "n3"] {
        let line = members.lines().find(|line| line.starts_with(&format!("{name},")));
        assert!(line.is_some_and(|line| line.contains("ONLINE")), "{name} is listed:\n{members}");
    }
    incus(&["launch", "busybox", "b4", "--target", "n3"]);
    assert_eq!(hosts.location(0, "b4").await, "n3");
    // It runs, and goes on doing so.
    incus(&["move", "b4", "--target", "n1"]);
    assert_eq!(hosts.location(2, "b4").await, "n1");
    assert_eq!(hosts.instance(2, "b4").await["status"], "Running");
    incus(&["stop", "--force", "b4"]);
    incus(&["move", "b4", "--target", "n2"]);
    assert_eq!(hosts.location(0, "b4").await, "n2");
    let listed = incus(&["list", "b4", "--format", "csv", "--columns", "nsL"]);
    assert_eq!(listed.trim(), "b4,STOPPED,n2");
    incus(&["start", "b4"]);
}
