//! Questions to this node's own server: is it there, is it ours, is it ready, what does the cluster of
//! servers look like.

use std::{collections::BTreeSet, path::Path, time::Duration};

use async_nats::client::Request;
use futures::StreamExt;
use serde::Deserialize;
use serde_json::{Value, json};
use stapes_core::ids::NodeId;
use tokio::time::{Instant, timeout_at};

use super::{
    Deciders, ManagedConfig, ManagedError, Role, node_of, paths::Paths, rights, server_name,
};
use crate::{Authentication, ConnectConfig, Connection, OpenError};

/// How long an answer may take.
const ANSWER_MAX: Duration = Duration::from_secs(3);
/// How long those that decide may be without a leader when one of them is gone.
const ELECTED_WITHIN: Duration = Duration::from_secs(20);
/// How long servers that are there may take to say so.
const PONGS_WITHIN: Duration = Duration::from_millis(500);
/// Between two attempts.
const PAUSE: Duration = Duration::from_millis(100);

/// How this node's clients reach the log: by its own server, as the node.
pub(super) fn node_connection(config: &ManagedConfig) -> ConnectConfig {
    let others = config.peers.iter().map(|peer| peer.client);
    ConnectConfig {
        servers: [config.client]
            .into_iter()
            .chain(others)
            .map(|at| format!("tls://{at}"))
            .collect(),
        name: server_name(config.node),
        authentication: Authentication::None,
        authority: None,
        tls: Some(config.tls.clone()),
        inbox_prefix: Some(rights::inbox(config.node)),
        only_these_servers: false,
    }
}

/// How those who may do more than a node reach this node's server, and no other.
pub(super) fn own_connection(config: &ManagedConfig, seed: &Path, name: &str) -> ConnectConfig {
    ConnectConfig {
        servers: vec![format!("tls://{}", config.client)],
        name: format!("{}-{name}", server_name(config.node)),
        authentication: Authentication::Nkey(seed.to_owned()),
        inbox_prefix: None,
        only_these_servers: true,
        ..node_connection(config)
    }
}

/// A connection to the server itself, in the servers' own account.
#[derive(Debug)]
pub(super) struct System {
    connection: Connection,
}

/// The servers that keep JetStream's own state.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Meta {
    pub leader: Option<String>,
    pub cluster_size: usize,
}

impl System {
    pub(super) async fn open(config: &ManagedConfig, paths: &Paths) -> Result<Self, OpenError> {
        let connect = own_connection(config, &paths.system_seed, "system");
        Connection::open(connect).await.map(|connection| Self { connection })
    }

    /// What the server is called that answers.
    pub(super) fn server(&self) -> String {
        self.connection.server()
    }

    async fn ask(&self, subject: String, question: &Value) -> Result<Value, ManagedError> {
        let request = Request::new().payload(question.to_string().into()).timeout(Some(ANSWER_MAX));
        let answer = self.connection.client().send_request(subject, request).await;
        let answer = answer.map_err(|error| ManagedError::Answer(error.to_string()))?;
        let value: Value = serde_json::from_slice(&answer.payload)
            .map_err(|error| ManagedError::Answer(error.to_string()))?;
        match value.get("error") {
            None | Some(Value::Null) => Ok(value),
            Some(error) => {
                let said = error.get("description").and_then(Value::as_str);
                Err(ManagedError::Answer(said.map_or_else(|| error.to_string(), str::to_owned)))
            }
        }
    }

    async fn ask_server(&self, what: &str) -> Result<Value, ManagedError> {
        let id = self.connection.client().server_info().server_id;
        self.ask(format!("$SYS.REQ.SERVER.{id}.{what}"), &json!({})).await
    }

    /// Makes the server take its configuration from the file again.
    pub(super) async fn reload(&self) -> Result<(), ManagedError> {
        match self.ask_server("RELOAD").await {
            Ok(_) => Ok(()),
            Err(ManagedError::Answer(why)) => Err(ManagedError::Refused(why)),
            Err(error) => Err(error),
        }
    }

    /// `None` when no leader is known.
    pub(super) async fn meta(&self) -> Result<Option<Meta>, ManagedError> {
        Ok(self.known_meta().await?.filter(|meta| meta.leader.is_some()))
    }

    /// `None` when this server is a relay.
    async fn known_meta(&self) -> Result<Option<Meta>, ManagedError> {
        let answer = self.ask_server("JSZ").await?;
        let meta = answer.get("data").and_then(|data| data.get("meta_cluster"));
        Ok(meta.and_then(|meta| Meta::deserialize(meta).ok()).map(|mut meta| {
            meta.leader = meta.leader.filter(|leader| !leader.is_empty());
            meta
        }))
    }

    /// The servers that decide, and all that answer, of which `expected` are known.
    pub(super) async fn deciders(&self, expected: usize) -> Result<Deciders, ManagedError> {
        let meta = self.known_meta().await?;
        let online = self.online(expected).await?;
        let leader = meta.as_ref().and_then(|meta| meta.leader.as_deref()).and_then(node_of);
        Ok(Deciders { leader, size: meta.map_or(0, |meta| meta.cluster_size), online })
    }

    /// Whose servers answer, waiting no longer than for all that are expected.
    async fn online(&self, expected: usize) -> Result<BTreeSet<NodeId>, ManagedError> {
        let failed = |error: &dyn std::error::Error| ManagedError::Answer(error.to_string());
        let client = self.connection.client();
        let inbox = client.new_inbox();
        let mut answers = client.subscribe(inbox.clone()).await.map_err(|error| failed(&error))?;
        let ping = client.publish_with_reply("$SYS.REQ.SERVER.PING", inbox, "".into());
        ping.await.map_err(|error| failed(&error))?;
        let mut online = BTreeSet::new();
        let until = Instant::now() + PONGS_WITHIN;
        while online.len() < expected
            && let Ok(Some(answer)) = timeout_at(until, answers.next()).await
        {
            let value: Value = serde_json::from_slice(&answer.payload).unwrap_or_default();
            let name = value.pointer("/server/name").and_then(Value::as_str);
            online.extend(name.and_then(node_of));
        }
        Ok(online)
    }

    /// Takes a server that does not come back out of those that decide. It may have led them, and a
    /// new leader takes seconds to be found. A leader answers once it is done, which may be too late
    /// to be heard: that one decides less is an answer, too.
    pub(super) async fn remove_peer(&self, name: &str) -> Result<(), ManagedError> {
        let until = Instant::now() + ELECTED_WITHIN;
        let size = async || Some(self.known_meta().await.ok()??.cluster_size);
        let before = size().await;
        loop {
            let asked = self.vote_out(name).await;
            if asked.is_ok() || Instant::now() >= until {
                return asked;
            }
            if size().await.is_some_and(|now| Some(now) < before) {
                return Ok(());
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// The same, once.
    pub(super) async fn vote_out(&self, name: &str) -> Result<(), ManagedError> {
        self.ask("$JS.API.SERVER.REMOVE".to_owned(), &json!({ "peer": name })).await.map(|_| ())
    }

    /// Hands the lead to another server.
    pub(super) async fn step_down(&self) -> Result<(), ManagedError> {
        self.ask("$JS.API.META.LEADER.STEPDOWN".to_owned(), &json!({})).await.map(|_| ())
    }
}

/// Waits until the server answers as ours, JetStream is there, and its servers have a leader.
pub(super) async fn until_ready(
    config: &ManagedConfig,
    paths: &Paths,
    limit: Duration,
) -> Result<System, ManagedError> {
    let until = Instant::now() + limit;
    let mut system = None;
    loop {
        let why = match attempt(config, paths, &mut system).await {
            Ok(system) => return Ok(system),
            Err(why) => why,
        };
        if Instant::now() >= until {
            return Err(ManagedError::NotReady { waited: limit, answers: system.is_some(), why });
        }
        tokio::time::sleep(PAUSE).await;
    }
}

async fn attempt(
    config: &ManagedConfig,
    paths: &Paths,
    known: &mut Option<System>,
) -> Result<System, String> {
    let system = match known.take() {
        Some(system) => system,
        None => System::open(config, paths).await.map_err(|error| because(&error))?,
    };
    if system.server() != server_name(config.node) {
        return Err(format!("{} answers at {}", system.server(), config.client));
    }
    match config.role {
        Role::Relay => Ok(system),
        Role::Keeper => match system.meta().await {
            Ok(Some(_)) => Ok(system),
            Ok(None) => {
                *known = Some(system);
                Err("its servers have no leader: too few of them are there".to_owned())
            }
            Err(error) => {
                *known = Some(system);
                Err(because(&error))
            }
        },
    }
}

/// Whether any of the other servers answers, with a leader: the cluster is there.
pub(super) async fn somebody_there(config: &ManagedConfig) -> Result<(), ManagedError> {
    let mut silent = Vec::new();
    for peer in &config.peers {
        let connect = ConnectConfig {
            servers: vec![format!("tls://{}", peer.client)],
            only_these_servers: true,
            ..node_connection(config)
        };
        let asked = match Connection::open(connect).await {
            Ok(connection) => {
                connection.ask::<Value>("INFO", &json!({})).await.map_err(|error| because(&error))
            }
            Err(error) => Err(because(&error)),
        };
        match asked {
            Ok(_) => return Ok(()),
            Err(why) => silent.push(format!("{}: {why}", peer.client)),
        }
    }
    Err(ManagedError::NobodyThere(silent.join("; ")))
}

/// An error with its causes, on one line.
pub(super) fn because(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let said = cause.to_string();
        if !text.contains(&said) {
            text = format!("{text}: {said}");
        }
        source = cause.source();
    }
    text
}
