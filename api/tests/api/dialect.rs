//! The dialect's manners: envelopes, statuses, headers, texts, tags and filters.

use axum::http::Method;
use serde_json::{Value, json};
use stapes_api::client::ClientError;

use crate::support::{Daemon, http};

async fn error(daemon: &Daemon, method: &str, path: &str, body: &[u8]) -> (u16, String) {
    let sent = daemon.client.send_bytes(http(method), path, body.to_vec(), &[]).await;
    match sent.unwrap_err() {
        ClientError::Api(error) => (error.error_code, error.text),
        other => panic!("{method} {path}: {other}"),
    }
}

#[tokio::test]
async fn errors_have_incus_statuses_and_texts() {
    let daemon = Daemon::furnished().await;
    daemon.launch("web").await;
    for (method, path, body, status, text) in [
        ("GET", "/1.0/nothing", "", 404, "not found"),
        ("PATCH", "/1.0/instances", "", 501, "not implemented"),
        ("GET", "/1.0/instances/nope", "", 404, "Instance not found"),
        ("GET", "/1.0/profiles/nope", "", 404, "Profile not found"),
        ("GET", "/1.0/networks/nope", "", 404, "Network not found"),
        ("GET", "/1.0/storage-pools/nope", "", 404, "Storage pool not found"),
        ("GET", "/1.0/projects/nope", "", 404, "Project not found"),
        ("GET", "/1.0/images/abcdabcd", "", 404, "Image not found"),
        (
            "GET",
            "/1.0/operations/00000000-0000-0000-0000-000000000000",
            "",
            404,
            "Operation not found",
        ),
        (
            "GET",
            "/1.0/instances?project=a&all-projects=true",
            "",
            400,
            "Cannot specify a project when requesting all projects",
        ),
        ("GET", "/1.0/cluster/members", "", 400, "Server isn't part of a cluster"),
        (
            "PUT",
            "/1.0/instances/web/state",
            r#"{"action":"start"}"#,
            400,
            "The instance is already running",
        ),
        (
            "PUT",
            "/1.0/instances/web/state",
            r#"{"action":"dance"}"#,
            400,
            "Unknown action: \"dance\"",
        ),
        (
            "POST",
            "/1.0/instances",
            r#"{"name":"web","source":{"type":"image","alias":"test"}}"#,
            409,
            "Instance \"web\" already exists",
        ),
        (
            "POST",
            "/1.0/profiles",
            r#"{"name":"default"}"#,
            409,
            "Profile \"default\" already exists",
        ),
        (
            "POST",
            "/1.0/instances/web/exec",
            r#"{"command":["a"],"interactive":true}"#,
            400,
            "Interactive sessions require wait-for-websocket",
        ),
    ] {
        let (got_status, got_text) = error(&daemon, method, path, body.as_bytes()).await;
        assert_eq!((got_status, got_text.as_str()), (status, text), "{method} {path}");
    }
    let (status, _) = error(&daemon, "POST", "/1.0/profiles", b"{nonsense").await;
    assert_eq!(status, 400);
    let (status, text) = error(&daemon, "DELETE", "/1.0/instances/web", b"").await;
    assert_eq!((status, text.as_str()), (400, "Instance is running"));
}

#[tokio::test]
async fn an_error_has_all_keys_and_our_advice_beside_them() {
    let daemon = Daemon::start().await;
    let sent = daemon.client.get::<Value>("/1.0/instances/nope").await;
    let Err(ClientError::Api(error)) = sent else { panic!("{sent:?}") };
    assert_eq!(error.code.as_deref(), Some("not-found"));
    assert!(error.hint.unwrap().contains("stapes list"));
    assert_eq!(error.facts["name"], "nope");
}

#[tokio::test]
async fn every_answer_is_json_unsniffed_and_says_its_sequence() {
    let daemon = Daemon::start().await;
    let download = daemon.client.download("/1.0").await.unwrap();
    assert_eq!(download.header("content-type"), Some("application/json"));
    assert_eq!(download.header("x-content-type-options"), Some("nosniff"));
    let sequence: u64 = download.header("x-stapes-sequence").unwrap().parse().unwrap();
    assert_eq!(sequence, daemon.control.world().sequence.0);
}

#[tokio::test]
async fn a_browser_of_another_site_is_refused_and_untidy_paths_redirected() {
    let daemon = Daemon::start().await;
    let headers = [("sec-fetch-site", "cross-site")];
    let sent = daemon.client.send_bytes(Method::GET, "/1.0", Vec::new(), &headers).await;
    assert_eq!(sent.unwrap_err().error_code(), 403);
    let answer = daemon.client.download("/1.0//instances/?recursion=1").await.unwrap();
    assert_eq!(answer.response.status(), 308);
    assert_eq!(answer.header("location"), Some("/1.0/instances?recursion=1"));
}

#[tokio::test]
async fn what_is_made_is_201_with_its_place() {
    let daemon = Daemon::start().await;
    let body = json!({"name": "small", "config": {"limits.cpu": 1}});
    let answer = daemon.client.send(Method::POST, "/1.0/profiles", &body).await.unwrap();
    assert_eq!(answer.location.as_deref(), Some("/1.0/profiles/small"));
    assert_eq!(answer.envelope.status_code, 200);
    assert_eq!(answer.envelope.metadata, json!({}));
    let profile: Value = daemon.client.get("/1.0/profiles/small").await.unwrap();
    assert_eq!(
        profile,
        json!({"config": {"limits.cpu": "1"}, "description": "", "devices": {}, "name": "small",
               "used_by": [], "project": "default"})
    );
}

#[tokio::test]
async fn a_change_of_what_changed_meanwhile_is_412() {
    let daemon = Daemon::start().await;
    let client = &daemon.client;
    let (_, etag) = client.get_with_etag::<Value>("/1.0/profiles/default").await.unwrap();
    let etag = etag.unwrap();
    assert!(etag.starts_with('"') && etag.ends_with('"'), "{etag}");
    let body = |text: &str| json!({"description": text});
    let path = "/1.0/profiles/default";
    client.send_if_match(Method::PUT, path, &body("one"), Some(&etag)).await.unwrap();
    let again = client.send_if_match(Method::PUT, path, &body("two"), Some(&etag)).await;
    let Err(ClientError::Api(error)) = again else { panic!("{again:?}") };
    assert_eq!(error.error_code, 412);
    assert!(error.text.starts_with("ETag doesn't match"), "{}", error.text);
    let odd = client.send_if_match(Method::PUT, path, &body("3"), Some("\"a-sha\"")).await;
    assert_eq!(odd.unwrap_err().error_code(), 412);
}

#[tokio::test]
async fn lists_are_urls_or_objects_and_can_be_filtered() {
    let daemon = Daemon::furnished().await;
    for name in ["web", "db"] {
        daemon.launch(name).await;
    }
    let get = |path: &'static str| daemon.client.get::<Value>(path);
    let urls = get("/1.0/instances").await.unwrap();
    assert_eq!(urls, json!(["/1.0/instances/db", "/1.0/instances/web"]));
    let found = get("/1.0/instances?recursion=2&filter=name%20eq%20(%5Eweb%24%7C%5Eweb.*)").await;
    let found = found.unwrap();
    assert_eq!(found.as_array().unwrap().len(), 1);
    assert_eq!(found[0]["name"], "web");
    assert!(found[0]["state"]["pid"].as_i64().unwrap() > 0);
    assert_eq!(found[0]["snapshots"], Value::Null);
    let none = get("/1.0/instances?recursion=1&filter=status%20eq%20stopped").await.unwrap();
    assert_eq!(none, json!([]));
    let everything = get("/1.0/instances?recursion=1&filter=&all-projects=true").await.unwrap();
    assert_eq!(everything.as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn the_server_tells_who_asks_and_what_it_can() {
    let daemon = Daemon::furnished().await;
    let server: Value = daemon.client.get("/1.0").await.unwrap();
    assert_eq!(server["api_version"], "1.0");
    assert_eq!(server["auth"], "trusted");
    assert_eq!(server["auth_user_method"], "unix");
    assert!(!server["auth_user_name"].as_str().unwrap().is_empty());
    assert_eq!(server["environment"]["storage_supported_drivers"][0]["Name"], "btrfs");
    assert_eq!(server["environment"]["storage"], "btrfs");
    let extensions = server["api_extensions"].as_array().unwrap();
    for flipped in [
        "storage_and_profile_operations",
        "storage_and_network_operations",
        "project_delete_operation",
    ] {
        assert!(!extensions.iter().any(|name| name == flipped), "{flipped}");
    }
}
