//! How long a decision takes to be a task in the hands of another node: from the append of a commit of
//! a fact and a task on one node's connection until the other one's queue delivers the task.
//!
//! `cargo run --release -p stapes-nats --features host --example task_latency [tasks]`
//!
//! Servers sync every write. The nodes are connected to different servers, where there are several.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a measurement talks and may panic")]

use std::time::{Duration, Instant};

use chrono::Utc;
use futures::StreamExt;
use stapes_core::{
    ids::{CommitId, Epoch, NodeId, OperationId, Revision, StreamId, StreamKind},
    port::{
        log::{Commit, EventLog, Expected, Part},
        queue::Tasks,
    },
    record::{Actor, Body, Record},
};
use stapes_nats::{
    ConnectConfig, Connection, JetStreamLog, JetStreamTasks, LogConfig, testing::Servers,
};
use uuid::Uuid;

/// Before anything is measured.
const WARM: usize = 50;

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    let count = std::env::args().nth(1).and_then(|text| text.parse().ok()).unwrap_or(2000);
    for replicas in [1, 3] {
        let servers = Servers::start(replicas);
        let cluster = Uuid::new_v4();
        let decider = open(&servers, 0, cluster, replicas).await;
        let executor = open(&servers, replicas - 1, cluster, replicas).await;
        measure(&decider, &executor, replicas, count).await;
    }
}

async fn open(servers: &Servers, at: usize, cluster: Uuid, replicas: usize) -> JetStreamLog {
    let config = ConnectConfig {
        servers: vec![servers.urls()[at].clone()],
        only_these_servers: true,
        name: format!("node-{at}"),
        ..ConnectConfig::default()
    };
    let connection = Connection::open(config).await.unwrap();
    JetStreamLog::open(connection, LogConfig::new(cluster, replicas)).await.unwrap()
}

async fn measure(decider: &JetStreamLog, executor: &JetStreamLog, replicas: usize, count: usize) {
    let node = NodeId(Uuid::from_u128(2));
    let tasks = JetStreamTasks::new(executor, node);
    let mut deliveries = tasks.deliver().await.unwrap();
    let (mut durable, mut in_hand) = (Vec::new(), Vec::new());
    for number in 0..WARM + count {
        let commit = decision(node, number);
        let since = Instant::now();
        let (appended, delivery) = tokio::join!(
            async {
                decider.append(commit).await.unwrap();
                since.elapsed()
            },
            async {
                let delivery = deliveries.next().await.unwrap().unwrap();
                (since.elapsed(), delivery)
            },
        );
        tasks.acknowledge(delivery.1.sequence).await.unwrap();
        if number >= WARM {
            durable.push(appended);
            in_hand.push(delivery.0);
        }
    }
    println!("R{replicas}, {count} tasks one after the other, every write synced");
    println!("  appended                     {}", shown(durable));
    println!("  in the hands of another node {}", shown(in_hand));
}

/// A fact of an instance and the task that it orders, as a decision writes them.
fn decision(node: NodeId, number: usize) -> Commit {
    let id = Uuid::from_u128(number as u128);
    let record = Record {
        id,
        time: Utc::now(),
        actor: Actor::system(),
        operation: OperationId(id),
        caused_by: None,
        reason: Some("x".repeat(120)),
        epoch: Epoch(1),
        prev: None,
        body: Body::Events(Vec::new()),
    };
    let payload = record.encode();
    let fact = StreamId::new(StreamKind::Instance, id);
    let order = StreamId::new(StreamKind::Task, node);
    let parts = vec![
        Part { stream: fact, expected: Expected::Exact(Revision(0)), payload: payload.clone() },
        Part { stream: order, expected: Expected::Any, payload },
    ];
    Commit { id: CommitId(Uuid::new_v4()), parts }
}

fn shown(mut times: Vec<Duration>) -> String {
    times.sort();
    let at = |percent: usize| times[(times.len() - 1) * percent / 100];
    format!("p50 {:?}, p99 {:?}, max {:?}", at(50), at(99), at(100))
}
