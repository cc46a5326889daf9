//! The server's own configuration: one stream for the whole installation.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{
    cluster::{Cluster, Group, Token},
    config::{self, Changes, Config},
    decision::{Context, Decision},
    ids::{NodeId, OperationId, StreamId, StreamKind},
    rejection::Rejection,
    world::World,
};

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Server {
    pub config: Config,
    /// Since it is one.
    #[serde(default)]
    pub cluster: Option<Cluster>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Event {
    /// These keys have these values now; `None` is unset.
    Configured {
        changes: Changes,
    },
    /// The node that stands alone is a cluster's first from now on.
    ClusterEnabled {
        cluster: Uuid,
        node: NodeId,
    },
    /// Who knows the secret may join under this name, once.
    TokenCreated {
        name: String,
        secret_hash: String,
        expires_at: DateTime<Utc>,
    },
    TokenRevoked {
        name: String,
    },
    TokenUsed {
        name: String,
        node: NodeId,
    },
    GroupCreated {
        name: String,
        description: String,
    },
    GroupDescribed {
        name: String,
        description: String,
    },
    GroupRenamed {
        from: String,
        to: String,
    },
    GroupDeleted {
        name: String,
    },
    /// A decision was made that changes, or relies on, what other things rely on: no two of them
    /// pass each other, whichever nodes decide.
    CatalogGuarded,
}

impl Event {
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Configured { .. } => "configured",
            Self::ClusterEnabled { .. } => "cluster-enabled",
            Self::TokenCreated { .. } => "token-created",
            Self::TokenRevoked { .. } => "token-revoked",
            Self::TokenUsed { .. } => "token-used",
            Self::GroupCreated { .. } => "group-created",
            Self::GroupDescribed { .. } => "group-described",
            Self::GroupRenamed { .. } => "group-renamed",
            Self::GroupDeleted { .. } => "group-deleted",
            Self::CatalogGuarded => "catalog-guarded",
        }
    }
}

/// Decisions that rely on something, and may be on their way to the log at the same time, at most.
const GUARDS: u8 = 16;

fn guard(number: u8) -> StreamId {
    StreamId::derive(StreamKind::Server, &["catalog", &number.to_string()])
}

impl Server {
    /// There is one.
    #[must_use]
    pub fn stream() -> StreamId {
        StreamId::new(StreamKind::Server, Uuid::nil())
    }

    /// The streams that decisions about what others rely on meet those others in. Who relies on
    /// something writes to one of them, so that many can at the same time; who changes it writes to all.
    pub fn guards() -> impl Iterator<Item = StreamId> {
        (0..GUARDS).map(guard)
    }

    /// The guard of one that relies on something.
    #[must_use]
    pub fn guard_of(operation: OperationId) -> StreamId {
        let [.., last] = operation.0.into_bytes();
        guard(last % GUARDS)
    }

    pub fn evolve(&mut self, event: &Event, at: DateTime<Utc>) {
        match event {
            Event::Configured { changes } => config::apply(&mut self.config, changes),
            Event::ClusterEnabled { cluster, .. } => self.cluster = Some(Cluster::new(*cluster)),
            Event::TokenCreated { .. }
            | Event::TokenRevoked { .. }
            | Event::TokenUsed { .. }
            | Event::GroupCreated { .. }
            | Event::GroupDescribed { .. }
            | Event::GroupRenamed { .. }
            | Event::GroupDeleted { .. } => {
                if let Some(cluster) = &mut self.cluster {
                    evolve_cluster(cluster, event, at);
                }
            }
            Event::CatalogGuarded => {}
        }
    }
}

fn evolve_cluster(cluster: &mut Cluster, event: &Event, at: DateTime<Utc>) {
    let Cluster { tokens, groups, .. } = cluster;
    match event {
        Event::TokenCreated { name, secret_hash, expires_at } => {
            let (secret_hash, expires_at) = (secret_hash.clone(), *expires_at);
            tokens.insert(name.clone(), Token { secret_hash, created_at: at, expires_at });
        }
        Event::TokenRevoked { name } | Event::TokenUsed { name, .. } => {
            tokens.remove(name);
        }
        Event::GroupCreated { name, description } | Event::GroupDescribed { name, description } => {
            groups.insert(name.clone(), Group { description: description.clone() });
        }
        Event::GroupRenamed { from, to } => {
            if let Some(group) = groups.remove(from) {
                groups.insert(to.clone(), group);
            }
        }
        Event::GroupDeleted { name } => {
            groups.remove(name);
        }
        Event::Configured { .. } | Event::ClusterEnabled { .. } | Event::CatalogGuarded => {}
    }
}

/// The whole configuration becomes `wanted`.
///
/// # Errors
/// Unknown keys and wrong values.
pub fn configure(
    world: &World,
    context: &Context,
    wanted: &BTreeMap<String, String>,
) -> Result<Decision, Rejection> {
    config::check(config::Scope::Server, wanted)?;
    let changes = config::diff(&world.server.config, wanted);
    let mut decision = Decision::for_context(context);
    if !changes.is_empty() {
        decision.record(Server::stream(), Event::Configured { changes });
    }
    Ok(decision)
}
