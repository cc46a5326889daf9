//! A member with its log: its server, and the connection that it reaches the log by.

use std::{collections::BTreeSet, ops::Deref, sync::Arc, time::Duration};

use stapes_api::{
    backend::Backend,
    peer::{IsMember, PeerClient},
    tls::TlsError,
};
use stapes_control::Control;
use stapes_core::port::log::ReadError;
use stapes_nats::{
    Connection, JetStreamLog, LogConfig, NatsPresence, OpenError,
    managed::{ManagedError, ManagedServer},
};
use stapes_node::identity::{ClusterIdentity, IdentityError};

use super::{
    super::directory::Directory,
    config::{ClusterConfig, ConfigError, LogPlace},
    external::{self, AccessError},
    health::SILENT,
    seat::Seat,
    servers::{self, AddressError},
};

/// Between two tries to reach the log.
const PAUSE: Duration = Duration::from_secs(2);
/// Why nothing can be changed by a member that has just reached it.
const READING: &str = "the log is heard again, and this member reads what it missed";

#[derive(Debug, thiserror::Error)]
pub(crate) enum MemberError {
    #[error(transparent)]
    Identity(#[from] IdentityError),
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    Address(#[from] AddressError),
    #[error("the log's server cannot be run")]
    Server(#[from] ManagedError),
    #[error("the cluster's log cannot be opened")]
    Log(#[from] OpenError),
    #[error("the queues of nodes that left are not removed yet")]
    Queues(#[from] ReadError),
    #[error(transparent)]
    Access(#[from] AccessError),
    #[error("TLS cannot be spoken")]
    Tls(#[from] TlsError),
    #[error("{0} cannot be written")]
    Write(std::path::PathBuf, #[source] std::io::Error),
}

#[derive(Debug)]
pub(crate) struct Member {
    seat: Arc<Seat>,
    pub(crate) log: Arc<JetStreamLog>,
    pub(super) server: Option<ManagedServer>,
    connection: Connection,
}

impl Deref for Member {
    type Target = Seat;

    fn deref(&self) -> &Seat {
        &self.seat
    }
}

/// The log of a member, and what it is reached by.
pub(super) struct Reached {
    pub(super) server: Option<ManagedServer>,
    pub(super) log: JetStreamLog,
    pub(super) connection: Connection,
}

impl Member {
    /// Opens the log that the seat's configuration speaks of. Waits for servers that are away: nothing
    /// can be decided or known without them, and guests run on.
    pub(crate) async fn open(directory: &Directory, seat: Arc<Seat>) -> Result<Self, MemberError> {
        let reached = loop {
            match reach(directory, &seat.identity, &seat.config).await {
                Ok(reached) => break reached,
                Err(error) if waits(&error) => {
                    tracing::warn!(error = super::told(&error), "waiting for the cluster's log");
                    seat.waits_for(why(&error));
                    tokio::time::sleep(PAUSE).await;
                }
                Err(error) => return Err(error),
            }
        };
        seat.waits_for(READING.to_owned());
        let Reached { server, log, connection } = reached;
        Ok(Self { seat, log: Arc::new(log), server, connection })
    }

    /// Where members say that they are there.
    pub(crate) fn presence(&self) -> NatsPresence {
        NatsPresence::new(self.connection.clone(), self.config.cluster)
    }

    /// The other members, as this one asks them.
    pub(crate) fn peers(&self, control: &Control) -> PeerClient {
        self.peers_by(is_member(control))
    }
}

/// Whom this one asks. A node that was removed is no member, whatever its certificate says.
fn is_member(control: &Control) -> IsMember {
    let control = control.clone();
    Arc::new(move |node| control.world().nodes.contains_key(&node))
}

/// The same for whom this one listens to, by what it serves.
pub(crate) fn is_member_by(backend: &Arc<dyn Backend>) -> IsMember {
    let backend = backend.clone();
    Arc::new(move |node| backend.look(|world| world.nodes.contains_key(&node)))
}

/// In the words of a member that loses its log while it runs, unless it is its own server that fails.
fn why(error: &MemberError) -> String {
    if let MemberError::Server(ManagedError::Died(_) | ManagedError::Io { .. }) = error {
        super::told(error)
    } else {
        SILENT.to_owned()
    }
}

/// What may be over in a moment, or when another server is back.
fn waits(error: &MemberError) -> bool {
    match error {
        MemberError::Server(error) => error.retryable(),
        MemberError::Log(error) => matches!(
            error,
            OpenError::Unreachable { .. } | OpenError::Unavailable(_) | OpenError::Log(_)
        ),
        // A name that is not known yet may be known later: the network comes up with the host.
        MemberError::Address(_) => true,
        MemberError::Identity(_)
        | MemberError::Config(_)
        | MemberError::Queues(_)
        | MemberError::Access(_)
        | MemberError::Tls(_)
        | MemberError::Write(..) => false,
    }
}

pub(super) async fn reach(
    directory: &Directory,
    identity: &ClusterIdentity,
    config: &ClusterConfig,
) -> Result<Reached, MemberError> {
    let managed = servers::managed(directory, identity, config, &BTreeSet::new()).await?;
    let (server, connection) = match (managed, &config.log) {
        (Some(managed), _) => {
            let server = ManagedServer::start(managed).await?;
            let connection = Connection::open(server.connection()).await?;
            (Some(server), connection)
        }
        (None, LogPlace::External { servers, access }) => {
            let external = external::reached_by(directory, identity, servers, access);
            (None, Connection::open(external?).await?)
        }
        (None, LogPlace::Managed { .. }) => {
            return Err(AddressError::Malformed(config.address.clone()).into());
        }
    };
    let log = JetStreamLog::open(connection.clone(), LogConfig::new(config.cluster, 1)).await?;
    Ok(Reached { server, log, connection })
}
