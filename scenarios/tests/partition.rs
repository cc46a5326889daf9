//! A machine that is cut off stops what may run elsewhere before the others take it over; and it
//! never runs it a second time when it is back.

use std::{
    fs,
    time::{Duration, Instant},
};

use stapes_scenarios::hosts::{Hosts, busybox};

/// Whether the machine has a process of the instance.
fn runs(hosts: &Hosts, at: usize, id: &str) -> bool {
    hosts.hosts[at].traces().cgroups().iter().any(|path| {
        path.to_string_lossy().contains(id)
            && fs::read_to_string(path.join("cgroup.procs"))
                .is_ok_and(|pids| !pids.trim().is_empty())
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn what_moves_away_from_a_lost_machine_ran_once() {
    let mut hosts = Hosts::new(3);
    hosts.form_cluster().await;
    hosts.import(0, &busybox(), "busybox");
    hosts.hosts[0].stapes(&["launch", "busybox", "ha", "--target", "n3"]);
    hosts.hosts[0].stapes(&["launch", "busybox", "plain", "--target", "n3"]);
    let keys = ["replication.target=n2", "replication.interval=10", "cluster.ha=true"];
    for key in keys {
        hosts.hosts[0].stapes(&["config", "set", "ha", key]);
    }
    let id = |value: serde_json::Value| {
        value["config"]["volatile.uuid"].as_str().expect("it has an id").to_owned()
    };
    let ha = id(hosts.instance(0, "ha").await);
    let plain = id(hosts.instance(0, "plain").await);
    hosts
        .wait_for("a replica is there", async || {
            hosts.hosts[0].stapes(&["log", "ha"]).contains("replicated to n2")
        })
        .await;

    hosts.log_is_on_all().await;
    hosts.cut_off(2);
    let since = Instant::now();
    let (mut stopped, mut taken) = (None, None);
    while taken.is_none() {
        let both = runs(&hosts, 2, &ha) && runs(&hosts, 1, &ha);
        assert!(!both, "it runs on both after {:?}", since.elapsed());
        stopped = stopped.or_else(|| (!runs(&hosts, 2, &ha)).then(|| since.elapsed()));
        taken = runs(&hosts, 1, &ha).then(|| since.elapsed());
        assert!(
            since.elapsed() < Duration::from_secs(120),
            "nobody took it over:\n{}",
            hosts.hosts[0].said()
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    eprintln!("fenced after {stopped:?}, taken over after {taken:?}");
    assert!(stopped < taken);
    assert!(runs(&hosts, 2, &plain), "what cannot run elsewhere runs on");
    assert_eq!(hosts.location(0, "ha").await, "n2");
    assert_eq!(hosts.instance(0, "plain").await["status"], "Error");
    // The events tell it in this order, whoever reads them.
    let told = hosts.hosts[1].stapes(&["log", "--flat", "--reverse", "--since", "5m"]);
    let mut rest = told.as_str();
    for word in ["node.lost", "node.fenced", "instance.moved", "instance.started"] {
        let at = rest.find(word).unwrap_or_else(|| panic!("no {word} in its place:\n{told}"));
        rest = &rest[at + word.len()..];
    }

    hosts.reconnect(2);
    hosts
        .wait_for("the machine is back", async || {
            hosts.instance(0, "plain").await["status"] == "Running"
        })
        .await;
    assert_eq!(hosts.location(2, "ha").await, "n2");
    let left = Instant::now();
    while left.elapsed() < Duration::from_secs(5) {
        assert!(!runs(&hosts, 2, &ha), "it never runs it again");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(runs(&hosts, 1, &ha));
    for name in ["ha", "plain"] {
        hosts.hosts[0].stapes(&["delete", "--force", name]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_quorum_writes_are_refused_and_reads_go_on() {
    let mut hosts = one_left_of_three().await;
    hosts
        .wait_for("writes are refused", async || {
            let asked = Instant::now();
            let refused = hosts.hosts[0].try_stapes(&["config", "set", "web", "user.a=1"]);
            let at_once = asked.elapsed() < Duration::from_secs(5);
            let said = text(&refused.stderr);
            !refused.status.success() && at_once && said.contains("n2") && said.contains("n3")
        })
        .await;
    assert!(hosts.hosts[0].stapes(&["list"]).contains("web"));
    hosts.hosts[1].start().await;
    hosts
        .wait_for("writes are taken again", async || {
            hosts.hosts[0].try_stapes(&["config", "set", "web", "user.a=2"]).status.success()
        })
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_that_starts_without_a_quorum_serves_what_it_knew() {
    let mut hosts = one_left_of_three().await;
    hosts.hosts[0].stop().await;
    hosts.hosts[0].start_without_log().await;

    let here = &hosts.hosts[0];
    let listed = here.try_stapes(&["list"]);
    let (table, marked) = (text(&listed.stdout), text(&listed.stderr));
    assert!(table.contains("web"), "{table}{marked}");
    assert!(marked.contains("may be old"), "what is read is marked: {marked}");
    let status = here.try_stapes(&["cluster", "status"]);
    let told = text(&status.stdout);
    for part in ["READS ONLY", "n2 is not heard", "n3 is not heard", "0 of 3 servers", "systemctl"]
    {
        assert!(told.contains(part), "{part}: {told}");
    }
    assert!(!status.status.success(), "scripts are told, too");
    for refused in [&["config", "set", "web", "user.a=1"][..], &["exec", "web", "--", "true"]] {
        let refused = here.try_stapes(refused);
        let said = text(&refused.stderr);
        assert!(!refused.status.success() && said.contains("Nothing can be changed now"), "{said}");
        assert!(said.contains("n2") && said.contains("n3"), "it says who is missing: {said}");
    }
    let ready = here.client().get::<serde_json::Value>("/internal/ready").await;
    let said = ready.expect_err("it is not ready before the log is there").to_string();
    assert!(said.contains("log's servers"), "{said}");

    // Whoever listens now hears what happens once the log is there.
    let mut events = here.client().events(&["lifecycle"], None).await.expect("events");
    hosts.hosts[1].start().await;
    hosts.hosts[0].serves().await;
    hosts
        .wait_for("writes are taken again", async || {
            hosts.hosts[0].try_stapes(&["config", "set", "web", "user.a=2"]).status.success()
        })
        .await;
    let told = async {
        loop {
            let event = events.next().await.expect("a connection").expect("events go on");
            if event.metadata["action"] == "instance-updated" {
                return;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(60), told).await.expect("the change is told");
    hosts
        .wait_for("what is read is marked no more", async || {
            let listed = hosts.hosts[0].try_stapes(&["list"]);
            text(&listed.stdout).contains("web") && listed.stderr.is_empty()
        })
        .await;
    hosts.hosts[0].stapes(&["replay", "--verify"]);
}

/// Three pretended machines with an instance on the first, and the other two gone.
async fn one_left_of_three() -> Hosts {
    let mut hosts = Hosts::simulated(3);
    hosts.form_cluster().await;
    hosts.hosts[0].stapes(&["launch", "demo", "web", "--target", "n1"]);
    hosts.log_is_on_all().await;
    for lost in [1, 2] {
        hosts.hosts[lost].crash_all().await;
    }
    hosts
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
