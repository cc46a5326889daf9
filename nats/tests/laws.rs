//! The log and the queues on JetStream keep the laws of their ports, on one server and on three.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use stapes_core::{
    ids::NodeId,
    port::{
        log::{EventLog, laws},
        queue::{self, Tasks},
    },
};
use stapes_nats::{
    ConnectConfig, Connection, JetStreamLog, JetStreamTasks, LogConfig, testing::Servers,
};
use uuid::Uuid;

/// Each log is another cluster's, on the same servers.
struct OnServers {
    servers: Servers,
    replicas: usize,
    recent_bytes: usize,
    newest: Mutex<Uuid>,
}

impl OnServers {
    fn new(servers: usize, recent_bytes: usize) -> Self {
        let newest = Mutex::new(Uuid::nil());
        Self { servers: Servers::start(servers), replicas: servers, recent_bytes, newest }
    }

    async fn open(&self, cluster: Uuid) -> Arc<JetStreamLog> {
        let (servers, name) = (self.servers.urls(), "laws".to_owned());
        let config = ConnectConfig { servers, name, ..ConnectConfig::default() };
        let connection = Connection::open(config).await.unwrap();
        let mut config = LogConfig::new(cluster, self.replicas);
        config.recent_bytes = self.recent_bytes;
        Arc::new(JetStreamLog::open(connection, config).await.unwrap())
    }
}

#[async_trait]
impl laws::Maker for OnServers {
    async fn fresh(&self) -> Arc<dyn EventLog> {
        let cluster = Uuid::new_v4();
        *self.newest.lock().unwrap() = cluster;
        self.open(cluster).await
    }

    async fn reopen(&self, log: Arc<dyn EventLog>) -> Option<Arc<dyn EventLog>> {
        drop(log);
        let cluster = *self.newest.lock().unwrap();
        Some(self.open(cluster).await)
    }

    fn many(&self) -> usize {
        1500
    }
}

#[async_trait]
impl queue::laws::Maker for OnServers {
    async fn log(&self) -> Arc<dyn EventLog> {
        laws::Maker::fresh(self).await
    }

    /// By a connection of its own, as another process has it.
    async fn tasks(&self, _: &Arc<dyn EventLog>, node: NodeId) -> Arc<dyn Tasks> {
        let cluster = *self.newest.lock().unwrap();
        Arc::new(JetStreamTasks::new(&*self.open(cluster).await, node))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn queues_on_one_server() {
    queue::laws::all(&OnServers::new(1, 32 << 20)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn queues_on_three_servers() {
    queue::laws::all(&OnServers::new(3, 32 << 20)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_one_server() {
    laws::all(&OnServers::new(1, 32 << 20)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_one_server_with_little_memory() {
    laws::all(&OnServers::new(1, 4096)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_three_servers() {
    laws::all(&OnServers::new(3, 32 << 20)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_three_servers_with_little_memory() {
    laws::all(&OnServers::new(3, 4096)).await;
}
