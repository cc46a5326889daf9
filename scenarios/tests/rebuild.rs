//! The views are derived: without them a restarted daemon gives the same answers.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use stapes_api::client::{Client, Method};
use stapes_scenarios::real::{Answers, Mode, Real, answers};

async fn run(client: &Client, method: Method, path: &str, body: Value) {
    let ran = client.run(method, path, &body).await;
    ran.unwrap_or_else(|error| panic!("{path}: {error}"));
}

async fn state(client: &Client, name: &str, action: &str) {
    let body = json!({"action": action, "timeout": 30, "force": true});
    run(client, Method::PUT, &format!("/1.0/instances/{name}/state"), body).await;
}

/// A bit of everything that can happen.
async fn live_a_little(client: &Client, image: &str) {
    let launch = |name: &str, start: bool| {
        json!({"name": name, "source": {"type": "image", "alias": image}, "start": start,
               "config": {"user.of": name}})
    };
    run(client, Method::POST, "/1.0/projects", json!({"name": "other", "description": "empty"}))
        .await;
    run(
        client,
        Method::POST,
        "/1.0/profiles",
        json!({"name": "small", "config": {"limits.memory": "64MiB"}}),
    )
    .await;
    for (name, start) in [("web", true), ("db", false), ("gone", true)] {
        run(client, Method::POST, "/1.0/instances", launch(name, start)).await;
    }
    for name in ["one", "two"] {
        run(client, Method::POST, "/1.0/instances/db/snapshots", json!({"name": name})).await;
    }
    run(client, Method::PUT, "/1.0/instances/db", json!({"restore": "one"})).await;
    let copy = json!({"name": "copy", "source": {"type": "copy", "source": "db"}});
    run(client, Method::POST, "/1.0/instances", copy).await;
    run(client, Method::POST, "/1.0/instances/copy", json!({"name": "renamed"})).await;
    run(client, Method::PATCH, "/1.0/instances/web", json!({"config": {"user.key": "value"}}))
        .await;
    client.run_delete("/1.0/instances/gone?force=1").await.expect("it is deleted");
}

fn assert_same(before: &Answers, after: &Answers) {
    let asked = |answers: &Answers| answers.keys().cloned().collect::<BTreeSet<_>>();
    assert_eq!(asked(before), asked(after));
    for (path, answer) in before {
        let text = |value: &Value| serde_json::to_string_pretty(value).expect("it is JSON");
        let (before, after) = (text(answer), text(&after[path]));
        let differ = before.lines().zip(after.lines()).filter(|(before, after)| before != after);
        let differ: Vec<_> = differ.take(5).collect();
        assert!(before == after, "{path}: {differ:#?}");
    }
}

async fn views_come_back(mut daemon: Real, image: &str, is_crashed: bool) -> Real {
    live_a_little(&daemon.client(), image).await;
    if !is_crashed {
        // Pretended guests end with their daemon, so that they would have changed.
        state(&daemon.client(), "web", "stop").await;
    }
    let before = answers(&daemon.client()).await;
    if is_crashed {
        daemon.crash().await;
    } else {
        daemon.stop().await;
    }
    let views = daemon.directory().join("views");
    let held = std::fs::read_dir(&views).expect("there are views").count();
    assert!(held > 0, "the views are not where they are said to be");
    std::fs::remove_dir_all(&views).expect("they can be removed");
    daemon.start().await;
    assert_same(&before, &answers(&daemon.client()).await);
    daemon
}

#[tokio::test]
async fn views_of_pretended_guests_come_back() {
    let mut daemon = views_come_back(Real::started(Mode::Simulated).await, "demo", false).await;
    daemon.stop().await;
}

#[cfg(feature = "host")]
#[tokio::test]
async fn views_of_real_guests_come_back() {
    let daemon = Real::started(Mode::Host).await;
    daemon.furnish().await;
    views_come_back(daemon, stapes_scenarios::real::BUSYBOX, true).await.dismantle().await;
}
