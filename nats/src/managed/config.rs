//! nats-server's configuration, and the keys in it.
//!
//! It is written as JSON, which nats-server's own format includes: values are quoted by a library and
//! never pasted. Of the escapes that JSON may need nats-server does not know those of control
//! characters, so these are refused.

use std::{net::SocketAddr, path::Path};

use serde_json::{Value, json};

use super::{
    ManagedConfig, ManagedError, Role,
    paths::{Paths, find, write},
    rights, server_name,
};

/// A commit of the largest size and its headers.
const MAX_PAYLOAD: u64 = 2 << 20;
/// For consumers that are kept in memory.
const MAX_MEMORY: u64 = 64 << 20;
const LOG_BYTES: u64 = 16 << 20;

/// The accounts: the cluster's log and presence, and the servers' own.
pub(super) const ACCOUNT: &str = "STAPES";
const SYSTEM: &str = "SYSTEM";

/// The public keys of those who may do more than a node, on this node's server alone. The seeds never
/// leave the node: another server knows other keys.
#[derive(Clone, Debug)]
pub(super) struct Keys {
    keeper: String,
    system: String,
}

impl Keys {
    /// Finds the keys, or makes them.
    pub(super) fn ensure(paths: &Paths) -> Result<Self, ManagedError> {
        Ok(Self { keeper: key(&paths.keeper_seed)?, system: key(&paths.system_seed)? })
    }
}

fn key(path: &Path) -> Result<String, ManagedError> {
    let found = find(path)?.and_then(|seed| nkeys::KeyPair::from_seed(seed.trim()).ok());
    if let Some(pair) = found {
        return Ok(pair.public_key());
    }
    let pair = nkeys::KeyPair::new_user();
    let seed = pair.seed().map_err(|error| ManagedError::Answer(error.to_string()))?;
    write(path, &seed)?;
    Ok(pair.public_key())
}

/// The whole configuration of a node's server.
pub(super) fn render(
    config: &ManagedConfig,
    paths: &Paths,
    keys: &Keys,
) -> Result<String, ManagedError> {
    let users: Vec<Value> = config
        .nodes
        .iter()
        .map(|node| {
            let permissions = rights::of(config.cluster, *node, &config.nodes);
            json!({ "user": format!("node-{node}.stapes"), "permissions": permissions })
        })
        .chain([json!({ "nkey": keys.keeper })])
        .collect();
    let account = json!({ "users": users, "jetstream": "enabled" });
    let mut whole = common(config, &server_name(config.node));
    if config.role == Role::Keeper {
        whole["jetstream"] = json!({
            "store_dir": text(&paths.store)?,
            "sync_interval": "always",
            "max_file_store": config.max_store_bytes,
            "max_memory_store": MAX_MEMORY,
            "unique_tag": "node",
        });
    }
    whole["accounts"] = json!({
        ACCOUNT: account,
        SYSTEM: { "users": [{ "nkey": keys.system }] },
    });
    whole["listen"] = json!(config.client.to_string());
    whole["tls"] = tls(config, true)?;
    whole["cluster"] = cluster(config)?;
    whole["log_file"] = json!(text(&paths.log)?);
    whole["logfile_size_limit"] = json!(LOG_BYTES);
    whole["logfile_max_num"] = json!(3);
    finish(&whole)
}

/// The configuration of the server that stands beside a lone one while it starts. Nobody may connect
/// to it. With a store it is a member for as long as it takes to found a cluster.
pub(super) fn render_companion(
    config: &ManagedConfig,
    dir: &Path,
    keeps: bool,
) -> Result<String, ManagedError> {
    let mut whole = common(config, &companion_name(config));
    if keeps {
        whole["jetstream"] = json!({ "store_dir": text(&dir.join("store"))? });
    }
    whole["accounts"] = json!({ ACCOUNT: { "users": [] }, SYSTEM: { "users": [] } });
    whole["listen"] = json!("127.0.0.1:-1");
    whole["tls"] = tls(config, true)?;
    whole["cluster"] = json!({
        "name": cluster_name(config),
        "listen": "127.0.0.1:-1",
        "no_advertise": true,
        "tls": tls(config, false)?,
        "routes": [route(config.route)],
    });
    whole["log_file"] = json!(text(&dir.join("nats.log"))?);
    finish(&whole)
}

pub(super) fn companion_name(config: &ManagedConfig) -> String {
    format!("{}-companion", server_name(config.node))
}

fn common(config: &ManagedConfig, name: &str) -> Value {
    json!({
        "server_name": name,
        "server_tags": [format!("node:{}", config.node)],
        "system_account": SYSTEM,
        "max_payload": MAX_PAYLOAD,
        "lame_duck_duration": "30s",
        "lame_duck_grace_period": "1s",
    })
}

fn cluster_name(config: &ManagedConfig) -> String {
    format!("stapes-{}", config.cluster)
}

fn cluster(config: &ManagedConfig) -> Result<Value, ManagedError> {
    let mut tls = tls(config, false)?;
    if let Some(pinned) = pinned(config) {
        tls["pinned_certs"] = json!(pinned);
    }
    // Its own route is among them: a cluster's server must know at least one.
    let routes = [config.route].into_iter().chain(config.peers.iter().map(|peer| peer.route));
    Ok(json!({
        "name": cluster_name(config),
        "listen": config.route.to_string(),
        "tls": tls,
        "routes": routes.map(route).collect::<Vec<_>>(),
    }))
}

/// The public keys that servers may have, when they are known of all.
fn pinned(config: &ManagedConfig) -> Option<Vec<String>> {
    let own = config.public_key.as_ref();
    let peers = config.peers.iter().map(|peer| peer.public_key.as_ref());
    [own].into_iter().chain(peers).map(|key| key.map(|key| key.as_str().to_owned())).collect()
}

fn tls(config: &ManagedConfig, clients: bool) -> Result<Value, ManagedError> {
    let mut tls = json!({
        "ca_file": text(&config.tls.ca)?,
        "cert_file": text(&config.tls.certificate)?,
        "key_file": text(&config.tls.key)?,
        "verify": true,
        "timeout": 5,
    });
    if clients {
        // The certificate says who connects.
        tls["verify_and_map"] = json!(true);
    }
    Ok(tls)
}

fn route(address: SocketAddr) -> String {
    format!("nats-route://{address}")
}

fn text(path: &Path) -> Result<&str, ManagedError> {
    path.to_str().ok_or_else(|| ManagedError::BadValue(path.display().to_string()))
}

fn finish(whole: &Value) -> Result<String, ManagedError> {
    check(whole)?;
    serde_json::to_string_pretty(whole).map_err(|error| ManagedError::BadValue(error.to_string()))
}

fn check(value: &Value) -> Result<(), ManagedError> {
    match value {
        Value::String(text) if text.chars().any(char::is_control) => {
            Err(ManagedError::BadValue(text.clone()))
        }
        Value::Array(values) => values.iter().try_for_each(check),
        Value::Object(entries) => entries.values().try_for_each(check),
        Value::String(_) | Value::Null | Value::Bool(_) | Value::Number(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests;
