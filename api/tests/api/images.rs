//! Images up, down, named and deleted.

use axum::http::Method;
use serde_json::{Value, json};
use stapes_api::client::UploadOptions;

use crate::support::Daemon;

#[tokio::test]
async fn a_unified_image_comes_back_as_it_went() {
    let daemon = Daemon::furnished().await;
    let list: Value = daemon.client.get("/1.0/images?recursion=1").await.unwrap();
    let image = &list[0];
    assert_eq!(image["aliases"], json!([{"name": "test", "description": ""}]));
    assert_eq!(image["properties"]["os"], "Test OS");
    assert_eq!(image["filename"], "test.tar");
    assert_eq!(image["size"], 8);
    assert_eq!(image["type"], "container");
    let fingerprint = image["fingerprint"].as_str().unwrap();
    let directory = tempfile::tempdir().unwrap();
    let files = daemon.client.export_image(&fingerprint[..12], directory.path()).await.unwrap();
    assert_eq!(files.metadata.file_name().unwrap(), "test.tar");
    assert_eq!(std::fs::read(files.metadata).unwrap(), b"an image");
    assert_eq!(files.root, None);
}

#[tokio::test]
async fn a_split_image_comes_back_in_two_parts() {
    let daemon = Daemon::start().await;
    let directory = tempfile::tempdir().unwrap();
    let (metadata, root) = (directory.path().join("meta.tar"), directory.path().join("rootfs.bin"));
    std::fs::write(&metadata, b"meta").unwrap();
    std::fs::write(&root, vec![9; 300_000]).unwrap();
    let options = UploadOptions { public: true, ..UploadOptions::default() };
    let upload =
        daemon.client.upload_image(&metadata, Some((&root, false)), &options).await.unwrap();
    let operation = upload.wait().await.unwrap();
    let metadata = operation.metadata.unwrap();
    let fingerprint = metadata["fingerprint"].as_str().unwrap();
    assert!(metadata["size"].is_string());
    let down = tempfile::tempdir().unwrap();
    let files = daemon.client.export_image(fingerprint, down.path()).await.unwrap();
    assert_eq!(std::fs::read(files.metadata).unwrap(), b"meta");
    assert_eq!(std::fs::read(files.root.unwrap()).unwrap(), vec![9; 300_000]);
    // Nothing of the upload is left but what the store keeps.
    let kept = std::fs::read_dir(daemon.directory.path().join("images")).unwrap().count();
    assert_eq!(kept, 2);
}

#[tokio::test]
async fn a_wrong_fingerprint_is_refused_and_leaves_nothing() {
    let daemon = Daemon::start().await;
    let file = daemon.directory.path().join("x.tar");
    std::fs::write(&file, b"x").unwrap();
    let options = UploadOptions { fingerprint: Some("ab".repeat(32)), ..UploadOptions::default() };
    let refused = daemon.client.upload_image(&file, None, &options).await.unwrap_err();
    assert_eq!(refused.error_code(), 400);
    assert_eq!(std::fs::read_dir(daemon.directory.path().join("images")).unwrap().count(), 0);
}

#[tokio::test]
async fn aliases_may_have_slashes() {
    let daemon = Daemon::furnished().await;
    let client = &daemon.client;
    let list: Value = client.get("/1.0/images?recursion=1").await.unwrap();
    let target = list[0]["fingerprint"].clone();
    let body = json!({"name": "debian/12", "target": target, "description": "d"});
    let made = client.send(Method::POST, "/1.0/images/aliases", &body).await.unwrap();
    assert_eq!(made.location.as_deref(), Some("/1.0/images/aliases/debian%2F12"));
    for path in ["/1.0/images/aliases/debian/12", "/1.0/images/aliases/debian%2F12"] {
        let alias: Value = client.get(path).await.unwrap();
        assert_eq!(
            alias,
            json!({"description": "d", "target": target, "name": "debian/12", "type": "container"})
        );
    }
    client
        .send(Method::POST, "/1.0/images/aliases/debian/12", &json!({"name": "deb"}))
        .await
        .unwrap();
    client.delete("/1.0/images/aliases/deb").await.unwrap();
    let gone = client.get::<Value>("/1.0/images/aliases/deb").await.unwrap_err();
    assert!(gone.is_not_found());
}

#[tokio::test]
async fn what_is_written_about_an_image_can_change() {
    let daemon = Daemon::furnished().await;
    let client = &daemon.client;
    let list: Value = client.get("/1.0/images?recursion=1").await.unwrap();
    let path = format!("/1.0/images/{}", list[0]["fingerprint"].as_str().unwrap());
    client.send(Method::PATCH, &path, &json!({"properties": {"release": "1"}})).await.unwrap();
    let image: Value = client.get(&path).await.unwrap();
    assert_eq!(image["properties"], json!({"os": "Test OS", "release": "1"}));
    client.run_delete(&path).await.unwrap();
    assert!(client.get::<Value>(&path).await.unwrap_err().is_not_found());
}
