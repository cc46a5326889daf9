//! Exit codes, and every word that is said, against a pretend daemon.

use crate::pretend::{Asked, Daemon, Reply, header, stapes, told};
use serde_json::{Value, json};

const OPERATION: &str = "0193a4b2-7c11-7000-8000-000000000001";

fn operation(status: &str, code: u16, err: &str) -> Value {
    json!({
        "id": OPERATION, "class": "task", "description": "Starting instance",
        "created_at": "2026-11-21T10:00:00Z", "updated_at": "2026-11-21T10:00:00Z",
        "status": status, "status_code": code, "err": err,
        "resources": { "instances": ["/1.0/instances/web"] }, "metadata": null,
        "may_cancel": false, "location": "none",
    })
}

fn web() -> Value {
    json!({
        "name": "web", "status": "Running", "status_code": 103, "type": "container",
        "architecture": "x86_64", "description": "", "ephemeral": false, "stateful": false,
        "profiles": ["default"], "config": { "limits.memory": "2GiB" }, "devices": {},
        "expanded_config": { "limits.memory": "2GiB" }, "expanded_devices": {},
        "created_at": "2026-11-21T10:00:00Z", "last_used_at": "0001-01-01T00:00:00Z",
        "location": "none", "project": "default",
        "state": { "status": "Running", "status_code": 103, "pid": 4242, "processes": 7,
            "network": { "eth0": { "type": "broadcast", "state": "up", "addresses": [
                { "family": "inet", "address": "10.4.0.17", "netmask": "24", "scope": "global" },
                { "family": "inet6", "address": "fe80::1", "netmask": "64", "scope": "link" },
            ] } } },
        "snapshots": null, "backups": null,
    })
}

fn path(asked: &Asked) -> &str {
    asked.path.split('?').next().unwrap_or_default()
}

/// A daemon with one instance, `web`.
fn daemon() -> Daemon {
    Daemon::start(|asked| match (asked.method.as_str(), path(asked)) {
        ("GET", "/1.0/instances") if asked.path.contains("recursion=") => {
            Reply::Sync(json!([web()]))
        }
        ("GET", "/1.0/instances") => Reply::Sync(json!(["/1.0/instances/web"])),
        ("GET", "/1.0/instances/web") => Reply::Sync(web()),
        ("PUT", "/1.0/instances/web") => Reply::Begun(operation("Running", 103, "")),
        ("PUT" | "POST", "/1.0/instances/web/state" | "/1.0/instances") => {
            Reply::Begun(operation("Running", 103, ""))
        }
        ("GET", wait) if wait.ends_with("/wait") => Reply::Sync(operation("Success", 200, "")),
        _ => Reply::Refused(404, "Instance not found", json!({ "code": "not-found" })),
    })
}

#[test]
fn no_daemon_is_exit_seven_and_says_what_to_start() {
    let dir = tempfile::tempdir().unwrap();
    insta::assert_snapshot!(told(&mut stapes(dir.path(), &["list"]), dir.path()));
}

#[test]
fn a_misspelt_name_is_exit_three_and_names_the_nearest() {
    let daemon = daemon();
    insta::assert_snapshot!(told(&mut daemon.stapes(&["start", "wbe"]), daemon.dir.path()));
}

#[test]
fn a_misspelt_verb_is_exit_two_and_names_the_nearest() {
    let dir = tempfile::tempdir().unwrap();
    insta::assert_snapshot!(told(&mut stapes(dir.path(), &["lanch"]), dir.path()));
}

#[test]
fn a_list_is_a_table_and_data_for_programs() {
    let daemon = daemon();
    let dir = daemon.dir.path();
    insta::assert_snapshot!("list_table", told(&mut daemon.stapes(&["list"]), dir));
    let csv = told(&mut daemon.stapes(&["list", "-f", "csv", "-c", "ns4,limits.memory"]), dir);
    assert_eq!(csv, "exit 0\n--- stdout\nweb,RUNNING,10.4.0.17 (eth0),2GiB\n--- stderr\n");
    let lines = daemon.stapes(&["list", "-f", "jsonl"]).output().unwrap().stdout;
    assert_eq!(serde_json::from_slice::<Value>(&lines).unwrap(), web());
}

#[test]
fn a_filter_is_the_daemons_work() {
    let daemon = daemon();
    daemon.stapes(&["list", "web", "state=running", "--fast"]).output().unwrap();
    let asked = daemon.asked();
    assert_eq!(
        asked[0].path,
        "/1.0/instances?recursion=1&filter=name%20eq%20%28%5Eweb%24%7C%5Eweb.%2A%29%20and%20\
         status%20eq%20running&project=default"
    );
}

#[test]
fn a_start_is_followed_to_its_end() {
    let daemon = daemon();
    let text = told(&mut daemon.stapes(&["start", "web", "-m", "ticket 812"]), daemon.dir.path());
    assert_eq!(text, "exit 0\n--- stdout\n--- stderr\nweb is running\n");
    let asked = daemon.asked();
    let put = asked.iter().find(|asked| asked.method == "PUT").unwrap();
    assert_eq!(put.body["action"], "start");
    assert_eq!(header(&put.headers, "x-stapes-reason"), Some("ticket%20812"));
}

#[test]
fn without_waiting_the_operations_id_is_the_data() {
    let daemon = daemon();
    let text = told(&mut daemon.stapes(&["stop", "web", "--no-wait"]), daemon.dir.path());
    assert_eq!(text, format!("exit 0\n--- stdout\n{OPERATION}\n--- stderr\n"));
}

#[test]
fn a_drawn_name_is_data() {
    let daemon = daemon();
    let output = daemon.stapes(&["launch", "debian/12"]).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "web\n");
    let post = daemon.asked().into_iter().find(|asked| asked.method == "POST").unwrap();
    assert_eq!(post.body["source"]["alias"], "debian/12");
    assert_eq!(post.body["start"], true);
}

#[test]
fn a_failed_operation_is_exit_one_with_its_reason() {
    let daemon = Daemon::start(|asked| match (asked.method.as_str(), path(asked)) {
        ("GET", wait) if wait.ends_with("/wait") => {
            Reply::Sync(operation("Failure", 400, "no space left in pool default"))
        }
        ("GET", _) => Reply::Sync(web()),
        _ => Reply::Begun(operation("Running", 103, "")),
    });
    insta::assert_snapshot!(told(&mut daemon.stapes(&["start", "web"]), daemon.dir.path()));
}

#[test]
fn a_refusal_shows_facts_and_hint() {
    let daemon = Daemon::start(|_| {
        let advice = json!({
            "code": "no-room", "hint": "stapes storage set default size=30GiB",
            "facts": { "free": "1.2GiB", "wanted": "20GiB" },
        });
        Reply::Refused(409, "The pool has no room", advice)
    });
    let mut command = daemon.stapes(&["storage", "create", "fast", "btrfs"]);
    insta::assert_snapshot!(told(&mut command, daemon.dir.path()));
}

#[test]
fn some_of_several_is_exit_eight() {
    let daemon = daemon();
    let output = daemon.stapes(&["pause", "web", "nope"]).output().unwrap();
    assert_eq!(output.status.code(), Some(8));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("1 of 2 failed") && said.contains("nope"), "{said}");
}

#[test]
fn a_wait_that_runs_out_is_exit_six_and_the_operation_goes_on() {
    let daemon = Daemon::start(|asked| match asked.method.as_str() {
        "GET" if asked.path.contains("/wait") => Reply::Silence,
        "GET" => Reply::Sync(web()),
        _ => Reply::Begun(operation("Running", 103, "")),
    });
    let mut command = daemon.stapes(&["stop", "web", "--wait-timeout", "0s"]);
    insta::assert_snapshot!(told(&mut command, daemon.dir.path()));
}

#[test]
fn a_set_writes_back_under_the_etag_it_read() {
    let daemon = daemon();
    let output = daemon.stapes(&["config", "set", "web", "limits.memory=4GiB"]).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let put = daemon.asked().into_iter().find(|asked| asked.method == "PUT").unwrap();
    assert_eq!(put.body["config"]["limits.memory"], "4GiB");
    assert_eq!(put.body["profiles"], json!(["default"]));
    assert_eq!(put.body.get("status"), None, "only what may be written goes back");
    assert_eq!(header(&put.headers, "if-match"), Some("\"7\""));
}

#[test]
fn a_question_without_a_terminal_is_exit_two() {
    let daemon = daemon();
    let output = daemon.stapes(&["init"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("stapes init --auto"), "{said}");
    assert!(daemon.asked().is_empty());
}

#[test]
fn ctrl_c_detaches_and_says_how_to_return() {
    let (sender, receiver) = std::sync::mpsc::channel();
    let sender = std::sync::Mutex::new(sender);
    let daemon = Daemon::start(move |asked| match asked.method.as_str() {
        "GET" if asked.path.contains("/wait") => {
            sender.lock().unwrap().send(()).unwrap();
            Reply::Silence
        }
        "GET" => Reply::Sync(web()),
        _ => Reply::Begun(operation("Running", 103, "")),
    });
    let child = daemon
        .stapes(&["stop", "web"])
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    // It waits for the operation now.
    receiver.recv_timeout(std::time::Duration::from_secs(10)).unwrap();
    let pid = child.id().to_string();
    assert!(std::process::Command::new("kill").args(["-INT", &pid]).status().unwrap().success());
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(
        said,
        format!(
            "detached; op {OPERATION} goes on.\nReattach: stapes op watch {OPERATION}   \
             Cancel: stapes op cancel {OPERATION}\n"
        )
    );
}
