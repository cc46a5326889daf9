//! The cluster: several nodes over one log. A host that stands alone is in none.
//!
//! ```text
//! alone ─ enabled ─► one member ─ token created ─► (a daemon elsewhere joins with it) ─► two members
//! ```
//!
//! What belongs to all members lies on the server's stream, so that two who change it meet there:
//! a token is used once, whichever members are asked.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{
    decision::{Context, Decision},
    ids::NodeId,
    name,
    node::{self, Node},
    rejection::{Noun, Rejection},
    server::{self, Server},
    world::{World, missing},
};

mod decide;
pub mod evacuation;
mod features;
mod groups;
pub mod liveness;
mod tokens;

pub(crate) use decide::decide;
pub(crate) use features::check_joins;
pub use features::{Feature, features};
pub use groups::{create_group, delete_group, describe_group, rename_group};
pub use tokens::{create_token, revoke_token};
pub(crate) use tokens::{redeem, taken};

/// The group that every member is in until somebody says otherwise.
pub const GROUP_DEFAULT: &str = "default";
/// Members at most: a decision that all of them must hear of fits in one commit.
pub const MEMBERS_MAX: usize = 1000;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cluster {
    pub id: Uuid,
    /// By the name that the joiner is to have.
    pub tokens: BTreeMap<String, Token>,
    pub groups: BTreeMap<String, Group>,
}

/// What lets one node join, once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Token {
    pub secret_hash: String,
    pub created_at: DateTime<Utc>,
    pub expires_at: DateTime<Utc>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Group {
    pub description: String,
}

impl Cluster {
    #[must_use]
    pub fn new(id: Uuid) -> Self {
        let default = Group { description: "Default cluster group".to_owned() };
        let groups = [(GROUP_DEFAULT.to_owned(), default)].into();
        Self { id, tokens: BTreeMap::new(), groups }
    }
}

impl World {
    /// # Errors
    /// When this is no cluster.
    pub fn cluster(&self) -> Result<&Cluster, Rejection> {
        self.server.cluster.as_ref().ok_or_else(|| Rejection::NotAllowed {
            message: "This server is not clustered".to_owned(),
            hint: "stapes cluster enable NAME".to_owned(),
        })
    }

    /// A node by its name.
    ///
    /// # Errors
    /// When there is none.
    pub fn node(&self, name: &str) -> Result<&Node, Rejection> {
        let held = self.names.get(&Node::held(name));
        let held = held.and_then(|held| self.nodes.get(&NodeId(held.holder)));
        // Nodes that were there before their names were reserved have none.
        let named = || self.nodes.values().find(|node| node.name == name);
        held.or_else(named).ok_or_else(|| missing(Noun::Node, name))
    }

    /// The group's members.
    pub fn members_of<'a>(&'a self, group: &'a str) -> impl Iterator<Item = &'a Node> {
        self.nodes.values().filter(move |node| node.groups.contains(group))
    }
}

/// The node that stands alone becomes the first member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Enable {
    /// Of the cluster: what its certificates and its log say.
    pub cluster: Uuid,
    pub node: NodeId,
    pub name: String,
    /// `host:port`.
    pub address: String,
    /// Of its certificate.
    pub fingerprint: String,
}

/// # Errors
/// When it is a cluster already, or the name cannot be one.
pub fn enable(world: &World, context: &Context, wanted: &Enable) -> Result<Decision, Rejection> {
    let Enable { cluster, node, name, address, fingerprint } = wanted;
    if world.server.cluster.is_some() {
        return Err(Rejection::NotAllowed {
            message: "This server is already clustered".to_owned(),
            hint: "stapes cluster list".to_owned(),
        });
    }
    let node = world.nodes.get(node).ok_or_else(|| missing(Noun::Node, name))?;
    if world.nodes.len() > 1 {
        return Err(Rejection::Invalid("More than one node wrote to this log".to_owned()));
    }
    node::check_name(name)?;
    check_address(address)?;
    let mut decision = Decision::for_context(context);
    decision.record(
        Server::stream(),
        server::Event::ClusterEnabled { cluster: *cluster, node: node.id },
    );
    rename_in(world, &mut decision, node, name);
    let (address, fingerprint) = (address.clone(), fingerprint.clone());
    decision.record(Node::stream(node.id), node::Event::Joined { address, fingerprint });
    Ok(decision)
}

/// Gives the node another name, whose freedom was checked; or the reservation that it lacks.
pub(crate) fn rename_in(world: &World, decision: &mut Decision, node: &Node, to: &str) {
    let (old, new) = (Node::held(&node.name), Node::held(to));
    if old == new && world.names.contains_key(&new) {
        return;
    }
    if old != new {
        if world.names.contains_key(&old) {
            decision.record(old.stream(), name::Event::Released { name: old });
        }
        let (from, to) = (node.name.clone(), to.to_owned());
        decision.record(Node::stream(node.id), node::Event::Renamed { from, to });
    }
    let (holder, description) = (node.id.0, String::new());
    decision.record(new.stream(), name::Event::Reserved { name: new, holder, description });
}

/// # Errors
/// When it is not `host:port`.
pub(crate) fn check_address(address: &str) -> Result<(), Rejection> {
    let (host, port) = address.rsplit_once(':').unwrap_or_default();
    let is_port = port.parse::<u16>().is_ok_and(|port| port > 0);
    let wildcard = matches!(host, "" | "0.0.0.0" | "[::]" | "::");
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | ':' | '[' | ']');
    if is_port && !wildcard && host.len() <= 255 && host.chars().all(plain) {
        return Ok(());
    }
    Err(Rejection::Invalid(format!(
        "Invalid cluster address {address:?}: the other members must find this one there, as in 10.0.0.1:8443"
    )))
}

#[cfg(test)]
pub(crate) mod tests;
