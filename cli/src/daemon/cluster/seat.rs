//! What a member is before its log is there, and whenever it is not: who it is, how it is configured,
//! and how it speaks to the others.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, OnceLock, PoisonError, RwLock},
};

use chrono::Utc;
use stapes_api::{
    backend::{self, Health, LogKind, Lost, Refusal},
    peer::{IsMember, PeerClient},
    tls::{TlsConfig, TlsFiles},
};
use stapes_core::{ids::NodeId, port::peer::PeerAddress};
use stapes_nats::managed::server_name;
use stapes_node::{files, identity::ClusterIdentity};

use super::{
    super::directory::Directory,
    config::{ClusterConfig, ConfigError, LogPlace, Neighbour},
    ears::MemberEars,
    health::{Pulse, SILENT},
    member::MemberError,
};

#[derive(Debug)]
pub(crate) struct Seat {
    pub(crate) config: ClusterConfig,
    pub(crate) identity: ClusterIdentity,
    pub(crate) tls: TlsConfig,
    /// As others are asked now.
    peers: RwLock<Option<PeerClient>>,
    /// The configuration as it is kept up to date.
    current: Mutex<ClusterConfig>,
    pub(super) pulse: RwLock<Pulse>,
    ears: OnceLock<Arc<MemberEars>>,
    /// Of a daemon that serves what it knew, since it started without the log.
    waiting: RwLock<Option<Waiting>>,
}

#[derive(Clone, Debug)]
struct Waiting {
    lost: Lost,
    unheard: Vec<NodeId>,
}

impl Seat {
    /// # Errors
    /// When the node's identity in the cluster cannot be used.
    pub(crate) fn take(directory: &Directory, config: ClusterConfig) -> Result<Self, MemberError> {
        let identity = ClusterIdentity::open(directory.path())?;
        let tls = tls(&identity)?;
        Ok(Self {
            identity,
            tls,
            peers: RwLock::default(),
            current: Mutex::new(config.clone()),
            pulse: RwLock::default(),
            ears: OnceLock::new(),
            waiting: RwLock::default(),
            config,
        })
    }

    pub(super) fn pulse(&self) -> Pulse {
        self.pulse.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn health(&self) -> Health {
        let pulse = self.pulse();
        let waiting = self.waiting.read().unwrap_or_else(PoisonError::into_inner).clone();
        let external = matches!(self.config.log, LogPlace::External { .. });
        let servers = match waiting {
            Some(_) => self.servers_configured(),
            None => pulse.keepers.len(),
        };
        let servers = u32::try_from(servers).unwrap_or(u32::MAX);
        let (lost, unheard) = match waiting {
            Some(Waiting { lost, unheard }) => (Some(lost), unheard),
            None => (pulse.lost, self.ears.get().map(|ears| ears.unheard()).unwrap_or_default()),
        };
        Health {
            lost,
            log: if external { LogKind::External } else { LogKind::Managed },
            replicas: servers,
            servers,
            servers_answering: u32::try_from(pulse.answering).unwrap_or(u32::MAX),
            head: pulse.head.0,
            unheard,
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

    /// From now on it is known who is heard.
    pub(crate) fn hears_by(&self, ears: Arc<MemberEars>) {
        // It is told once, by whoever made them.
        let _ = self.ears.set(ears);
    }

    pub(super) async fn connect(
        &self,
        to: &PeerAddress,
    ) -> Result<Box<dyn backend::Connection>, Refusal> {
        let peers = self.peers.read().unwrap_or_else(PoisonError::into_inner).clone();
        let peers = peers.ok_or_else(|| {
            Refusal::Unavailable("the daemon is not ready to ask other members yet".to_owned())
        })?;
        let stream = peers.connect(to).await;
        Ok(Box::new(stream.map_err(|error| Refusal::Unavailable(error.to_string()))?))
    }

    /// The other members, as this one asks them from now on.
    pub(crate) fn peers_by(&self, is_member: IsMember) -> PeerClient {
        let peers = PeerClient::new(self.tls.clone(), is_member);
        self.peers.write().unwrap_or_else(PoisonError::into_inner).replace(peers.clone());
        peers
    }
}

/// A start without the log.
impl Seat {
    /// From now on, and until [`Seat::end_waiting`], what is read may be old and nothing can be changed.
    pub(crate) fn begin_waiting(&self) {
        let lost = Lost { since: Utc::now(), why: SILENT.to_owned() };
        self.set_waiting(Some(Waiting { lost, unheard: Vec::new() }));
    }

    pub(crate) fn end_waiting(&self) {
        self.set_waiting(None);
    }

    fn set_waiting(&self, waiting: Option<Waiting>) {
        *self.waiting.write().unwrap_or_else(PoisonError::into_inner) = waiting;
    }

    /// Why it waits, if it does.
    pub(super) fn waits_for(&self, why: String) {
        self.while_waiting(|waiting| waiting.lost.why = why);
    }

    /// Who does not answer it, if it waits.
    pub(crate) fn misses(&self, unheard: Vec<NodeId>) {
        self.while_waiting(|waiting| waiting.unheard = unheard);
    }

    fn while_waiting(&self, change: impl FnOnce(&mut Waiting)) {
        if let Some(waiting) = &mut *self.waiting.write().unwrap_or_else(PoisonError::into_inner) {
            change(waiting);
        }
    }

    /// The other members whose servers keep the log, as they were known last.
    pub(crate) fn neighbours(&self) -> Vec<PeerAddress> {
        let LogPlace::Managed { peers, .. } = &self.config.log else { return Vec::new() };
        let peers = peers.iter();
        peers.map(|peer| PeerAddress { node: peer.node, address: peer.address.clone() }).collect()
    }

    fn servers_configured(&self) -> usize {
        match &self.config.log {
            LogPlace::Managed { keeper, peers } => peers.len() + usize::from(*keeper),
            LogPlace::External { servers, .. } => servers.len(),
        }
    }
}

/// What its server is.
impl Seat {
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
