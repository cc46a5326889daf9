//! Instances from their creation to their end, as clients see it.

use std::time::Duration;

use axum::http::Method;
use serde_json::{Value, json};
use stapes_api::{client::ClientError, wire::StatusCode};

use crate::support::{Daemon, http};

#[tokio::test]
async fn a_new_instance_has_every_key_of_the_dialect() {
    let daemon = Daemon::furnished().await;
    let body = json!({"name": "web", "source": {"type": "image", "alias": "test"},
        "config": {"user.a": "b", "limits.cpu": 2}, "profiles": null});
    let pending = daemon.client.begin(Method::POST, "/1.0/instances", &body).await.unwrap();
    assert_eq!(pending.operation.resources["instances"], ["/1.0/instances/web"]);
    assert_eq!(pending.operation.class, "task");
    assert_eq!(pending.operation.description, "Creating instance");
    assert_eq!(pending.operation.location, "none");
    let operation = pending.wait().await.unwrap();
    assert_eq!(operation.status, "Success");
    let mut instance: Value = daemon.client.get("/1.0/instances/web").await.unwrap();
    let config = instance["config"].as_object_mut().unwrap();
    assert_eq!(config["limits.cpu"], "2");
    assert_eq!(config["image.os"], "Test OS");
    assert!(config.contains_key("volatile.eth0.hwaddr"), "{config:?}");
    let keys: Vec<_> = instance.as_object().unwrap().keys().cloned().collect();
    let expected = [
        "architecture",
        "config",
        "created_at",
        "description",
        "devices",
        "ephemeral",
        "expanded_config",
        "expanded_devices",
        "last_used_at",
        "location",
        "name",
        "profiles",
        "project",
        "stateful",
        "status",
        "status_code",
        "type",
    ];
    assert_eq!(keys, expected);
    assert_eq!(instance["status"], "Stopped");
    assert_eq!(instance["status_code"], 102);
    assert_eq!(instance["location"], "none");
    assert_eq!(instance["type"], "container");
    assert_eq!(instance["profiles"], json!(["default"]));
    assert_eq!(instance["last_used_at"], "1970-01-01T00:00:00Z");
    assert_eq!(instance["expanded_devices"]["root"]["pool"], "default");
}

#[tokio::test]
async fn an_instance_without_a_name_gets_one() {
    let daemon = Daemon::furnished().await;
    let body = json!({"source": {"type": "image", "alias": "test"}});
    let operation =
        daemon.client.run(Method::POST, "/1.0/instances", &body).await.unwrap().unwrap();
    let name = operation.names("instances").next().unwrap().to_owned();
    let _: Value = daemon.client.get(&format!("/1.0/instances/{name}")).await.unwrap();
}

#[tokio::test]
async fn states_change_and_the_last_event_comes_after_the_view() {
    let daemon = Daemon::furnished().await;
    daemon.launch("web").await;
    let path = "/1.0/instances/web/state";
    for (action, status) in [
        ("freeze", "Frozen"),
        ("unfreeze", "Running"),
        ("restart", "Running"),
        ("stop", "Stopped"),
        ("start", "Running"),
    ] {
        let body = json!({"action": action, "timeout": -1});
        let pending = daemon.client.begin(Method::PUT, path, &body).await.unwrap();
        pending.wait().await.unwrap();
        let instance: Value = daemon.client.get("/1.0/instances/web").await.unwrap();
        assert_eq!(instance["status"], status, "{action}");
    }
    let state: Value = daemon.client.get(path).await.unwrap();
    assert_eq!(state["status_code"], 103);
    assert!(state["network"].is_object());
}

#[tokio::test]
async fn the_whole_object_can_be_edited_and_sent_back() {
    let daemon = Daemon::furnished().await;
    daemon.launch("web").await;
    let client = &daemon.client;
    let (mut it, etag) = client.get_with_etag::<Value>("/1.0/instances/web").await.unwrap();
    it["config"]["user.team"] = json!("blue");
    it["description"] = json!("edited");
    let put = client
        .send_if_match(Method::PUT, "/1.0/instances/web", &it, etag.as_deref())
        .await
        .unwrap();
    client.wait(&put.operation().unwrap().id).await.unwrap();
    let patch = json!({"config": {"user.floor": 3}});
    client.send(Method::PATCH, "/1.0/instances/web", &patch).await.unwrap();
    let it: Value = client.get("/1.0/instances/web").await.unwrap();
    assert_eq!(it["config"]["user.team"], "blue");
    assert_eq!(it["config"]["user.floor"], "3");
    assert_eq!(it["description"], "edited");
}

#[tokio::test]
async fn snapshots_are_taken_listed_renamed_restored_and_deleted() {
    let daemon = Daemon::furnished().await;
    daemon.launch("web").await;
    let client = &daemon.client;
    let base = "/1.0/instances/web/snapshots";
    client.run(Method::POST, base, &json!({"name": "one"})).await.unwrap();
    assert_eq!(client.get::<Value>(base).await.unwrap(), json!([format!("{base}/one")]));
    client.run(Method::POST, &format!("{base}/one"), &json!({"name": "two"})).await.unwrap();
    let snapshot: Value = client.get(&format!("{base}/two")).await.unwrap();
    assert_eq!(snapshot["name"], "two");
    assert_eq!(snapshot["expires_at"], "0001-01-01T00:00:00Z");
    let expiry = json!({"expires_at": "2030-01-01T00:00:00Z"});
    client.run(Method::PUT, &format!("{base}/two"), &expiry).await.unwrap();
    let snapshot: Value = client.get(&format!("{base}/two")).await.unwrap();
    assert_eq!(snapshot["expires_at"], "2030-01-01T00:00:00Z");
    client.run(Method::PUT, "/1.0/instances/web", &json!({"restore": "two"})).await.unwrap();
    client.run_delete(&format!("{base}/two")).await.unwrap();
    let gone = client.get::<Value>(&format!("{base}/two")).await.unwrap_err();
    assert_eq!(gone.to_string(), "Instance snapshot not found");
}

#[tokio::test]
async fn operations_are_listed_by_status_and_can_be_waited_for() {
    let daemon = Daemon::furnished().await;
    daemon.launch("web").await;
    let list: Value = daemon.client.get("/1.0/operations?recursion=1").await.unwrap();
    let ended = list["success"].as_array().unwrap();
    let created = ended.iter().find(|it| it["description"] == "Creating instance").unwrap();
    let id = created["id"].as_str().unwrap();
    assert_eq!(daemon.client.wait(id).await.unwrap().status_code, StatusCode::SUCCESS);
    let history: Value = daemon.client.get("/1.0/operations?history=1&recursion=1").await.unwrap();
    assert!(history["success"].as_array().unwrap().len() >= ended.len());
    let cancel = daemon.client.delete(&format!("/1.0/operations/{id}")).await.unwrap_err();
    assert_eq!(cancel.error_code(), 400);
}

#[tokio::test]
async fn a_failed_operation_says_why() {
    let daemon = Daemon::furnished().await;
    daemon.launch("web").await;
    let id = daemon.control.world().instance("default", "web").unwrap().id;
    daemon.guests.deafen(id);
    let body = json!({"action": "stop", "timeout": 1});
    let stopped =
        daemon.client.begin(Method::PUT, "/1.0/instances/web/state", &body).await.unwrap();
    let Err(ClientError::Operation { operation }) = stopped.wait().await else { panic!() };
    assert_eq!(operation.status, "Failure");
    assert!(!operation.err.is_empty());
    let instance: Value = daemon.client.get("/1.0/instances/web").await.unwrap();
    assert_eq!(instance["status"], "Running");
}

#[tokio::test]
async fn one_state_for_many() {
    let daemon = Daemon::furnished().await;
    for name in ["a", "b", "c"] {
        daemon.launch(name).await;
    }
    let body = json!({"state": {"action": "stop", "force": true, "timeout": -1}});
    let pending = daemon.client.begin(Method::PUT, "/1.0/instances", &body).await.unwrap();
    tokio::time::timeout(Duration::from_secs(20), pending.wait()).await.unwrap().unwrap();
    let all: Value = daemon.client.get("/1.0/instances?recursion=1").await.unwrap();
    assert!(all.as_array().unwrap().iter().all(|it| it["status"] == "Stopped"), "{all}");
}

#[tokio::test]
async fn deleted_is_gone() {
    let daemon = Daemon::furnished().await;
    daemon.launch("web").await;
    let stop = json!({"action": "stop", "force": true});
    daemon.client.run(http("PUT"), "/1.0/instances/web/state", &stop).await.unwrap();
    daemon.client.run_delete("/1.0/instances/web").await.unwrap();
    assert!(daemon.client.get::<Value>("/1.0/instances/web").await.unwrap_err().is_not_found());
    assert_eq!(daemon.client.get::<Value>("/1.0/instances").await.unwrap(), json!([]));
}
