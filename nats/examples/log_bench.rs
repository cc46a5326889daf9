//! What the log port costs on top of JetStream: the same servers, bare and through the port.
//!
//! `cargo run --release -p stapes-nats --features host --example log_bench [appends] [records]`
//!
//! Servers sync every write. Bare and ours take turns, so that a busy machine is busy for both.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a measurement talks and may panic")]

use std::time::{Duration, Instant};

use async_nats::{HeaderMap, jetstream};
use bytes::Bytes;
use chrono::Utc;
use futures::{StreamExt, stream::FuturesUnordered};
use stapes_core::{
    ids::{CommitId, Epoch, OperationId, Revision, Sequence, StreamId, StreamKind},
    port::log::{Commit, EventLog, Expected, Followed, Part},
    record::{Actor, Body, Record},
};
use stapes_nats::{ConnectConfig, Connection, JetStreamLog, LogConfig, testing::Servers};
use uuid::Uuid;

/// Streams that writers take in turn.
const STREAMS: usize = 64;
const ROUNDS: usize = 4;

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    let number = |at, otherwise: usize| {
        std::env::args().nth(at).and_then(|text| text.parse().ok()).unwrap_or(otherwise)
    };
    let (appends, records) = (number(1, 2000), number(2, 100_000));
    for replicas in [1, 3] {
        let servers = Servers::start(replicas);
        println!("R{replicas}, every write synced");
        appending(&servers, replicas, appends).await;
        following(&servers, replicas, records).await;
    }
}

async fn open(servers: &Servers, cluster: Uuid, replicas: usize, recent: usize) -> JetStreamLog {
    let (servers, name) = (servers.urls(), "bench".to_owned());
    let config = ConnectConfig { servers, name, ..ConnectConfig::default() };
    let connection = Connection::open(config).await.unwrap();
    let mut config = LogConfig::new(cluster, replicas);
    config.recent_bytes = recent;
    JetStreamLog::open(connection, config).await.unwrap()
}

fn stream(number: usize) -> StreamId {
    StreamId::new(StreamKind::Instance, Uuid::from_u128(number as u128))
}

/// A record of about 300 bytes, as a decision writes them.
fn payload(number: usize) -> Bytes {
    let record = Record {
        id: Uuid::from_u128(number as u128),
        time: Utc::now(),
        actor: Actor::system(),
        operation: OperationId(Uuid::from_u128(number as u128)),
        caused_by: Some(Uuid::nil()),
        reason: Some("x".repeat(120)),
        epoch: Epoch(1),
        prev: None,
        body: Body::Events(Vec::new()),
    };
    record.encode()
}

/// Publishes as a client without the port would, with the headers that the port writes.
struct Bare {
    context: jetstream::Context,
    subject: String,
    last: Vec<u64>,
}

impl Bare {
    async fn new(servers: &Servers, replicas: usize) -> Self {
        let client = async_nats::connect(servers.urls()).await.unwrap();
        let context = jetstream::new(client);
        let subject = format!("b.{}.instance", Uuid::new_v4().simple());
        let config = jetstream::stream::Config {
            name: "BARE".to_owned(),
            subjects: vec![format!("{subject}.>")],
            num_replicas: replicas,
            allow_direct: true,
            duplicate_window: Duration::from_secs(600),
            ..Default::default()
        };
        context.create_stream(config).await.unwrap();
        Self { context, subject, last: vec![0; STREAMS] }
    }

    async fn publish(&self, at: usize, revision: usize, payload: Bytes) -> u64 {
        let mut headers = HeaderMap::new();
        headers.insert("Nats-Msg-Id", format!("{}.0", Uuid::new_v4().simple()));
        headers.insert("Stapes-Part", format!("0/1 {revision}"));
        headers.insert("Nats-Expected-Last-Subject-Sequence", self.last[at].to_string());
        let subject = format!("{}.{}", self.subject, Uuid::from_u128(at as u128).simple());
        let ack = self.context.publish_with_headers(subject, headers, payload).await.unwrap();
        ack.await.unwrap().sequence
    }
}

async fn append(log: &JetStreamLog, at: usize, revision: usize, tasks: usize, payload: Bytes) {
    let expected = Expected::Exact(Revision(revision as u64));
    let mut parts = vec![Part { stream: stream(at), expected, payload: payload.clone() }];
    let node = StreamId::new(StreamKind::Task, Uuid::nil());
    parts.resize(1 + tasks, Part { stream: node, expected: Expected::Any, payload });
    log.append(Commit { id: CommitId(Uuid::new_v4()), parts }).await.unwrap();
}

async fn appending(servers: &Servers, replicas: usize, appends: usize) {
    let log = open(servers, Uuid::new_v4(), replicas, 32 << 20).await;
    let mut bare = Bare::new(servers, replicas).await;
    let (mut revision, each) = (0, appends / ROUNDS / STREAMS);
    let (mut one_bare, mut one_ours, mut with_task) = (Times::new(), Times::new(), Times::new());
    let (mut many_bare, mut many_ours) = (Duration::ZERO, Duration::ZERO);
    for _ in 0..ROUNDS {
        for _ in 0..each {
            for at in 0..STREAMS {
                let since = Instant::now();
                bare.last[at] = bare.publish(at, revision, payload(at)).await;
                one_bare.add(since);
                let since = Instant::now();
                append(&log, at, 2 * revision, 0, payload(at)).await;
                one_ours.add(since);
                if at % 4 == 0 {
                    let since = Instant::now();
                    append(&log, STREAMS + at, revision, 1, payload(at)).await;
                    with_task.add(since);
                }
            }
            let since = Instant::now();
            let sends: FuturesUnordered<_> = (0..STREAMS)
                .map(async |at| (at, bare.publish(at, revision, payload(at)).await))
                .collect();
            let sent: Vec<_> = sends.collect().await;
            many_bare += since.elapsed();
            sent.into_iter().for_each(|(at, last)| bare.last[at] = last);
            let since = Instant::now();
            let sends: FuturesUnordered<_> =
                (0..STREAMS).map(|at| append(&log, at, 2 * revision + 1, 0, payload(at))).collect();
            sends.collect::<Vec<_>>().await;
            many_ours += since.elapsed();
            revision += 1;
        }
    }
    println!("  append, one at a time: bare {one_bare}");
    println!("                         ours {one_ours} = {:.2}x", one_ours.over(&one_bare));
    println!("                         ours, with a task {with_task}");
    let rate = |time: Duration| (each * ROUNDS * STREAMS) as f64 / time.as_secs_f64();
    println!(
        "  append, {STREAMS} at a time: bare {:.0}/s, ours {:.0}/s = {:.2}x",
        rate(many_bare),
        rate(many_ours),
        many_ours.as_secs_f64() / many_bare.as_secs_f64()
    );
}

/// Reads the whole log bare and through the port, decoding and folding each record.
async fn following(servers: &Servers, replicas: usize, records: usize) {
    let cluster = Uuid::new_v4();
    let log = open(servers, cluster, replicas, 1 << 30).await;
    for start in (0..records).step_by(500) {
        let part = |number| {
            let (stream, expected) = (stream(number), Expected::Exact(Revision(0)));
            Part { stream, expected, payload: payload(number) }
        };
        let parts = (start..start + 500).map(part).collect();
        log.append(Commit { id: CommitId(Uuid::new_v4()), parts }).await.unwrap();
    }
    let client = async_nats::connect(servers.urls()).await.unwrap();
    let context = jetstream::new(client);
    let raw = context.get_stream(format!("STAPES_{}", cluster.simple())).await.unwrap();
    let mut rates = [0.0; 4];
    for _ in 0..ROUNDS {
        let since = Instant::now();
        let consumer = raw.create_consumer(jetstream::consumer::pull::OrderedConfig::default());
        let mut messages = consumer.await.unwrap().messages().await.unwrap();
        for _ in 0..records {
            messages.next().await.unwrap().unwrap();
        }
        let best = |rate: &mut f64, since: Instant| {
            *rate = rate.max(records as f64 / since.elapsed().as_secs_f64());
        };
        best(&mut rates[0], since);
        let since = Instant::now();
        let cold = open(servers, cluster, replicas, 1 << 20).await;
        best(&mut rates[1], since);
        let since = Instant::now();
        fold(&cold, records).await;
        best(&mut rates[2], since);
        let since = Instant::now();
        fold(&log, records).await;
        best(&mut rates[3], since);
    }
    let [raw, open, cold, warm] = rates;
    println!("  {records} records, the best of {ROUNDS}: a bare ordered consumer {raw:.0}/s");
    println!("    opening the log {open:.0}/s = {:.2}x", open / raw);
    println!("    follow, decode, fold: from the servers {cold:.0}/s = {:.2}x", cold / raw);
    println!("                          from memory {warm:.0}/s = {:.2}x", warm / raw);
}

async fn fold(log: &JetStreamLog, records: usize) {
    let mut follower = log.follow(Sequence(0)).await.unwrap();
    let (mut seen, mut reasons) = (0, 0);
    while seen < records {
        if let Followed::Records(batch) = follower.next().await.unwrap().unwrap() {
            seen += batch.len();
            for record in batch {
                let record = Record::decode(&record.payload).unwrap();
                reasons += record.reason.map_or(0, |reason| reason.len());
            }
        }
    }
    assert_eq!(reasons, records * 120);
}

/// How long each took.
struct Times(Vec<Duration>);

impl Times {
    fn new() -> Self {
        Self(Vec::new())
    }

    fn add(&mut self, since: Instant) {
        self.0.push(since.elapsed());
    }

    fn at(&self, percent: usize) -> Duration {
        let mut sorted = self.0.clone();
        sorted.sort();
        sorted[(sorted.len() - 1) * percent / 100]
    }

    fn over(&self, other: &Self) -> f64 {
        self.at(50).as_secs_f64() / other.at(50).as_secs_f64()
    }
}

impl std::fmt::Display for Times {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "p50 {:?}, p99 {:?}", self.at(50), self.at(99))
    }
}
