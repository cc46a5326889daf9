//! Two machines, the second let in by a token of the peers' client: instances are copied from one to
//! the other by both clients, with what is in them, and nothing is left of a copy that fails.

use stapes_scenarios::hosts::{Hosts, busybox};

/// The token is what stands alone in its line.
fn token_in(said: &str) -> &str {
    let alone = |line: &&str| line.len() > 100 && !line.contains(' ');
    said.lines().map(str::trim).find(alone).unwrap_or_else(|| panic!("no token in {said:?}"))
}

fn content(hosts: &Hosts, at: usize, name: &str) -> String {
    hosts.hosts[at].stapes(&["exec", name, "--", "cat", "/kept"]).trim().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn instances_are_copied_to_another_machine() {
    let mut hosts = Hosts::new(2);
    for host in &mut hosts.hosts {
        host.start().await;
    }
    hosts.hosts[0].stapes(&["init", "--auto"]);
    let listens = [hosts.hosts[0].listens(), hosts.hosts[1].listens()];
    hosts.hosts[0].stapes(&["cluster", "enable", "n1", "--address", &listens[0]]);
    hosts.hosts[0].serves().await;
    let said = hosts.hosts[0].incus(&["cluster", "add", "n2"]);
    let join = ["cluster", "join", token_in(&said), "--address", &listens[1]];
    hosts.hosts[1].stapes(&join);
    hosts.hosts[1].serves().await;

    hosts.import(0, &busybox(), "busybox");
    hosts.hosts[0].stapes(&["launch", "busybox", "web", "--target", "n1"]);
    let write = |what: &str| format!("echo {what} > /kept && sync");
    hosts.hosts[0].stapes(&["exec", "web", "--", "sh", "-c", &write("first")]);
    hosts.hosts[0].stapes(&["snapshot", "create", "web", "s0"]);
    hosts.hosts[0].stapes(&["exec", "web", "--", "sh", "-c", &write("second")]);

    // A running source, with its snapshots, asked for at either member and by either client.
    hosts.hosts[0].stapes(&["copy", "web", "web2", "--target", "n2"]);
    hosts.hosts[1].incus(&["copy", "web", "web3", "--target", "n2"]);
    hosts.hosts[1].stapes(&["copy", "web/s0", "old", "--target", "n2"]);
    for (name, kept) in [("web2", "second"), ("web3", "second"), ("old", "first")] {
        assert_eq!(hosts.location(0, name).await, "n2");
        hosts.hosts[0].stapes(&["start", name]);
        assert_eq!(content(&hosts, 0, name), kept, "{name}");
    }
    hosts.hosts[0].stapes(&["stop", "--force", "web2"]);
    hosts.hosts[0].stapes(&["snapshot", "restore", "web2", "s0"]);
    hosts.hosts[0].stapes(&["start", "web2"]);
    assert_eq!(content(&hosts, 1, "web2"), "first", "its snapshots came with it");
    assert_eq!(content(&hosts, 1, "web"), "second", "the source is as it was");
    hosts.assert_each_on_one_machine(&[0, 1], &["web", "web2", "web3", "old"]).await;

    // Back, without the snapshots; and beside its source where nothing else is asked for.
    hosts.hosts[0].stapes(&["copy", "web2", "back", "--target", "n1", "--instance-only"]);
    hosts.hosts[0].stapes(&["copy", "web2", "near"]);
    assert_eq!(hosts.location(1, "back").await, "n1");
    assert_eq!(hosts.location(1, "near").await, "n2");
    let nowhere = hosts.hosts[0].try_stapes(&["copy", "web", "lost", "--target", "n9"]);
    let told = String::from_utf8_lossy(&nowhere.stderr);
    assert!(!nowhere.status.success() && told.contains("member not found"), "{told}");
    for name in ["web", "web2", "web3", "old", "back", "near"] {
        hosts.hosts[0].stapes(&["delete", "--force", name]);
    }
}
