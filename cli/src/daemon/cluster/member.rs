//! A member: its identity, its server, and the log that it reaches by it.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, OnceLock, PoisonError, RwLock},
    time::Duration,
};

use stapes_api::{
    backend::{self, Health, LogKind, Refusal},
    peer::{IsMember, PeerClient},
    tls::{TlsConfig, TlsError, TlsFiles},
};
use stapes_control::Control;
use stapes_core::{
    ids::NodeId,
    port::{log::ReadError, peer::PeerAddress},
};
use stapes_nats::{
    Connection, JetStreamLog, LogConfig, NatsPresence, OpenError,
    managed::{ManagedError, ManagedServer, server_name},
};
use stapes_node::identity::{ClusterIdentity, IdentityError};

use super::{
    super::{directory::Directory, files},
    config::{ClusterConfig, ConfigError, LogPlace, Neighbour},
    ears::MemberEars,
    external::{self, AccessError},
    health::Pulse,
    servers::{self, AddressError},
};

/// Between two tries to reach the log.
const PAUSE: Duration = Duration::from_secs(2);

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
    pub(crate) config: ClusterConfig,
    pub(crate) identity: ClusterIdentity,
    pub(crate) log: Arc<JetStreamLog>,
    pub(crate) tls: TlsConfig,
    pub(super) server: Option<ManagedServer>,
    peers: OnceLock<PeerClient>,
    /// The configuration as it is kept up to date.
    pub(super) current: Mutex<ClusterConfig>,
    pub(super) pulse: RwLock<Pulse>,
    connection: Connection,
    ears: OnceLock<Arc<MemberEars>>,
}

/// The log of a member, and what it is reached by.
pub(super) struct Reached {
    pub(super) server: Option<ManagedServer>,
    pub(super) log: JetStreamLog,
    pub(super) connection: Connection,
}

impl Member {
    /// Opens the log that the configuration speaks of. Waits for servers that are away: nothing can
    /// be decided or known without them, and guests run on.
    pub(crate) async fn open(
        directory: &Directory,
        config: ClusterConfig,
    ) -> Result<Self, MemberError> {
        let identity = ClusterIdentity::open(directory.path())?;
        let tls = tls(&identity)?;
        let reached = loop {
            match reach(directory, &identity, &config).await {
                Ok(reached) => break reached,
                Err(error) if waits(&error) => {
                    tracing::warn!(error = super::told(&error), "waiting for the cluster's log");
                    tokio::time::sleep(PAUSE).await;
                }
                Err(error) => return Err(error),
            }
        };
        Ok(Self {
            identity,
            tls,
            server: reached.server,
            log: Arc::new(reached.log),
            current: Mutex::new(config.clone()),
            pulse: RwLock::default(),
            peers: OnceLock::new(),
            connection: reached.connection,
            ears: OnceLock::new(),
            config,
        })
    }

    pub(super) fn pulse(&self) -> Pulse {
        self.pulse.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn health(&self) -> Health {
        let pulse = self.pulse();
        let external = matches!(self.config.log, LogPlace::External { .. });
        let servers = u32::try_from(pulse.keepers.len()).unwrap_or(u32::MAX);
        Health {
            lost: pulse.lost,
            log: if external { LogKind::External } else { LogKind::Managed },
            replicas: servers,
            servers,
            servers_answering: u32::try_from(pulse.answering).unwrap_or(u32::MAX),
            head: pulse.head.0,
            unheard: self.ears.get().map(|ears| ears.unheard()).unwrap_or_default(),
        }
    }

    pub(super) fn roles(&self, node: NodeId) -> Vec<String> {
        let pulse = self.pulse();
        let name = server_name(node);
        if pulse.leader.as_ref() == Some(&name) {
            return vec!["database-leader".to_owned(), "database".to_owned()];
        }
        if pulse.keepers.contains(&name) { vec!["database".to_owned()] } else { Vec::new() }
    }

    /// Where members say that they are there.
    pub(crate) fn presence(&self) -> NatsPresence {
        NatsPresence::new(self.connection.clone(), self.config.cluster)
    }

    /// From now on it is known who is heard.
    pub(crate) fn hears_by(&self, ears: Arc<MemberEars>) {
        // It is told once, by whoever made them.
        let _ = self.ears.set(ears);
    }

    pub(super) async fn connect(
        &self,
        to: &PeerAddress,
    ) -> Result<Box<dyn backend::Connection>, Refusal> {
        let peers = self.peers.get().ok_or_else(|| {
            Refusal::Unavailable("the daemon is not ready to ask other members yet".to_owned())
        })?;
        let stream = peers.connect(to).await;
        Ok(Box::new(stream.map_err(|error| Refusal::Unavailable(error.to_string()))?))
    }

    /// The other members, as this one asks them.
    pub(crate) fn peers(&self, control: &Control) -> PeerClient {
        self.peers.get_or_init(|| PeerClient::new(self.tls.clone(), is_member(control))).clone()
    }
}

/// Whom this one listens to and asks. A node that was removed is no member, whatever its certificate
/// says.
pub(crate) fn is_member(control: &Control) -> IsMember {
    let control = control.clone();
    Arc::new(move |node| control.world().nodes.contains_key(&node))
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

/// The node's certificate with its authority's behind it: who joins knows the authority alone.
fn tls(identity: &ClusterIdentity) -> Result<TlsConfig, MemberError> {
    let files = identity.files();
    let path = files.dir.join("chain.crt");
    let chain =
        format!("{}\n{}", identity.certificate().pem().trim_end(), identity.authority_pem());
    files::replace(&path, chain.as_bytes())
        .map_err(|error| MemberError::Write(path.clone(), error))?;
    Ok(TlsConfig::load(&TlsFiles {
        certificate: path,
        key: files.key,
        authority: Some(files.authority),
    })?)
}

impl Member {
    /// Writes down what the server is to be from now on, before it is.
    pub(super) fn remember(
        &self,
        directory: &Directory,
        keeper: bool,
        peers: Vec<Neighbour>,
    ) -> Result<ClusterConfig, ConfigError> {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        let next = ClusterConfig { log: LogPlace::Managed { keeper, peers }, ..current.clone() };
        if *current != next {
            next.write(directory)?;
            current.clone_from(&next);
        }
        Ok(next)
    }

    /// The servers that keep the log, by name. Before they were asked a keeper knows of itself.
    pub(super) fn keeper_names(&self) -> BTreeSet<String> {
        let known = self.pulse().keepers;
        if known.is_empty() && self.is_keeper() {
            return [server_name(self.identity.node())].into();
        }
        known
    }

    pub(super) fn is_keeper(&self) -> bool {
        let current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        matches!(current.log, LogPlace::Managed { keeper: true, .. })
    }
}
