//! What an installation needs before anything can be launched: a pool, a network, a profile that
//! uses both, and an image. On a bridge of its own, so that daemons under test do not meet.

use serde_json::{Value, json};
use stapes_api::client::{Client, ClientError, Method, UploadOptions};

use super::{Real, busybox_image};

/// The alias of the image that [`Real::furnish`] brings.
pub const BUSYBOX: &str = "busybox";

impl Real {
    /// Makes the pool, network and profile, and imports the image.
    ///
    /// # Panics
    /// When one of them is refused.
    pub async fn furnish(&self) {
        self.furnish_with_pool(&json!({"size": "2GiB"})).await;
    }

    /// As [`Real::furnish`], with a pool of this configuration.
    ///
    /// # Panics
    /// When one of them is refused.
    pub async fn furnish_with_pool(&self, pool: &Value) {
        let client = self.client();
        let bridge = self.bridge();
        let bodies = [
            (
                Method::POST,
                "/1.0/storage-pools",
                json!({"name": "default", "driver": "btrfs", "config": pool}),
            ),
            (
                Method::POST,
                "/1.0/networks",
                json!({"name": bridge, "type": "bridge", "config": {}}),
            ),
            (
                Method::PUT,
                "/1.0/profiles/default",
                json!({"devices": {
                    "root": {"type": "disk", "path": "/", "pool": "default"},
                    "eth0": {"type": "nic", "network": bridge, "name": "eth0"},
                }}),
            ),
        ];
        for (method, path, body) in bodies {
            let ran = client.run(method, path, &body).await;
            ran.unwrap_or_else(|error| panic!("{path}: {error}"));
        }
        let options =
            UploadOptions { aliases: vec![BUSYBOX.to_owned()], ..UploadOptions::default() };
        let image = busybox_image();
        let uploaded =
            client.upload_image(&image, None, &options).await.expect("the image is taken");
        uploaded.wait().await.expect("the image is imported");
    }

    /// Deletes every instance, image, profile device, network and pool through the API, asks the
    /// daemon to go, and proves that nothing of it is left on the host.
    ///
    /// # Panics
    /// When something cannot be deleted, or is left.
    pub async fn dismantle(mut self) {
        let client = self.client();
        for name in names(&client, "/1.0/instances").await {
            ended(client.run_delete(&format!("/1.0/instances/{name}?force=1")).await, &name);
        }
        for fingerprint in names(&client, "/1.0/images").await {
            ended(client.run_delete(&format!("/1.0/images/{fingerprint}")).await, &fingerprint);
        }
        let emptied = client.run(Method::PUT, "/1.0/profiles/default", &json!({})).await;
        ended(emptied, "profile default");
        for kind in ["networks", "storage-pools"] {
            for name in names(&client, &format!("/1.0/{kind}")).await {
                let path = format!("/1.0/{kind}/{name}");
                // Another daemon's bridge may be gone since it was listed.
                let about = client.get::<Value>(&path).await;
                if about.is_ok_and(|about| about.get("managed") != Some(&json!(false))) {
                    ended(client.run_delete(&path).await, &name);
                }
            }
        }
        self.stop().await;
        self.traces().assert_none().await;
    }
}

/// The last parts of the listed urls.
async fn names(client: &Client, path: &str) -> Vec<String> {
    let urls: Vec<String> = client.get(path).await.expect("it can be listed");
    urls.iter().map(|url| url.rsplit('/').next().unwrap_or_default().to_owned()).collect()
}

fn ended<T>(outcome: Result<T, ClientError>, what: &str) {
    if let Err(error) = outcome {
        panic!("{what} cannot be taken away: {error}");
    }
}
