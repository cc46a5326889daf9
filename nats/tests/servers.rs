//! Real servers that fail, fill up, are cut off, or are not what the log needs.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::{Duration, Instant},
};

use futures::StreamExt;
use stapes_core::{
    ids::{CommitId, Revision, Sequence, StreamId, StreamKind},
    port::log::{AppendError, Commit, EventLog, Expected, Followed, Part, Stored},
};
use stapes_nats::{
    Authentication, ConnectConfig, Connection, JetStreamLog, LogConfig, OpenError, testing::Servers,
};
use uuid::Uuid;

mod proxy;

const CLUSTER: Uuid = Uuid::from_u128(0xc1);

fn config(urls: Vec<String>) -> ConnectConfig {
    ConnectConfig { servers: urls, name: "test".to_owned(), ..ConnectConfig::default() }
}

async fn open(urls: Vec<String>, replicas: usize) -> Result<JetStreamLog, OpenError> {
    let connection = Connection::open(config(urls)).await?;
    JetStreamLog::open(connection, LogConfig::new(CLUSTER, replicas)).await
}

fn stream(number: u128) -> StreamId {
    StreamId::new(StreamKind::Instance, Uuid::from_u128(number))
}

fn tasks() -> StreamId {
    StreamId::new(StreamKind::Task, Uuid::from_u128(1))
}

/// The `number`-th commit of a writer: its own stream, and every other time a task.
fn commit(writer: u128, number: u64) -> Commit {
    let payload = format!("{writer} {number}");
    let expected = Expected::Exact(Revision(number));
    let mut parts =
        vec![Part { stream: stream(writer), expected, payload: payload.clone().into() }];
    if number % 2 == 1 {
        parts.push(Part {
            stream: tasks(),
            expected: Expected::Any,
            payload: payload.clone().into(),
        });
    }
    Commit { id: CommitId::derive(&["commit", &payload]), parts }
}

/// Everything in the log, checked: gapless, whole commits, each id once.
async fn audited(log: &JetStreamLog) -> Vec<Stored> {
    let records = log.read(Sequence(1), usize::MAX).await.unwrap();
    check(&records);
    assert_eq!(log.head().await.unwrap().0, records.len() as u64);
    records
}

fn check(records: &[Stored]) {
    let mut revisions: BTreeMap<StreamId, u64> = BTreeMap::new();
    let (mut ended, mut open) = (BTreeSet::new(), None);
    for (sequence, record) in (1..).zip(records) {
        assert_eq!(record.sequence, Sequence(sequence), "gapless");
        let revision = revisions.entry(record.stream).or_default();
        *revision += 1;
        assert_eq!(record.revision, Revision(*revision), "gapless in {}", record.stream);
        assert!(open.is_none_or(|open| open == record.commit), "a commit is not whole");
        open = (!record.last_in_commit).then_some(record.commit);
        if record.last_in_commit {
            assert!(ended.insert(record.commit), "a commit is there twice");
        }
    }
    assert_eq!(open, None, "the last commit is not whole");
}

/// Follows until `wanted` records came, and checks them.
fn follower(log: Arc<JetStreamLog>, wanted: usize) -> tokio::task::JoinHandle<Vec<Stored>> {
    tokio::spawn(async move {
        let mut seen = Vec::new();
        let mut follower = log.follow(Sequence(0)).await.unwrap();
        while seen.len() < wanted {
            match follower.next().await.unwrap().unwrap() {
                Followed::Records(records) => seen.extend(records),
                Followed::CaughtUp(_) => {}
            }
        }
        check(&seen);
        seen
    })
}

async fn within<F: Future>(seconds: u64, what: &str, future: F) -> F::Output {
    let answer = tokio::time::timeout(Duration::from_secs(seconds), future).await;
    answer.unwrap_or_else(|_| panic!("not within {seconds} s: {what}"))
}

/// The server that leads the log's stream.
async fn leader(log: &JetStreamLog) -> String {
    within(30, "a leader", async {
        loop {
            if let Some(leader) = log.keepers().await.ok().and_then(|keepers| keepers.leader) {
                return leader;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await
}

/// The leader of three dies during appends: none that was acknowledged is lost, none is there twice,
/// and appends go on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_leader_is_killed_during_appends() {
    const WRITERS: u128 = 4;
    const COMMITS: u64 = 150;
    let mut servers = Servers::start(3);
    // The observer's server is not killed; the writers' may be.
    let log = Arc::new(open(servers.urls(), 3).await.unwrap());
    let other = Arc::new(open(servers.urls(), 3).await.unwrap());
    let records = usize::try_from(WRITERS).unwrap() * usize::try_from(COMMITS).unwrap() * 3 / 2;
    let followers = [follower(log.clone(), records), follower(other.clone(), records)];
    let writers: Vec<_> = (0..WRITERS)
        .map(|writer| {
            let log = if writer % 2 == 0 { log.clone() } else { other.clone() };
            tokio::spawn(async move {
                let mut slowest = Duration::ZERO;
                for number in 0..COMMITS {
                    let since = Instant::now();
                    log.append(commit(writer, number)).await.unwrap();
                    slowest = slowest.max(since.elapsed());
                }
                slowest
            })
        })
        .collect();
    let name = within(60, "some appends", async {
        while log.head().await.unwrap() < Sequence(100) {
            tokio::task::yield_now().await;
        }
        leader(&log).await
    })
    .await;
    servers.named(&name).kill();
    for writer in writers {
        let slowest = within(90, "a writer", writer).await.unwrap();
        assert!(slowest < Duration::from_secs(20), "an append took {slowest:?}");
    }
    servers.named(&name).restart();
    let stored = within(30, "all records", async {
        loop {
            if let Ok(records) = log.read(Sequence(1), usize::MAX).await
                && log.head().await.is_ok()
            {
                return records;
            }
        }
    })
    .await;
    check(&stored);
    assert_eq!(stored.len(), records, "what was acknowledged is there, and nothing else");
    for follower in followers {
        assert_eq!(within(60, "a follower", follower).await.unwrap(), stored);
    }
}

/// The only server dies and comes back: followers lose nothing and see nothing twice, appends wait.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_is_waited_for() {
    const COMMITS: u64 = 60;
    let mut servers = Servers::start(1);
    let log = Arc::new(open(servers.urls(), 1).await.unwrap());
    let follower = follower(log.clone(), 90);
    let writer = tokio::spawn({
        let log = log.clone();
        async move {
            for number in 0..COMMITS {
                log.append(commit(0, number)).await.unwrap();
            }
        }
    });
    for at in [20, 50] {
        within(60, "appends", async {
            while log.head().await.map_or(true, |head| head < Sequence(at)) {
                tokio::task::yield_now().await;
            }
        })
        .await;
        servers.servers[0].restart();
    }
    within(60, "the writer", writer).await.unwrap();
    let seen = within(30, "the follower", follower).await.unwrap();
    assert_eq!(audited(&log).await, seen);
}

/// Two processes on one log agree on who was first, and each knows what the other wrote.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_processes_decide_on_one_stream() {
    let servers = Servers::start(1);
    let logs = [open(servers.urls(), 1).await.unwrap(), open(servers.urls(), 1).await.unwrap()];
    for number in 0..40 {
        let rival = |process: usize| {
            let mut commit = commit(0, number);
            commit.id = CommitId::derive(&["rival", &format!("{process} {number}")]);
            logs[process].append(commit)
        };
        let answers = tokio::join!(rival(0), rival(1));
        let lost = match answers {
            (Ok(_), Err(lost)) | (Err(lost), Ok(_)) => lost,
            both => panic!("one wins and one loses, not {both:?}"),
        };
        let AppendError::Conflict { stream: at, actual } = lost else { panic!("{lost}") };
        assert_eq!((at, actual), (stream(0), Revision(number + 1)));
    }
    // The other's commit is known to this one, whatever it expects.
    let mut mine = commit(1, 0);
    let first = logs[0].append(mine.clone()).await.unwrap();
    mine.parts[0].expected = Expected::Any;
    let again = logs[1].append(mine).await.unwrap();
    assert_eq!((again.first, again.last, again.duplicate), (first.first, first.last, true));
    assert_eq!(audited(&logs[0]).await, audited(&logs[1]).await);
}

/// A commit is stored and the answer gets lost with the connection: it is found, and is there once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_answer_is_found_out() {
    for replicas in [1, 3] {
        let servers = Servers::start(replicas);
        let direct = open(servers.urls(), replicas).await.unwrap();
        let proxy = proxy::Proxy::start(&servers.servers[0].url()).await;
        let connection = ConnectConfig { only_these_servers: true, ..config(vec![proxy.url()]) };
        let connection = Connection::open(connection).await.unwrap();
        let config = LogConfig::new(CLUSTER, replicas);
        let log = Arc::new(JetStreamLog::open(connection, config).await.unwrap());
        for number in 0..4 {
            log.append(commit(0, number)).await.unwrap();
            proxy.mute();
            let sent = Instant::now();
            let append = tokio::spawn({
                let log = log.clone();
                async move { log.append(commit(1, number)).await }
            });
            within(10, "the commit is stored", async {
                while direct.read_stream(stream(1), Revision(number)).await.unwrap().is_empty() {
                    tokio::task::yield_now().await;
                }
            })
            .await;
            proxy.cut();
            let appended = within(20, "the answer", append).await.unwrap().unwrap();
            assert!(!appended.duplicate);
            assert!(sent.elapsed() < Duration::from_secs(15), "{:?}", sent.elapsed());
        }
        assert_eq!(audited(&log).await.len(), 12);
        assert_eq!(audited(&direct).await.len(), 12);
    }
}

/// Without a majority nothing is written, and the answer says who is missing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_majority_the_log_is_unavailable() {
    let mut servers = Servers::start(3);
    let log = open(servers.urls(), 3).await.unwrap();
    log.append(commit(0, 0)).await.unwrap();
    leader(&log).await;
    let here = log.connection().server();
    let others: Vec<_> = ["n1", "n2", "n3"].into_iter().filter(|name| *name != here).collect();
    for name in &others {
        servers.named(name).kill();
    }
    let refused = within(45, "an answer", log.append(commit(0, 1))).await.unwrap_err();
    let text = match &refused {
        AppendError::Unavailable(cause) | AppendError::OutcomeUnknown(cause) => cause.to_string(),
        AppendError::Conflict { .. }
        | AppendError::Full(_)
        | AppendError::Corrupt(_)
        | AppendError::Invalid(_) => panic!("{refused:?}"),
    };
    assert!(others.iter().any(|name| text.contains(name)), "{text}");
    within(20, "no head", async { while log.head().await.is_ok() {} }).await;
    for name in &others {
        servers.named(name).restart();
    }
    let appended = within(60, "it comes back", async {
        loop {
            match log.append(commit(0, 1)).await {
                Ok(appended) => return appended,
                Err(AppendError::Unavailable(_) | AppendError::OutcomeUnknown(_)) => {}
                Err(other) => panic!("{other:?}"),
            }
        }
    })
    .await;
    assert_eq!((appended.first, appended.last), (Sequence(2), Sequence(3)));
    audited(&log).await;
}

/// A log that may not grow says so, keeps all that it has, and no commit is cut in two.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_log_takes_whole_commits_or_none() {
    for replicas in [1, 3] {
        let servers = Servers::start(replicas);
        let connection = Connection::open(config(servers.urls())).await.unwrap();
        let mut config = LogConfig::new(CLUSTER, replicas);
        config.max_bytes = Some(256 << 10);
        let log = JetStreamLog::open(connection, config).await.unwrap();
        let mut refusals = 0;
        for number in 0..200u128 {
            let part = |stream| {
                let payload = vec![7; 3000].into();
                Part { stream, expected: Expected::Exact(Revision(0)), payload }
            };
            let parts = (0..10).map(|index| part(stream(100 + number * 10 + index))).collect();
            let id = CommitId::derive(&["full", &number.to_string()]);
            match log.append(Commit { id, parts }).await {
                Ok(_) => assert_eq!(refusals, 0, "what did not fit before fits now"),
                Err(AppendError::Full(text)) => {
                    assert!(text.contains("maximum bytes"), "{text}");
                    refusals += 1;
                    if refusals == 3 {
                        break;
                    }
                }
                Err(other) => panic!("{replicas}: {other:?}"),
            }
        }
        assert_eq!(refusals, 3, "it became full");
        let records = audited(&log).await;
        assert!(!records.is_empty() && records.len() % 10 == 0, "{}", records.len());
    }
}

/// One replica becomes three, and then the one that was alone may die.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replicas_are_added() {
    let mut servers = Servers::start(3);
    let log = open(servers.urls(), 1).await.unwrap();
    for number in 0..10 {
        log.append(commit(0, number)).await.unwrap();
    }
    let alone = leader(&log).await;
    log.set_replicas(3).await.unwrap();
    within(30, "three replicas", async {
        while log.keepers().await.map_or(true, |keepers| keepers.current() < 3) {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await;
    servers.named(&alone).kill();
    log.append(commit(0, 10)).await.unwrap();
    assert_eq!(audited(&log).await.len(), 16);
}

/// What the servers lack is said at once, with what to do about it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unfit_servers_are_refused() {
    let disabled = Servers::start_with(1, "max_payload: 2MB\n", "");
    let refused = open(disabled.urls(), 1).await.unwrap_err();
    assert!(matches!(&refused, OpenError::NoJetStream { server } if server == "n1"), "{refused}");

    let narrow = Servers::start_with(1, "", "sync_interval: always");
    let refused = open(narrow.urls(), 1).await.unwrap_err();
    assert!(matches!(refused, OpenError::PayloadTooSmall { max: 1048576, .. }), "{refused}");

    let one = Servers::start(1);
    let refused = open(one.urls(), 3).await.unwrap_err();
    assert!(matches!(refused, OpenError::TooFewServers { replicas: 3, .. }), "{refused}");
    let refused = open(one.urls(), 2).await.unwrap_err();
    assert!(matches!(refused, OpenError::Replicas(2)), "{refused}");

    let old = proxy::pretend("2.10.25").await;
    let refused = open(vec![old], 1).await.unwrap_err();
    assert!(matches!(refused, OpenError::TooOld { .. }), "{refused}");
    assert!(refused.to_string().contains("2.10.25"), "{refused}");
    assert!(refused.to_string().contains("install"), "{refused}");

    let refused = open(vec!["nats://127.0.0.1:1".to_owned()], 1).await.unwrap_err();
    assert!(matches!(refused, OpenError::Unreachable { .. }), "{refused}");
    let refused = open(vec!["nats:// no".to_owned()], 1).await.unwrap_err();
    assert!(matches!(refused, OpenError::Address { .. }), "{refused}");
}

/// A password is asked for, in the address or beside it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn strangers_are_not_let_in() {
    let users = "max_payload: 2MB\nauthorization { users: [{ user: stapes, password: right }] }\n";
    let servers = Servers::start_with(1, users, "sync_interval: always");
    let refused = open(servers.urls(), 1).await.unwrap_err();
    assert!(matches!(refused, OpenError::NotLetIn { .. }), "{refused}");
    for (password, let_in) in [("wrong", false), ("right", true)] {
        let user =
            Authentication::User { name: "stapes".to_owned(), password: password.to_owned() };
        let beside = ConnectConfig { authentication: user, ..config(servers.urls()) };
        assert_eq!(Connection::open(beside).await.is_ok(), let_in);
        let url = servers.urls()[0].replace("nats://", &format!("nats://stapes:{password}@"));
        let opened = open(vec![url], 1).await;
        assert_eq!(opened.is_ok(), let_in, "{opened:?}");
    }
}

/// What is not this cluster's log, or not as it was made, is left alone.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_clusters_stream_is_refused() {
    let servers = Servers::start(1);
    let log = open(servers.urls(), 1).await.unwrap();
    log.append(commit(0, 0)).await.unwrap();
    let client = async_nats::connect(&servers.urls()[0]).await.unwrap();
    let jetstream = async_nats::jetstream::new(client);
    let name = format!("STAPES_{}", CLUSTER.simple());
    let config = jetstream.get_stream(&name).await.unwrap().cached_info().config.clone();

    let mut other = config.clone();
    other.metadata.insert("stapes-cluster".to_owned(), Uuid::nil().to_string());
    jetstream.update_stream(&other).await.unwrap();
    let refused = open(servers.urls(), 1).await.unwrap_err();
    assert!(matches!(refused, OpenError::Foreign { .. }), "{refused}");

    let mut short = config.clone();
    short.max_age = Duration::from_secs(1000);
    jetstream.update_stream(&short).await.unwrap();
    let refused = open(servers.urls(), 1).await.unwrap_err();
    assert!(matches!(refused, OpenError::Foreign { .. }), "{refused}");

    jetstream.update_stream(&config).await.unwrap();
    assert_eq!(audited(&open(servers.urls(), 1).await.unwrap()).await.len(), 1);

    // What nobody of ours wrote stops the log, loudly.
    jetstream
        .publish(format!("e.{}.instance.x", CLUSTER.simple()), "x".into())
        .await
        .unwrap()
        .await
        .unwrap();
    let refused = within(10, "it is seen", async {
        loop {
            match log.append(commit(0, 1)).await {
                Err(AppendError::Corrupt(text)) => return text,
                _ => tokio::task::yield_now().await,
            }
        }
    })
    .await;
    assert!(refused.contains("instance.x"), "{refused}");
    assert!(matches!(open(servers.urls(), 1).await.unwrap_err(), OpenError::Log(_)));
}
