//! What we add to the dialect, and that everything that is advertised is there.

use axum::http::Method;
use serde_json::{Value, json};
use stapes_api::server::API_EXTENSIONS;

use crate::support::Daemon;

/// A request that only a server with the extension answers, by extension; `None` for what other
/// tests of this crate show.
fn proof(extension: &str) -> Option<(&'static str, &'static str)> {
    Some(match extension {
        "storage" => ("GET", "/1.0/storage-pools"),
        "network" => ("GET", "/1.0/networks"),
        "resources" | "resources_v2" => ("GET", "/1.0/resources"),
        "projects" => ("GET", "/1.0/projects"),
        "container_full" => ("GET", "/1.0/instances?recursion=2"),
        "network_leases" => ("GET", "/1.0/networks/testbr0/leases"),
        "network_state" => ("GET", "/1.0/networks/testbr0/state"),
        "instances" => ("GET", "/1.0/instances"),
        "api_filtering" => ("GET", "/1.0/instances?filter=name%20eq%20x"),
        "warnings" => ("GET", "/1.0/warnings"),
        "project_usage" => ("GET", "/1.0/projects/default/state"),
        "operations_get_query_all_projects" => ("GET", "/1.0/operations?all-projects=true"),
        "instance_all_projects" => ("GET", "/1.0/instances?all-projects=true"),
        "images_all_projects" => ("GET", "/1.0/images?all-projects=true"),
        "profiles_all_projects" => ("GET", "/1.0/profiles?all-projects=true"),
        "networks_all_projects" => ("GET", "/1.0/networks?all-projects=true"),
        "storage_volumes_all_projects" => {
            ("GET", "/1.0/storage-pools/default/volumes?all-projects=true")
        }
        "metadata_configuration" => ("GET", "/1.0/metadata/configuration"),
        "metrics" => ("GET", "/1.0/metrics"),
        "instance_get_full" => ("GET", "/1.0/instances/web?recursion=1"),
        "stapes_log" => ("GET", "/1.0/log"),
        "stapes_history" => ("GET", "/1.0/instances/web/history"),
        "stapes_at" => ("GET", "/1.0/instances?at=5"),
        "stapes_operations_history" => ("GET", "/1.0/operations?history=1"),
        "stapes_replay" => ("POST", "/1.0/replay"),
        "clustering" => ("GET", "/1.0/cluster"),
        // Need a cluster: shown by the scenarios.
        "clustering_join_token"
        | "clustering_failure_domains"
        | "clustering_evacuation"
        | "clustering_groups"
        | "cluster_member_state"
        | "cluster_internal_copy" => return None,
        // Shown by tests/api/{instances,exec,images,dialect}.rs and below.
        "profile_usedby"
        | "container_only_migration"
        | "container_exec_recording"
        | "snapshot_expiry"
        | "console"
        | "container_exec_signal_handling"
        | "container_exec_user_group_cwd"
        | "image_create_aliases"
        | "image_types"
        | "event_lifecycle"
        | "event_lifecycle_requestor_address"
        | "snapshot_expiry_creation"
        | "storage_api_volume_rename"
        | "instance_bulk_state_change"
        | "instances_rebuild"
        | "instance_create_start"
        | "instance_state_started_at"
        | "stapes_events_since" => return None,
        other => panic!("{other} is advertised and nothing shows it"),
    })
}

#[tokio::test]
async fn every_extension_that_is_named_works() {
    let daemon = Daemon::furnished().await;
    daemon.launch("web").await;
    for extension in API_EXTENSIONS {
        let Some((method, path)) = proof(extension) else { continue };
        let method: Method = method.parse().unwrap();
        let sent = if method == Method::GET {
            daemon.client.download(path).await.map(|_| ())
        } else {
            daemon.client.send(method, path, &json!({})).await.map(|_| ())
        };
        sent.unwrap_or_else(|error| panic!("{extension}: {path}: {error}"));
    }
}

#[tokio::test]
async fn the_log_is_told_as_cloud_events() {
    let daemon = Daemon::furnished().await;
    daemon.launch("web").await;
    let client = daemon.client.reason("because");
    client
        .send(Method::PATCH, "/1.0/instances/web", &json!({"config": {"environment.KEY": "hush"}}))
        .await
        .unwrap();
    let mut stream = client.log(Some(0), Some("instance/web"), false).await.unwrap();
    let mut lines = Vec::new();
    while let Some(line) = stream.next().await.unwrap() {
        lines.push(line);
    }
    let control = lines.pop().unwrap();
    assert_eq!(control["control"], "caught-up");
    assert_eq!(lines[0]["type"], "io.stapes.instance.created.v1");
    assert_eq!(lines[0]["specversion"], "1.0");
    assert_eq!(lines[0]["subject"], "default/web");
    assert_eq!(lines[0]["actor"]["kind"], "unix");
    assert!(lines[0]["sequence"].is_string());
    let edited = lines.iter().find(|line| line["type"] == "io.stapes.instance.reconfigured.v1");
    let edited = edited.unwrap();
    assert_eq!(edited["reason"], "because");
    assert_eq!(edited["data"]["config"]["environment.KEY"], "(secret)");
    let history: Value = client.get("/1.0/instances/web/history").await.unwrap();
    assert_eq!(history, Value::Array(lines));
}

#[tokio::test]
async fn a_follower_sees_what_comes() {
    let daemon = Daemon::furnished().await;
    let mut stream = daemon.client.log(Some(0), None, true).await.unwrap();
    while stream.next().await.unwrap().unwrap()["control"] != "caught-up" {}
    daemon.launch("web").await;
    let line = stream.next().await.unwrap().unwrap();
    assert_eq!(line["correlationid"].as_str().map(str::len), Some(36));
}

#[tokio::test]
async fn the_past_can_be_shown_and_is_what_it_was() {
    let daemon = Daemon::furnished().await;
    let before = daemon.control.world().sequence;
    daemon.launch("web").await;
    let then: Value = daemon.client.get(&format!("/1.0/instances?at={before}")).await.unwrap();
    assert_eq!(then, json!([]));
    let now: Value = daemon.client.get("/1.0/instances").await.unwrap();
    assert_eq!(now, json!(["/1.0/instances/web"]));
    let future = daemon.client.get::<Value>("/1.0/instances?at=999999").await.unwrap_err();
    assert!(future.is_not_found());
    let verified = daemon.client.send(Method::POST, "/1.0/replay", &json!({})).await.unwrap();
    assert_eq!(verified.envelope.metadata["identical"], true, "{:?}", verified.envelope.metadata);
}

#[tokio::test]
async fn events_are_heard_live_and_again_from_a_sequence_on() {
    let daemon = Daemon::furnished().await;
    let since = daemon.control.world().sequence.0;
    let mut live = daemon.client.events(&["lifecycle"], None).await.unwrap();
    daemon.launch("web").await;
    let mut actions = Vec::new();
    while actions.last().map(String::as_str) != Some("instance-started") {
        let event = live.next().await.unwrap().unwrap();
        assert_eq!(event.project, "default");
        actions.push(event.metadata["action"].as_str().unwrap().to_owned());
    }
    assert_eq!(actions, ["instance-created", "instance-started"]);
    let mut again = daemon.client.events(&["lifecycle"], Some(since)).await.unwrap();
    for action in actions {
        let event = again.next().await.unwrap().unwrap();
        assert_eq!(event.metadata["action"], action.as_str());
        assert_eq!(event.metadata["source"], "/1.0/instances/web");
        assert!(event.sequence.unwrap() > since);
    }
    let unknown = daemon.client.events(&["weather"], None).await.unwrap_err();
    assert_eq!(unknown.error_code(), 400);
}

#[tokio::test]
async fn a_profile_says_who_uses_it_and_an_instance_can_be_rebuilt() {
    let daemon = Daemon::furnished().await;
    daemon.launch("web").await;
    let profile: Value = daemon.client.get("/1.0/profiles/default").await.unwrap();
    assert_eq!(profile["used_by"], json!(["/1.0/instances/web"]));
    let stop = json!({"action": "stop", "force": true});
    daemon.client.run(Method::PUT, "/1.0/instances/web/state", &stop).await.unwrap();
    let source = json!({"source": {"type": "image", "alias": "test"}});
    daemon.client.run(Method::POST, "/1.0/instances/web/rebuild", &source).await.unwrap();
    let lifecycle: Value = daemon.client.get("/1.0/instances/web/history").await.unwrap();
    let replaced = |line: &Value| line["type"] == "io.stapes.instance.root-replaced.v1";
    assert!(lifecycle.as_array().unwrap().iter().any(replaced));
}

#[tokio::test]
async fn a_volume_is_made_renamed_and_deleted() {
    let daemon = Daemon::furnished().await;
    let base = "/1.0/storage-pools/default/volumes/custom";
    let client = &daemon.client;
    client.send(Method::POST, base, &json!({"name": "a"})).await.unwrap();
    client.send(Method::POST, &format!("{base}/a"), &json!({"name": "b"})).await.unwrap();
    let volume: Value = client.get(&format!("{base}/b")).await.unwrap();
    assert_eq!(
        (&volume["type"], &volume["content_type"]),
        (&json!("custom"), &json!("filesystem"))
    );
    client.delete(&format!("{base}/b")).await.unwrap();
    assert!(client.get::<Value>(&format!("{base}/b")).await.unwrap_err().is_not_found());
}
