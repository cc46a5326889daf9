//! This node becomes the first member of a new cluster: its log is carried to JetStream while it runs.
//!
//! ```text
//! check ─► identity ─► server ─► carry the log ─► close it ─► carry the rest ─► compare ─► CONFIG
//! ```
//!
//! Whatever fails before `config` is written is undone, and the log is open again.

use std::io;

use chrono::Utc;
use stapes_api::backend::{Founding, Refusal};
use stapes_core::{
    ids::{NodeId, Sequence},
    port::log::{AppendError, EventLog},
};
use stapes_nats::{
    Connection, JetStreamLog, LogConfig, OpenError,
    managed::{ManagedError, ManagedServer, Stop},
};
use stapes_node::identity::{ClusterIdentity, IdentityError, Member as Membership};
use uuid::Uuid;

use super::{
    super::directory::Directory,
    Alone,
    carry::{self, CarryError},
    clear::clear,
    config::{ClusterConfig, ConfigError, LogPlace},
    external::{self, AccessError},
    refused,
    servers::{self, AddressError, Places},
};

#[derive(Debug, thiserror::Error)]
enum FoundError {
    #[error(transparent)]
    Address(#[from] AddressError),
    #[error(
        "{address} cannot be listened on: {source}; give an address of this server whose port, and the two after it, are free"
    )]
    Taken { address: std::net::SocketAddr, source: io::Error },
    #[error(transparent)]
    Identity(#[from] IdentityError),
    #[error("the log's server cannot be run")]
    Server(#[from] ManagedError),
    #[error(transparent)]
    Access(#[from] AccessError),
    #[error("the new log cannot be opened")]
    Log(#[from] OpenError),
    #[error("the log cannot be carried over")]
    Carry(#[from] CarryError),
    #[error("a cursor cannot be carried over")]
    Cursor(#[source] AppendError),
    #[error(transparent)]
    Config(#[from] ConfigError),
}

pub(super) async fn found(
    directory: &Directory,
    node: NodeId,
    alone: &Alone,
    wanted: &Founding,
) -> Result<(), Refusal> {
    clear(directory).await;
    let outcome = Box::pin(attempt(directory, node, alone, wanted)).await;
    if let Err(error) = &outcome {
        tracing::error!(error = super::told(error), "no cluster was founded");
        clear(directory).await;
    }
    outcome.map_err(|error| refused(&error))
}

async fn attempt(
    directory: &Directory,
    node: NodeId,
    alone: &Alone,
    wanted: &Founding,
) -> Result<(), FoundError> {
    let managed = wanted.log_servers.is_empty();
    check_free(&wanted.address, managed).await?;
    let cluster = Uuid::new_v4();
    let membership = Membership { cluster, node, hosts: vec![host(&wanted.address).to_owned()] };
    let identity = ClusterIdentity::found(directory.path(), &membership, Utc::now())?;
    let log = if managed {
        LogPlace::Managed { keeper: true, peers: Vec::new() }
    } else {
        LogPlace::External {
            servers: wanted.log_servers.clone(),
            access: wanted.log_access.clone(),
        }
    };
    let config = ClusterConfig {
        cluster,
        address: wanted.address.clone(),
        name: wanted.name.clone(),
        joined_with: None,
        log,
    };
    let known = [node].into();
    let server = match servers::managed(directory, &identity, &config, &known).await? {
        Some(managed) => Some(ManagedServer::start(managed).await?),
        None => None,
    };
    let carried = carry_over(alone, &identity, &config, node, server.as_ref(), directory).await;
    if carried.is_err()
        && let Some(server) = server
    {
        // It holds nothing that counts.
        if let Err(error) = server.stop(Stop::Now).await {
            tracing::warn!(%error, "the log's server is not ended");
        }
    }
    carried
}

async fn carry_over(
    alone: &Alone,
    identity: &ClusterIdentity,
    config: &ClusterConfig,
    node: NodeId,
    server: Option<&ManagedServer>,
    directory: &Directory,
) -> Result<(), FoundError> {
    let (connection, named) = match (server, &config.log) {
        (Some(server), _) => (server.keeper_connection(), 1),
        (None, LogPlace::External { servers, access }) => {
            (external::reached_by(directory, identity, servers, access)?, servers.len())
        }
        (None, LogPlace::Managed { .. }) => return Err(ManagedError::Ended.into()),
    };
    let connection = Connection::open(connection).await?;
    // Servers that are not ours keep it as safely as they can from the beginning.
    let others = if server.is_none() { connection.servers().max(named) } else { named };
    let replicas = if others >= servers::REPLICAS { servers::REPLICAS } else { 1 };
    let log = JetStreamLog::open(connection, LogConfig::new(config.cluster, replicas)).await?;
    let carried = carry::carry(&*alone.log, &log, Sequence(0)).await?;
    // From here on nothing is changed until the daemon is there as a member, or this failed.
    let closed = alone.log.close().await;
    let last = carry::carry(&*alone.log, &log, carried).await?;
    carry::verify(&*alone.log, &log, last).await?;
    let cursor = format!("node-{}", node.0.simple());
    let at = alone.log.cursor(&cursor).await.map_err(CarryError::from)?;
    log.set_cursor(&cursor, at).await.map_err(FoundError::Cursor)?;
    config.write(directory)?;
    tracing::info!(records = last.0, cluster = %config.cluster, "the log is JetStream's now");
    // This process writes to no log any more.
    std::mem::forget(closed);
    Ok(())
}

/// `host` of `host:port`.
pub(super) fn host(address: &str) -> &str {
    address.rsplit_once(':').map_or(address, |(host, _)| host).trim_matches(['[', ']'])
}

/// Whether everything that is to listen can.
pub(super) async fn check_free_of(
    places: &Places,
    managed: bool,
) -> Result<(), (std::net::SocketAddr, io::Error)> {
    let mut wanted = vec![places.api];
    if managed {
        wanted.extend([places.client, places.route]);
    }
    for address in wanted {
        tokio::net::TcpListener::bind(address).await.map_err(|error| (address, error))?;
    }
    Ok(())
}

async fn check_free(address: &str, managed: bool) -> Result<(), FoundError> {
    let places = Places::of(address).await?;
    check_free_of(&places, managed)
        .await
        .map_err(|(address, source)| FoundError::Taken { address, source })
}
