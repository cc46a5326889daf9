//! Whether the others hear a node. Several members may see the same at once and say so: each fact
//! is written once, and only from the state that it follows.

use chrono::{DateTime, Utc};

use super::{Duty, Event, FencingProof, Node, Reach};
use crate::{
    decision::{Context, Decision},
    ids::NodeId,
    instance,
    rejection::{Noun, Rejection},
    resource,
    world::{World, missing},
};

fn find(world: &World, id: NodeId) -> Result<&Node, Rejection> {
    world.nodes.get(&id).ok_or_else(|| missing(Noun::Node, &id.to_string()))
}

/// `by` does not hear `node` any more.
///
/// # Errors
/// When a node says so of itself, or of another while it is lost itself: then it is the one that
/// does not hear.
pub fn lose(
    world: &World,
    context: &Context,
    node: NodeId,
    by: NodeId,
) -> Result<Decision, Rejection> {
    let (node, by) = (find(world, node)?, find(world, by)?);
    if node.id == by.id || !by.is_online() {
        return Err(Rejection::NotAllowed {
            message: format!("{:?} cannot say that {:?} is lost", by.name, node.name),
            hint: "see: stapes cluster list".to_owned(),
        });
    }
    let mut decision = Decision::for_context(context);
    if !node.is_online() {
        return Ok(decision);
    }
    decision.record(Node::stream(node.id), Event::Lost);
    if let Duty::Evacuating { operation, .. } | Duty::Restoring { operation } = node.duty {
        let error = format!("Cluster member {:?} is unreachable", node.name);
        if world.operations.contains_key(&operation) {
            decision.fail(operation, &error);
        }
        let over = if matches!(node.duty, Duty::Restoring { .. }) {
            Event::Restored
        } else {
            Event::EvacuationFailed { error }
        };
        decision.record(Node::stream(node.id), over);
    }
    resource::settle_without(world, &mut decision, node.id);
    instance::node_gone(world, context, &mut decision, node.id, instance::Gone::Lost)?;
    Ok(decision)
}

/// It is heard again, or says so itself.
///
/// # Errors
/// When there is no such node.
pub fn recover(world: &World, context: &Context, node: NodeId) -> Result<Decision, Rejection> {
    let node = find(world, node)?;
    let mut decision = Decision::for_context(context);
    if !node.is_online() {
        decision.record(Node::stream(node.id), Event::Returned);
    }
    Ok(decision)
}

/// What may run elsewhere does not run on it any more.
///
/// # Errors
/// While it is heard.
pub fn fence(
    world: &World,
    context: &Context,
    node: NodeId,
    proof: FencingProof,
) -> Result<Decision, Rejection> {
    let node = find(world, node)?;
    let mut decision = Decision::for_context(context);
    match node.reach {
        Reach::Fenced { .. } => {}
        Reach::Unreachable { .. } => {
            decision.record(Node::stream(node.id), Event::Fenced { proof });
        }
        Reach::Online => {
            return Err(Rejection::NotAllowed {
                message: format!("Cluster member {:?} is online", node.name),
                hint: format!("stapes cluster evacuate {}", node.name),
            });
        }
    }
    Ok(decision)
}

impl Node {
    /// Since when it is not heard.
    #[must_use]
    pub const fn away_since(&self) -> Option<DateTime<Utc>> {
        match self.reach {
            Reach::Online => None,
            Reach::Unreachable { since } | Reach::Fenced { since } => Some(since),
        }
    }

    /// # Errors
    /// When nobody hears it: what is asked of it would wait for its return.
    pub fn reachable(&self) -> Result<(), Rejection> {
        match self.away_since() {
            None => Ok(()),
            Some(since) => Err(Rejection::NotAllowed {
                message: format!(
                    "Cluster member {:?} is offline (not heard since {})",
                    self.name,
                    since.format("%Y-%m-%d %H:%M:%S UTC")
                ),
                hint: format!(
                    "wait for it, see: stapes cluster list; if it is gone for good: stapes \
                     cluster remove {} --force",
                    self.name
                ),
            }),
        }
    }
}
