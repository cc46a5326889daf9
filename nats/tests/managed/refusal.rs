//! Who is not let in, and what is not given: the servers' own refusals, with real certificates.

use std::time::Duration;

use async_nats::{
    Client,
    jetstream::{self, consumer::pull},
};
use futures::StreamExt;
use stapes_core::{
    ids::{CommitId, NodeId, StreamId, StreamKind},
    port::{
        log::{Commit, EventLog, Expected, Part},
        queue::Tasks,
    },
};
use stapes_nats::{
    ConnectConfig, JetStreamTasks,
    managed::{ManagedConfig, ManagedServer, Role, Stop},
};
use uuid::Uuid;

use crate::farm::{Farm, SOON, append, connect, kept_log, log};

/// What is not permitted is not answered: only so long is it waited for.
const SILENCE: Duration = Duration::from_millis(500);

async fn asked(client: &Client, subject: String, payload: String) -> bool {
    let request = async_nats::Request::new().payload(payload.into()).timeout(Some(SILENCE));
    client.send_request(subject, request).await.is_ok()
}

/// What is pulled keeps its own subject, so it is no answer to a question.
async fn pulled(client: &Client, subject: String) -> bool {
    let inbox = client.new_inbox();
    let mut pulled = client.subscribe(inbox.clone()).await.unwrap();
    client.publish_with_reply(subject, inbox, "1".into()).await.unwrap();
    tokio::time::timeout(SILENCE, pulled.next()).await.is_ok()
}

#[tokio::test]
async fn only_members_certificates_are_let_in() {
    let farm = Farm::new(1);
    let server = ManagedServer::start(farm.config(1, 1)).await.unwrap();
    let right = server.connection();
    let own = farm.site(1).node;
    connect(&right).await.expect("the node itself is let in");

    let without = ConnectConfig { tls: None, ..right.clone() };
    connect(&without).await.expect_err("nobody is let in without a certificate");
    let forged = ConnectConfig { tls: Some(farm.forged("forged", own)), ..right.clone() };
    connect(&forged).await.expect_err("nor with one that another authority signed");
    let stranger = farm.certified("stranger", NodeId(Uuid::new_v4()));
    let stranger = ConnectConfig { tls: Some(stranger), ..right.clone() };
    connect(&stranger).await.expect_err("nor as a node that is no member");

    // The keeper's key is good on this server with a member's certificate, and nothing else is.
    let keeper = server.keeper_connection();
    connect(&keeper).await.expect("the keeper is let in");
    let forged = ConnectConfig { tls: Some(farm.forged("forged-keeper", own)), ..keeper };
    connect(&forged).await.expect_err("the key alone is not enough");
    server.stop(Stop::Now).await.unwrap();
}

#[tokio::test]
async fn a_server_that_is_no_members_is_not_connected_to() {
    let farm = Farm::new(2);
    let server = ManagedServer::start(farm.config(1, 1)).await.unwrap();
    kept_log(&farm, &server).await;
    append(&log(&farm, &server).await, 0..5).await;
    // It has a certificate of the authority, as one that was removed has. It thinks of itself what it
    // likes, and its own clients, but the member's key is the only one that is pinned.
    let relay = ManagedConfig { role: Role::Relay, ..farm.config(2, 2) };
    let removed = ManagedServer::start(relay).await.unwrap();
    let own = removed.connection().servers[..1].to_vec();
    let own = ConnectConfig { servers: own, ..removed.connection() };
    let client = connect(&own).await.unwrap();
    assert!(!asked(&client, "$JS.API.INFO".to_owned(), String::new()).await);
    assert_eq!(removed.deciders().await.unwrap().online.len(), 1);
    assert_eq!(server.deciders().await.unwrap().online.len(), 1);
    // Told of it, the member lets it in.
    server.update(farm.config(1, 2)).await.unwrap();
    let let_in = async {
        while removed.deciders().await.unwrap().online.len() < 2 {
            tokio::time::sleep(SILENCE).await;
        }
    };
    tokio::time::timeout(SOON, let_in).await.unwrap();
    removed.stop(Stop::Now).await.unwrap();
    server.stop(Stop::Now).await.unwrap();
}

#[tokio::test]
async fn a_node_gets_its_own_tasks_and_not_anothers() {
    let farm = Farm::new(3);
    let mut servers = vec![ManagedServer::start(farm.config(1, 1)).await.unwrap()];
    servers[0].update(farm.config(1, 3)).await.unwrap();
    servers.push(ManagedServer::start(farm.config(2, 3)).await.unwrap());
    let kept = kept_log(&farm, &servers[0]).await;
    let keeper = connect(&servers[0].keeper_connection()).await.unwrap();
    let keeper = jetstream::new(keeper);
    let (two, three) = (farm.site(2).node, farm.site(3).node);
    for node in [two, three] {
        let stream = StreamId::new(StreamKind::Task, node);
        let part = Part { stream, expected: Expected::Any, payload: "do".into() };
        let id = CommitId::derive(&["task", &node.to_string()]);
        kept.append(Commit { id, parts: vec![part] }).await.unwrap();
    }
    let name = format!("node-{}-a", three.0.simple());
    let consumer = pull::Config {
        durable_name: Some(name.clone()),
        filter_subject: farm.subject(&format!("task.{}", three.0.simple())),
        ..pull::Config::default()
    };
    keeper.create_consumer_on_stream(consumer, farm.stream()).await.unwrap();

    // Its own: made, read and acknowledged by itself, by one consumer after the other.
    let log = log(&farm, &servers[1]).await;
    for _ in 0..3 {
        let own = JetStreamTasks::new(&log, two);
        let mut tasks = own.deliver().await.unwrap();
        let task = tokio::time::timeout(SOON, tasks.next()).await.unwrap().unwrap().unwrap();
        assert_eq!(&task.payload[..], b"do");
    }
    let own = JetStreamTasks::new(&log, two);
    let task = own.deliver().await.unwrap().next().await.unwrap().unwrap();
    own.acknowledge(task.sequence).await.unwrap();
    assert_eq!(JetStreamTasks::new(&log, two).done().await.unwrap(), task.sequence);

    // Another's: neither read, nor made anew, nor removed.
    let client = connect(&servers[1].connection()).await.unwrap();
    let stream = farm.stream();
    let next = format!("$JS.API.CONSUMER.MSG.NEXT.{stream}.{name}");
    assert!(!pulled(&client, next.clone()).await, "node 2 reads node 3's tasks");
    let delete = format!("$JS.API.CONSUMER.DELETE.{stream}.{name}");
    assert!(!asked(&client, delete, String::new()).await, "node 2 removes node 3's consumer");
    let body = serde_json::json!({
        "stream_name": stream,
        "config": { "name": name, "durable_name": name, "deliver_policy": "new" },
    });
    let filter = farm.subject("task.*");
    for create in [
        format!("$JS.API.CONSUMER.CREATE.{stream}.{name}"),
        format!("$JS.API.CONSUMER.CREATE.{stream}.{name}.{filter}"),
        format!("$JS.API.CONSUMER.CREATE.{stream}"),
        format!("$JS.API.CONSUMER.DURABLE.CREATE.{stream}.{name}"),
    ] {
        assert!(
            !asked(&client, create.clone(), body.to_string()).await,
            "node 2 changes it: {create}"
        );
    }
    let keeper = connect(&servers[0].keeper_connection()).await.unwrap();
    assert!(pulled(&keeper, next).await, "the task is still there");
    for server in servers {
        server.stop(Stop::Now).await.unwrap();
    }
}

#[tokio::test]
async fn no_node_changes_streams_or_speaks_for_another() {
    let farm = Farm::new(1);
    let server = ManagedServer::start(farm.config(1, 1)).await.unwrap();
    kept_log(&farm, &server).await;
    append(&log(&farm, &server).await, 0..5).await;
    let client = connect(&server.connection()).await.unwrap();
    let stream = farm.stream();
    for what in ["PURGE", "DELETE", "UPDATE", "MSG.DELETE", "SNAPSHOT", "LEADER.STEPDOWN"] {
        let subject = format!("$JS.API.STREAM.{what}.{stream}");
        assert!(!asked(&client, subject, "{}".to_owned()).await, "{what}");
    }
    assert!(!asked(&client, "$JS.API.STREAM.CREATE.OTHER".to_owned(), "{}".to_owned()).await);
    assert!(!asked(&client, "$SYS.REQ.SERVER.PING".to_owned(), String::new()).await);

    // Heartbeats: its own are heard, another's are not said.
    let short = farm.cluster.simple();
    let own = farm.site(1).node.0.simple();
    let mut heard = client.subscribe(format!("h.{short}.*")).await.unwrap();
    client.publish(format!("h.{short}.{}", Uuid::new_v4().simple()), "false".into()).await.unwrap();
    client.publish(format!("h.{short}.{own}"), "true".into()).await.unwrap();
    assert_eq!(&heard.next().await.unwrap().payload[..], b"true");

    // Others' answers are not overheard.
    let mut overheard = client.subscribe("_INBOX.>").await.unwrap();
    let keeper = connect(&server.keeper_connection()).await.unwrap();
    let context = jetstream::new(keeper);
    context.get_stream(stream).await.unwrap();
    assert!(tokio::time::timeout(SILENCE, overheard.next()).await.is_err());
    server.stop(Stop::Now).await.unwrap();
}
