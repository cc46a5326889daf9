//! The log and the queues on JetStream keep the laws of their ports, on one server and on three.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use futures::StreamExt;
use stapes_core::{
    ids::{CommitId, NodeId, StreamId, StreamKind},
    port::{
        log::{Commit, EventLog, Expected, Part, laws},
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

/// A node that had another queue before begins where it was there, also when its consumers are gone.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_done_on_another_log_does_not_come_as_new() {
    let maker = OnServers::new(1, 32 << 20);
    let log = laws::Maker::fresh(&maker).await;
    let node = NodeId(Uuid::from_u128(7));
    let order = async |name: &str| {
        let stream = StreamId::new(StreamKind::Task, node);
        let parts = vec![Part { stream, expected: Expected::Any, payload: name.to_owned().into() }];
        log.append(Commit { id: CommitId::derive(&[name]), parts }).await.unwrap().last
    };
    let done = order("done").await;
    order("left").await;
    log.set_cursor(&format!("node-{}", node.0.simple()), done).await.unwrap();

    let tasks = queue::laws::Maker::tasks(&maker, &log, node).await;
    assert_eq!(tasks.done().await.unwrap(), done);
    let mut deliveries = tasks.deliver().await.unwrap();
    let left = deliveries.next().await.unwrap().unwrap();
    assert_eq!(&left.payload[..], b"left");
    tasks.acknowledge(left.sequence).await.unwrap();
    order("new").await;
    assert_eq!(&deliveries.next().await.unwrap().unwrap().payload[..], b"new");
    drop((deliveries, tasks));

    // A start writes down how far the one before it came.
    let tasks = queue::laws::Maker::tasks(&maker, &log, node).await;
    let mut deliveries = tasks.deliver().await.unwrap();
    assert_eq!(&deliveries.next().await.unwrap().unwrap().payload[..], b"new");
    drop((deliveries, tasks));
    let jetstream =
        async_nats::jetstream::new(async_nats::connect(maker.servers.urls()).await.unwrap());
    let stream = format!("STAPES_{}", maker.newest.lock().unwrap().simple());
    let stream = jetstream.get_stream(stream).await.unwrap();
    for turn in ["a", "b"] {
        let _ = stream.delete_consumer(&format!("node-{}-{turn}", node.0.simple())).await;
    }
    let tasks = queue::laws::Maker::tasks(&maker, &log, node).await;
    assert_eq!(tasks.done().await.unwrap(), left.sequence);
    let mut deliveries = tasks.deliver().await.unwrap();
    assert_eq!(&deliveries.next().await.unwrap().unwrap().payload[..], b"new");
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
