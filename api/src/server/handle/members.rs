//! Members: the list, one, its state, evacuation, and tokens for new ones.

use std::collections::BTreeMap;

use axum::extract::{Path, State};
use bytes::Bytes;
use chrono::{Duration, Utc};
use serde_json::{Value, json};
use stapes_core::{
    cluster,
    command::Command,
    ids::OperationId,
    node::{Configure, Evacuation, FencingProof, Node},
    world::World,
};

use super::{Answer, Api, Fault, answer, body, listed};
use crate::{
    server::{
        change::{Change, merged},
        params::{Params, url},
        peer::Caller,
        show,
    },
    wire::{
        StatusCode, Time,
        cluster::{
            ClusterMember, ClusterMemberPut, ClusterMemberState, ClusterMemberStatePost,
            JoinTokenMetadata, SystemInfo,
        },
        operation::Operation,
        storage::{Amounts, StoragePoolResources},
    },
};

/// How long a join token is good for, as in Incus.
const TOKEN_FOR: Duration = Duration::hours(3);

fn shown(api: &Api, it: &Node) -> ClusterMember {
    let roles = api.cluster.as_ref().map(|cluster| cluster.roles(it.id)).unwrap_or_default();
    show::member(it, roles, Utc::now())
}

pub(in crate::server) async fn list(State(api): State<Api>, params: Params) -> Answer {
    api.lens(&params).await?.look(|world| {
        refuse_alone(world)?;
        let mut nodes: Vec<_> = world.nodes.values().collect();
        nodes.sort_by(|one, other| one.name.cmp(&other.name));
        listed(
            &params,
            nodes
                .into_iter()
                .map(|it| (url(&["cluster", "members", &it.name], None), || shown(&api, it))),
        )
    })
}

fn refuse_alone(world: &World) -> Result<(), Fault> {
    if show::clustered(world) {
        return Ok(());
    }
    Err(Fault::bad_request("Server isn't part of a cluster").hint("stapes cluster enable NAME"))
}

pub(in crate::server) async fn get(
    State(api): State<Api>,
    Path(name): Path<String>,
    params: Params,
) -> Answer {
    api.lens(&params).await?.look(|world| {
        refuse_alone(world)?;
        let it = world.node(&name)?;
        let revision = world.tail(Node::stream(it.id)).revision;
        Ok(answer::tagged(shown(&api, it), &show::etag(revision)))
    })
}

/// A token for a new member, told this once: only its hash is kept.
pub(in crate::server) async fn create(
    State(api): State<Api>,
    caller: Caller,
    bytes: Bytes,
) -> Answer {
    let post: ClusterMemberPut = body(&bytes)?;
    api.look(refuse_alone)?;
    if post.server_name.is_empty() {
        return Err(Fault::bad_request("No name provided").hint("stapes cluster add NAME"));
    }
    let name = post.server_name;
    let addresses = api.look(|world| {
        let online = world.nodes.values().filter(|node| node.is_online());
        online.map(|node| node.address.clone()).collect::<Vec<_>>()
    });
    let now = Utc::now();
    let wanted = api.look(|world| {
        let text = world.server.config.get("cluster.join_token_expiry")?;
        Duration::from_std(stapes_core::config::span(text).ok()?).ok()
    });
    let expires_at = now + wanted.unwrap_or(TOKEN_FOR);
    let drawn = api.membership()?.draw_token(&name, &addresses, expires_at)?;
    let command =
        Command::CreateJoinToken { name: name.clone(), secret_hash: drawn.secret_hash, expires_at };
    api.submit(command, &caller).await?;
    let told = JoinTokenMetadata {
        server_name: name.clone(),
        secret: drawn.secret,
        fingerprint: drawn.fingerprint,
        addresses,
        expires_at: Time(expires_at),
        token: drawn.text,
    };
    Ok(answer::begun(token_operation(&name, Time(now), &told)))
}

/// The operation that stands for a token: clients list and revoke tokens by it.
fn token_operation(name: &str, created_at: Time, told: &JoinTokenMetadata) -> Operation {
    let metadata = match json!(told) {
        Value::Object(metadata) => Some(metadata),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => {
            None
        }
    };
    Operation {
        id: token_id(name).to_string(),
        class: "token".to_owned(),
        description: "Executing operation".to_owned(),
        created_at,
        updated_at: created_at,
        status: StatusCode::RUNNING.name().to_owned(),
        status_code: StatusCode::RUNNING,
        metadata,
        may_cancel: true,
        location: show::NO_MEMBER.to_owned(),
        ..Operation::default()
    }
}

fn token_id(name: &str) -> OperationId {
    OperationId::derive(&["join token", name])
}

/// The tokens that are open, without what only their first reader was told.
pub(super) fn tokens(world: &World) -> Vec<Operation> {
    let Some(cluster) = &world.server.cluster else { return Vec::new() };
    let now = Utc::now();
    let open = cluster.tokens.iter().filter(|(_, token)| token.expires_at > now);
    open.map(|(name, token): (&String, &cluster::Token)| {
        let told = JoinTokenMetadata {
            server_name: name.clone(),
            expires_at: Time(token.expires_at),
            ..JoinTokenMetadata::default()
        };
        token_operation(name, Time(token.created_at), &told)
    })
    .collect()
}

/// The name of the token that the operation stands for.
pub(super) fn token_of(world: &World, id: OperationId) -> Option<String> {
    let tokens = &world.server.cluster.as_ref()?.tokens;
    tokens.keys().find(|name| token_id(name) == id).cloned()
}

pub(in crate::server) async fn put(
    State(api): State<Api>,
    Path(name): Path<String>,
    Change { wanted: put, caller, expected }: Change<ClusterMemberPut>,
) -> Answer {
    let wanted = Configure {
        description: Some(put.description.unwrap_or_default()),
        config: Some(put.config.unwrap_or_default()),
        groups: put.groups.map(|groups| groups.into_iter().collect()),
        failure_domain: Some(domain(put.failure_domain.unwrap_or_default())),
    };
    configure(&api, name, wanted, expected, &caller).await
}

/// The dialect shows `default` for none.
fn domain(text: String) -> String {
    if text == "default" { String::new() } else { text }
}

async fn configure(
    api: &Api,
    name: String,
    wanted: Configure,
    expected: Option<stapes_core::ids::Revision>,
    caller: &Caller,
) -> Answer {
    let command = Command::ConfigureNode { name, wanted: Box::new(wanted), expected };
    api.submit(command, caller).await?;
    Ok(answer::done())
}

pub(in crate::server) async fn patch(
    State(api): State<Api>,
    Path(name): Path<String>,
    Change { wanted: patch, caller, expected }: Change<ClusterMemberPut>,
) -> Answer {
    let (wanted, read) = api.look(|world| {
        let it = world.node(&name)?;
        let wanted = Configure {
            description: patch.description,
            config: patch.config.map(|config| merged(&it.config, config)),
            groups: patch.groups.map(|groups| groups.into_iter().collect()),
            failure_domain: patch.failure_domain.map(domain),
        };
        Ok::<_, Fault>((wanted, world.tail(Node::stream(it.id)).revision))
    })?;
    configure(&api, name, wanted, expected.or(Some(read)), &caller).await
}

pub(in crate::server) async fn rename(
    State(api): State<Api>,
    Path(name): Path<String>,
    caller: Caller,
    bytes: Bytes,
) -> Answer {
    let post: ClusterMemberPut = body(&bytes)?;
    if post.server_name.is_empty() {
        return Err(Fault::bad_request("No name provided"));
    }
    let location = url(&["cluster", "members", &post.server_name], None);
    api.submit(Command::RenameNode { name, to: post.server_name }, &caller).await?;
    Ok(answer::created(&location))
}

pub(in crate::server) async fn delete(
    State(api): State<Api>,
    Path(name): Path<String>,
    params: Params,
    caller: Caller,
) -> Answer {
    let force = params.is_true("force");
    api.submit(Command::RemoveNode { name, force }, &caller).await?;
    Ok(answer::done())
}

/// Of this member: a request for another's was passed on to it.
pub(in crate::server) async fn state(State(api): State<Api>, Path(name): Path<String>) -> Answer {
    let pools = api.look(|world| {
        refuse_alone(world)?;
        world.node(&name)?;
        let pools = world.pools.values().map(|pool| (pool.name.clone(), pool.id));
        Ok::<_, Fault>(pools.collect::<Vec<_>>())
    })?;
    let mut storage_pools = BTreeMap::new();
    for (name, id) in pools {
        // One that is not usable here is left out rather than refused with the others.
        let Ok(usage) = api.drivers.storage.pool_usage(id).await else { continue };
        let space = Amounts { used: usage.used_bytes, total: usage.total_bytes };
        storage_pools.insert(name, StoragePoolResources { space, inodes: Amounts::default() });
    }
    Ok(answer::sync(ClusterMemberState { sysinfo: system(), storage_pools }))
}

fn system() -> SystemInfo {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let memory = read("/proc/meminfo");
    let bytes = |key: &str| {
        let line = memory.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'));
        let number = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
        number.unwrap_or_default() * 1024
    };
    let load = read("/proc/loadavg");
    let fields: Vec<&str> = load.split_whitespace().collect();
    let processes = fields.get(3).and_then(|field| field.split('/').nth(1)?.parse().ok());
    let uptime = read("/proc/uptime");
    let uptime = uptime.split('.').next().and_then(|seconds| seconds.parse().ok());
    SystemInfo {
        uptime: uptime.unwrap_or_default(),
        load_averages: fields.iter().take(3).filter_map(|field| field.parse().ok()).collect(),
        total_ram: bytes("MemTotal"),
        free_ram: bytes("MemFree"),
        shared_ram: bytes("Shmem"),
        buffered_ram: bytes("Buffers"),
        total_swap: bytes("SwapTotal"),
        free_swap: bytes("SwapFree"),
        processes: processes.unwrap_or_default(),
        logical_cpus: std::thread::available_parallelism().map_or(1, |count| count.get() as u64),
    }
}

pub(in crate::server) async fn act(
    State(api): State<Api>,
    Path(name): Path<String>,
    caller: Caller,
    bytes: Bytes,
) -> Answer {
    let post: ClusterMemberStatePost = body(&bytes)?;
    let command = match post.action.as_str() {
        "evacuate" => {
            let wrong = || Fault::bad_request(format!("Invalid evacuation mode {:?}", post.mode));
            let mode = Evacuation::parse(&post.mode).ok_or_else(wrong)?;
            Command::EvacuateNode { name, mode }
        }
        "restore" => Command::RestoreNode { name },
        // Whoever asks says that they looked: nothing runs on it any more.
        "fence" => {
            let node = api.look(|world| world.node(&name).map(|node| node.id))?;
            let proof = FencingProof::Operator;
            api.submit(Command::FenceNode { node, proof }, &caller).await?;
            return Ok(answer::done());
        }
        other => return Err(Fault::bad_request(format!("Unknown action {other:?}"))),
    };
    api.begin(command, &caller).await
}
