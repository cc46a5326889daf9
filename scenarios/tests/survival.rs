//! A machine is emptied and filled again; a machine dies with all that runs the cluster on it, while
//! somebody changes things without a pause. Nothing that was acknowledged is lost or done twice, and
//! every instance runs on exactly one machine.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use stapes_scenarios::hosts::{Host, Hosts, busybox};
use tokio::{runtime::Handle, task::block_in_place};

/// Sets a key of `b1` again and again until told to stop; answers how often it was acknowledged.
fn write(host: &Host, stop: &AtomicBool) -> u64 {
    let mut next = 1;
    while !stop.load(Ordering::SeqCst) {
        let pair = format!("user.count={next}");
        let asked = host.try_stapes(&["config", "set", "b1", &pair]);
        next += u64::from(asked.status.success());
    }
    next - 1
}

fn id_of(value: &serde_json::Value) -> String {
    value["config"]["volatile.uuid"].as_str().expect("it has an id").to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_is_emptied_and_filled_again() {
    let mut hosts = Hosts::new(3);
    hosts.form_cluster().await;
    hosts.import(0, &busybox(), "busybox");
    for (name, target) in [("b1", "n1"), ("b2", "n2"), ("b3", "n2")] {
        hosts.hosts[0].stapes(&["launch", "busybox", name, "--target", target]);
    }
    hosts.hosts[0].stapes(&["stop", "--force", "b3"]);
    hosts.hosts[2].incus(&["cluster", "evacuate", "n2", "--force"]);
    for name in ["b2", "b3"] {
        assert_ne!(hosts.location(0, name).await, "n2");
    }
    assert!(hosts.hosts[0].incus(&["cluster", "list"]).contains("EVACUATED"));
    let refused = hosts.hosts[0].try_stapes(&["launch", "busybox", "b4", "--target", "n2"]);
    assert!(!refused.status.success(), "an evacuated machine takes nothing");
    hosts.assert_each_on_one_machine(&[0, 1, 2], &["b1", "b2"]).await;

    hosts.hosts[1].incus(&["cluster", "restore", "n2", "--force"]);
    for name in ["b2", "b3"] {
        assert_eq!(hosts.location(0, name).await, "n2");
    }
    assert_eq!(hosts.instance(0, "b3").await["status"], "Stopped");
    hosts.assert_each_on_one_machine(&[0, 1, 2], &["b1", "b2"]).await;
    for name in ["b1", "b2", "b3"] {
        hosts.hosts[0].stapes(&["delete", "--force", name]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_dies_with_its_servers() {
    let mut hosts = Hosts::new(3);
    hosts.form_cluster().await;
    hosts.import(0, &busybox(), "busybox");
    for (name, target) in [("b1", "n1"), ("b2", "n2"), ("b3", "n3"), ("ha", "n3")] {
        hosts.hosts[0].stapes(&["launch", "busybox", name, "--target", target]);
    }
    hosts.hosts[1].stapes(&["exec", "ha", "--", "sh", "-c", "echo kept > /data; sync"]);
    let keys = ["replication.target=n2", "replication.interval=10", "cluster.ha=true"];
    hosts.hosts[0].stapes(&[&["config", "set", "ha"], &keys[..]].concat());
    hosts
        .wait_for("a replica is there", async || {
            hosts.hosts[0].stapes(&["log", "ha"]).contains("replicated to n2")
        })
        .await;
    let ha = id_of(&hosts.instance(0, "ha").await);

    hosts.log_is_on_all().await;
    let stop = AtomicBool::new(false);
    let mut dying = hosts.hosts.remove(2);
    let (acknowledged, (shown, taken)) = block_in_place(|| {
        std::thread::scope(|scope| {
            let writer = scope.spawn(|| write(&hosts.hosts[0], &stop));
            let times = Handle::current().block_on(dies(&hosts, &mut dying, &ha));
            stop.store(true, Ordering::SeqCst);
            (writer.join().expect("the writer ends"), times)
        })
    });
    eprintln!(
        "shown after {shown:.1?}, taken over after {taken:.1?}, {acknowledged} changes meanwhile"
    );
    assert!(dying.has_guest(&id_of(&hosts.instance(0, "b3").await)), "what cannot move runs on");
    hosts.hosts[0].stapes(&["launch", "busybox", "b4", "--target", "n2"]);
    let status = hosts.hosts[0].stapes(&["cluster", "status"]);
    assert!(status.contains("n3"), "who is missing is told:\n{status}");

    // It comes back and catches up by itself.
    dying.start().await;
    hosts.hosts.push(dying);
    hosts
        .wait_for("b3 is back", async || hosts.instance(2, "b3").await["status"] == "Running")
        .await;
    let names = ["b1", "b2", "b3", "b4", "ha"];
    hosts.assert_each_on_one_machine(&[0, 1, 2], &names).await;
    assert_eq!(hosts.location(2, "ha").await, "n2");
    assert_eq!(hosts.hosts[2].stapes(&["exec", "ha", "--", "cat", "/data"]).trim(), "kept");

    let log = ["log", "b1", "--flat", "--limit", "100000", "--format", "csv,noheader"];
    let told = hosts.hosts[2].stapes(&log);
    for number in 1..=acknowledged {
        let times = told.matches(&format!("→ {number},")).count();
        assert_eq!(times, 1, "change {number} is there once:\n{told}");
    }
    for host in &hosts.hosts {
        host.stapes(&["replay", "--verify"]);
    }
    for name in names {
        hosts.hosts[0].stapes(&["delete", "--force", name]);
    }
}

/// The machine dies, and what can run elsewhere does so in the end: after how long the one is shown
/// and the other done.
async fn dies(hosts: &Hosts, dying: &mut Host, ha: &str) -> (Duration, Duration) {
    dying.crash_all().await;
    let since = Instant::now();
    hosts.hosts[1].stapes(&["list"]);
    let listed = since.elapsed();
    assert!(listed < Duration::from_secs(2), "lists wait for nobody: {listed:?}");
    hosts
        .wait_for("b3 is shown as unreachable", async || {
            hosts.instance(1, "b3").await["status"] == "Error"
        })
        .await;
    let shown = since.elapsed();
    // The guests of a daemon that was killed run on; this one's lease ends.
    hosts
        .wait_for("ha is taken over", async || {
            let taken = hosts.hosts[1].has_guest(ha);
            assert!(!(taken && dying.has_guest(ha)), "it runs on both");
            taken
        })
        .await;
    (shown, since.elapsed())
}
