//! The laws of presence, over a real server.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::sync::Arc;

use stapes_core::port::presence::laws;
use stapes_nats::{ConnectConfig, Connection, NatsPresence, testing::Servers};
use uuid::Uuid;

async fn laws_on(count: usize) {
    let servers = Servers::start(count);
    let cluster = Uuid::new_v4();
    let urls = servers.urls();
    // The two ends are at different servers, if there are several.
    let end = async |url: &String| {
        let servers = vec![url.clone()];
        let config =
            ConnectConfig { servers, only_these_servers: true, ..ConnectConfig::default() };
        NatsPresence::new(Connection::open(config).await.unwrap(), cluster)
    };
    let (one, other) = (end(&urls[0]).await, end(&urls[count - 1]).await);
    laws::all(Arc::new(one), Arc::new(other)).await;
}

#[tokio::test]
async fn on_one_server() {
    laws_on(1).await;
}

#[tokio::test]
async fn across_three_servers() {
    laws_on(3).await;
}
