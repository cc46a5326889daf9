//! The nats-servers that keep the log: where this node's is, who else keeps it, and what it becomes
//! as members come and go.
//!
//! With one or two members the first one's server keeps the log, and the other passes on what is said;
//! with three or more three keep it. Two keepers would be worse than one: both must be there.

use std::{collections::BTreeSet, net::SocketAddr, path::PathBuf};

use stapes_core::{ids::NodeId, node::Node, world::World};
use stapes_nats::{
    TlsFiles,
    managed::{Beginning, ManagedConfig, Peer, Role, server_name},
};
use stapes_node::identity::{ClusterIdentity, IdentityFiles};

use super::{
    super::directory::Directory,
    config::{ClusterConfig, LogPlace, Neighbour},
};

/// The server's ports are the two after the API's.
const CLIENT: u16 = 1;
const ROUTE: u16 = 2;
/// Of the disk that the log is on, at most.
const STORE_BYTES_MAX: u64 = 64 << 30;
/// Copies of the log once there are so many members.
pub(super) const REPLICAS: usize = 3;

#[derive(Debug, thiserror::Error)]
pub(crate) enum AddressError {
    #[error("{0:?} is no address: it is HOST:PORT")]
    Malformed(String),
    #[error("{address} is not known here")]
    Unknown {
        address: String,
        #[source]
        source: std::io::Error,
    },
    #[error("the log's servers use the two ports after {0}, and there are none")]
    NoPorts(u16),
}

/// Where a member's API, and its server, listen.
#[derive(Clone, Copy, Debug)]
pub(super) struct Places {
    pub(super) api: SocketAddr,
    pub(super) client: SocketAddr,
    pub(super) route: SocketAddr,
}

impl Places {
    pub(super) async fn of(address: &str) -> Result<Self, AddressError> {
        let unknown = |source| AddressError::Unknown { address: address.to_owned(), source };
        let mut found = tokio::net::lookup_host(address).await.map_err(unknown)?;
        let api = found.next().ok_or_else(|| AddressError::Malformed(address.to_owned()))?;
        let after = |more: u16| {
            let port =
                api.port().checked_add(more).ok_or_else(|| AddressError::NoPorts(api.port()))?;
            Ok(SocketAddr::new(api.ip(), port))
        };
        Ok(Self { api, client: after(CLIENT)?, route: after(ROUTE)? })
    }
}

/// The program, unless `STAPES_NATS_SERVER` names another.
pub(super) fn binary() -> PathBuf {
    let named = std::env::var_os("STAPES_NATS_SERVER").filter(|name| !name.is_empty());
    named.map_or_else(|| PathBuf::from("nats-server"), PathBuf::from)
}

pub(super) fn tls(files: &IdentityFiles) -> TlsFiles {
    TlsFiles {
        ca: files.authority.clone(),
        certificate: files.certificate.clone(),
        key: files.key.clone(),
    }
}

/// What this node's server is to be, as `config` has it; `known` are all members.
pub(super) async fn managed(
    directory: &Directory,
    identity: &ClusterIdentity,
    config: &ClusterConfig,
    known: &BTreeSet<NodeId>,
) -> Result<Option<ManagedConfig>, AddressError> {
    let LogPlace::Managed { keeper, peers } = &config.log else { return Ok(None) };
    let node = identity.node();
    let own = Places::of(&config.address).await?;
    let mut others = Vec::new();
    for peer in peers {
        let places = Places::of(&peer.address).await?;
        others.push(Peer {
            node: peer.node,
            client: places.client,
            route: places.route,
            public_key: None,
        });
    }
    let mut nodes = known.clone();
    nodes.extend(peers.iter().map(|peer| peer.node));
    nodes.insert(node);
    Ok(Some(ManagedConfig {
        dir: directory.nats(),
        binary: binary(),
        cluster: config.cluster,
        node,
        client: own.client,
        route: own.route,
        peers: others,
        tls: tls(&identity.files()),
        public_key: None,
        nodes: nodes.into_iter().collect(),
        role: if *keeper { Role::Keeper } else { Role::Relay },
        beginning: if config.joined_with.is_some() { Beginning::Join } else { Beginning::Found },
        max_store_bytes: STORE_BYTES_MAX,
    }))
}

/// The members whose servers keep the log, by the servers' own words.
pub(super) fn keepers(world: &World, names: &BTreeSet<String>) -> BTreeSet<NodeId> {
    let keeps = |id: &&NodeId| names.contains(&server_name(**id));
    world.nodes.keys().filter(keeps).copied().collect()
}

/// The members whose servers are to keep the log: those that do, and as many more as are needed, in
/// an order that every member finds for itself.
pub(super) fn wanted(world: &World, keep: &BTreeSet<NodeId>) -> BTreeSet<NodeId> {
    let count = if world.nodes.len() >= REPLICAS { REPLICAS } else { 1 };
    let mut wanted = keep.clone();
    let able = |node: &&Node| node.is_online() && !keep.contains(&node.id);
    let more: Vec<NodeId> = world.nodes.values().filter(able).map(|node| node.id).collect();
    wanted.extend(more.into_iter().take(count.saturating_sub(keep.len())));
    wanted
}

/// Whom this node's server looks for: the other keepers. A lone keeper looks for nobody, so that it
/// can start alone.
pub(super) fn neighbours(world: &World, here: NodeId, wanted: &BTreeSet<NodeId>) -> Vec<Neighbour> {
    let others = wanted.iter().filter(|id| **id != here).filter_map(|id| world.nodes.get(id));
    others.map(|node| Neighbour { node: node.id, address: node.address.clone() }).collect()
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use stapes_core::node::{self, Reach};

    /// So many members, and who they are.
    pub(in super::super) fn world(count: u8) -> (World, Vec<NodeId>) {
        let mut world = World::default();
        let ids: Vec<_> = (0..count).map(|at| NodeId(uuid::Uuid::from_u128(at.into()))).collect();
        for id in &ids {
            let started = node::Event::Started {
                node: *id,
                name: id.to_string(),
                architecture: String::new(),
                cpus: 1,
                memory_bytes: 1,
                boot: uuid::Uuid::nil(),
                version: "0".to_owned(),
            };
            let node = Node::born(&started, chrono::DateTime::UNIX_EPOCH).unwrap();
            world.nodes.insert(*id, node);
        }
        (world, ids)
    }

    #[test]
    fn one_keeps_the_log_until_three_can() {
        let (two, ids) = world(2);
        let second = BTreeSet::from([ids[1]]);
        assert_eq!(wanted(&two, &second), second);
        assert!(neighbours(&two, ids[1], &second).is_empty());
        assert_eq!(neighbours(&two, ids[0], &second).len(), 1);
        let (four, ids) = world(4);
        let three = BTreeSet::from([ids[0], ids[1], ids[3]]);
        assert_eq!(wanted(&four, &BTreeSet::from([ids[3]])), three);
        assert_eq!(wanted(&four, &three), three);
    }

    #[test]
    fn one_that_is_away_is_not_asked_to_keep_it() {
        let (mut world, ids) = world(4);
        let since = chrono::DateTime::UNIX_EPOCH;
        world.nodes.get_mut(&ids[0]).unwrap().reach = Reach::Unreachable { since };
        let wanted = wanted(&world, &BTreeSet::from([ids[3]]));
        assert_eq!(wanted, BTreeSet::from([ids[1], ids[2], ids[3]]));
    }

    #[tokio::test]
    async fn the_servers_stand_beside_the_api() {
        let places = Places::of("10.0.0.1:8443").await.unwrap();
        assert_eq!(places.client.to_string(), "10.0.0.1:8444");
        assert_eq!(places.route.to_string(), "10.0.0.1:8445");
        assert!(matches!(Places::of("10.0.0.1:65535").await, Err(AddressError::NoPorts(65535))));
        assert!(Places::of("nonsense").await.is_err());
    }
}
