//! A node becomes a member of the cluster.

use super::{Event, Node, Start};
use crate::{
    cluster::{self, MEMBERS_MAX},
    decision::{Context, Decision},
    name,
    rejection::Rejection,
    server::{self, Server},
    world::World,
};

/// A server that has a token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Join {
    /// Its name does not count: the token says which it gets.
    pub start: Start,
    /// `host:port`.
    pub address: String,
    /// Of its certificate.
    pub fingerprint: String,
    /// Of the token's secret.
    pub secret_hash: String,
}

/// Repeating it after it was done changes nothing.
///
/// # Errors
/// When the token is wrong, used or expired, the name or the address is taken, or its daemon is too
/// old for the log.
pub fn join(world: &World, context: &Context, wanted: &Join) -> Result<Decision, Rejection> {
    world.cluster()?;
    let Join { start, address, fingerprint, secret_hash } = wanted;
    if let Some(known) = world.nodes.get(&start.node) {
        if known.fingerprint == *fingerprint && known.address == *address {
            return Ok(Decision::for_context(context));
        }
        return Err(refused(
            format!("This server is a member already, as {:?}", known.name),
            "remove it first: stapes cluster remove NAME",
        ));
    }
    let name = cluster::redeem(world, context, secret_hash)?;
    cluster::check_address(address)?;
    if world.node(name).is_ok() {
        return Err(cluster::taken(name));
    }
    if world.nodes.values().any(|node| node.address == *address) {
        return Err(refused(
            format!("The cluster already has a member with address: {address}"),
            "choose another address; see: stapes cluster list",
        ));
    }
    cluster::check_joins(&start.version)?;
    if world.nodes.len() >= MEMBERS_MAX {
        return Err(Rejection::Exhausted(format!("A cluster has at most {MEMBERS_MAX} members")));
    }
    let mut decision = Decision::for_context(context);
    let used = server::Event::TokenUsed { name: name.to_owned(), node: start.node };
    decision.record(Server::stream(), used);
    let held = Node::held(name);
    let (holder, description) = (start.node.0, String::new());
    decision.record(held.stream(), name::Event::Reserved { name: held, holder, description });
    decision.record(Node::stream(start.node), start.event(name));
    let (address, fingerprint) = (address.clone(), fingerprint.clone());
    decision.record(Node::stream(start.node), Event::Joined { address, fingerprint });
    Ok(decision)
}

fn refused(message: String, hint: &str) -> Rejection {
    Rejection::NotAllowed { message, hint: hint.to_owned() }
}
