//! What a client was told is so for whatever it asks next: an operation that ended is over.

use serde_json::{Value, json};
use stapes_api::client::{Client, Method};
use stapes_scenarios::real::{Mode, Real};

/// Clients at once, and lives of each: enough to meet a daemon whose parts read the log one after
/// the other.
const CLIENTS: usize = 4;
const LIVES: usize = 25;

async fn run(client: &Client, method: Method, path: &str, body: Value) {
    let ran = client.run(method.clone(), path, &body).await;
    ran.unwrap_or_else(|error| panic!("{method} {path}: {error}"));
}

async fn live(client: Client, number: usize) {
    let name = format!("web{number}");
    let path = format!("/1.0/instances/{name}");
    let state = format!("{path}/state");
    for _ in 0..LIVES {
        let body = json!({"name": name, "source": {"type": "image", "alias": "demo"}});
        run(&client, Method::POST, "/1.0/instances", body).await;
        run(&client, Method::PUT, &state, json!({"action": "start"})).await;
        run(&client, Method::PUT, &state, json!({"action": "freeze"})).await;
        run(&client, Method::PUT, &state, json!({"action": "unfreeze"})).await;
        run(&client, Method::POST, &format!("{path}/snapshots"), json!({"name": "one"})).await;
        run(&client, Method::PUT, &state, json!({"action": "stop", "force": true})).await;
        run(&client, Method::PUT, &path, json!({"restore": "one"})).await;
        let deleted = client.run_delete(&path).await;
        deleted.unwrap_or_else(|error| panic!("DELETE {path}: {error}"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_ended_is_over() {
    let mut daemon = Real::started(Mode::Simulated).await;
    let lives = (0..CLIENTS).map(|number| tokio::spawn(live(daemon.client(), number)));
    for life in futures::future::join_all(lives).await {
        life.expect("nothing is refused");
    }
    daemon.stop().await;
}
