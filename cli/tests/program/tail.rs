//! `tail`, `log` and their cursor against a pretend log.

use crate::pretend::{Asked, Daemon, Reply};
use serde_json::{Value, json};

fn event(sequence: u64, ordinal: u32, kind: &str) -> Value {
    json!({
        "specversion": "1.0", "type": format!("io.stapes.instance.{kind}.v1"),
        "id": format!("{sequence}-{ordinal}"), "subject": "default/web",
        "time": "2026-11-21T10:41:03Z", "sequence": sequence.to_string(),
        "resource": "instance/web", "revision": sequence,
        "correlationid": "0193a4b2-7c11-7000-8000-000000000001",
        "actor": { "kind": "unix", "name": "alice" }, "reason": "blog",
        "data": { "config": { "limits.memory": "4GiB" } },
    })
}

fn caught_up(sequence: u64) -> Value {
    json!({ "control": "caught-up", "sequence": sequence })
}

/// Two records: the first has two events, the second one.
fn log_after(asked: &Asked) -> Vec<Value> {
    let since = asked.path.split(['?', '&']).find_map(|pair| pair.strip_prefix("since="));
    let since: u64 = since.and_then(|text| text.parse().ok()).unwrap_or(0);
    let all = [event(1, 0, "created"), event(1, 1, "config-changed"), event(2, 0, "started")];
    let kept = all.into_iter().filter(|line| {
        line["sequence"].as_str().and_then(|text| text.parse::<u64>().ok()) > Some(since)
    });
    kept.chain([caught_up(2)]).collect()
}

fn daemon(hold: bool) -> Daemon {
    Daemon::start(move |asked| {
        if asked.path.starts_with("/1.0/log") {
            Reply::Lines { lines: log_after(asked), hold }
        } else {
            Reply::Sync(json!({}))
        }
    })
}

fn ids(stdout: &[u8]) -> Vec<String> {
    String::from_utf8_lossy(stdout)
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap())
        .filter_map(|line| line["id"].as_str().map(str::to_owned))
        .collect()
}

const ALL: [&str; 5] = ["tail", "--since", "start", "-f", "jsonl"];

#[test]
fn a_cursor_file_goes_on_where_the_last_run_stopped() {
    let daemon = daemon(true);
    let cursor = daemon.dir.path().join("cursor");
    let run = || {
        let mut command = daemon.stapes(&ALL);
        command.args(["--until-caught-up", "--cursor-file"]).arg(&cursor);
        command.output().unwrap()
    };
    let first = run();
    assert!(first.status.success(), "{first:?}");
    assert_eq!(ids(&first.stdout), ["1-0", "1-1", "2-0"]);
    assert!(String::from_utf8_lossy(&first.stdout).contains("\"control\":\"caught-up\""));
    assert_eq!(std::fs::read_to_string(&cursor).unwrap(), "2\n");
    assert_eq!(ids(&run().stdout), Vec::<String>::new());
    // Stopped between the two events of one record.
    std::fs::write(&cursor, "1+1\n").unwrap();
    assert_eq!(ids(&run().stdout), ["1-1", "2-0"]);
}

#[test]
fn an_event_that_the_command_did_not_take_comes_again() {
    let daemon = daemon(true);
    let cursor = daemon.dir.path().join("cursor");
    let taken = daemon.dir.path().join("taken");
    let run = |command: &str| {
        let mut tail = daemon.stapes(&["tail", "--since", "start", "--until-caught-up"]);
        tail.args(["--exec", command, "--cursor-file"]).arg(&cursor);
        tail.env("TAKEN", &taken).output().unwrap().status.code()
    };
    let picky = r#"test "$STAPES_EVENT_SEQUENCE" != 2 && cat >> "$TAKEN""#;
    assert_eq!(run(picky), Some(1));
    assert_eq!(std::fs::read_to_string(&cursor).unwrap(), "1+2\n");
    assert_eq!(run(r#"cat >> "$TAKEN""#), Some(0));
    assert_eq!(ids(&std::fs::read(&taken).unwrap()), ["1-0", "1-1", "2-0"]);
}

#[test]
fn a_stream_that_ends_says_where_the_next_run_goes_on() {
    let daemon = daemon(false);
    let cursor = daemon.dir.path().join("cursor");
    let output = daemon.stapes(&ALL).arg("--cursor-file").arg(&cursor).output().unwrap();
    assert_eq!(output.status.code(), Some(7));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("The next run goes on after seq 2."), "{said}");
}

#[test]
fn the_log_is_grouped_by_operation_newest_first() {
    let daemon = daemon(false);
    let output = daemon.stapes(&["log", "web"]).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 4, "{text}");
    assert!(lines[0].starts_with("op 0193a4b2  alice") && lines[0].ends_with("\"blog\""), "{text}");
    assert!(lines[1].contains("instance.started") && lines[3].contains("instance.created"));
    assert!(daemon.asked()[0].path.contains("resource=instance%2Fweb"));
}

#[test]
fn why_names_who_set_it() {
    let daemon = Daemon::start(|asked| match asked.path.split('?').next() {
        Some("/1.0/log") => Reply::Lines { lines: log_after(asked), hold: false },
        Some("/1.0/instances/web") => Reply::Sync(json!({
            "name": "web", "profiles": ["small"], "config": { "limits.memory": "4GiB" },
            "expanded_config": { "limits.memory": "4GiB" },
        })),
        _ => Reply::Sync(json!({ "name": "small", "config": { "limits.memory": "1GiB" } })),
    });
    let output = daemon.stapes(&["why", "web.limits.memory"]).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(text.starts_with("limits.memory = 4GiB\n  set on web itself: instance."), "{text}");
    assert!(text.contains("by alice") && text.contains("hides 1GiB from profile small"), "{text}");
}
