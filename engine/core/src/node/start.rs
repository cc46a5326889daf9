//! A node's daemon starts.

use uuid::Uuid;

use super::{Event, Node};
use crate::{
    cluster,
    decision::{Context, Decision},
    ids::NodeId,
    name,
    rejection::{Noun, Rejection},
    world::World,
};

/// What a daemon says of its node when it starts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Start {
    pub node: NodeId,
    /// Of a node that is not known yet: afterwards it has the name that the log says.
    pub name: String,
    pub architecture: String,
    pub cpus: u32,
    pub memory_bytes: u64,
    pub boot: Uuid,
    pub version: String,
}

impl Start {
    pub(super) fn event(&self, name: &str) -> Event {
        Event::Started {
            node: self.node,
            name: name.to_owned(),
            architecture: self.architecture.clone(),
            cpus: self.cpus,
            memory_bytes: self.memory_bytes,
            boot: self.boot,
            version: self.version.clone(),
        }
    }
}

/// # Errors
/// When another node has its name, or it is no member of the cluster.
pub fn start(world: &World, context: &Context, start: &Start) -> Result<Decision, Rejection> {
    let mut decision = Decision::for_context(context);
    if let Some(node) = world.nodes.get(&start.node) {
        decision.record(Node::stream(node.id), start.event(&node.name));
        cluster::rename_in(world, &mut decision, node, &node.name);
        return Ok(decision);
    }
    if world.server.cluster.is_some() {
        return Err(Rejection::NotAllowed {
            message: format!("This server ({}) is not a member of the cluster", start.name),
            hint: "make a join token at a member: stapes cluster add NAME".to_owned(),
        });
    }
    if world.node(&start.name).is_ok() {
        return Err(Rejection::AlreadyExists { noun: Noun::Node, name: start.name.clone() });
    }
    decision.record(Node::stream(start.node), start.event(&start.name));
    let name = Node::held(&start.name);
    let (holder, description) = (start.node.0, String::new());
    decision.record(name.stream(), name::Event::Reserved { name, holder, description });
    Ok(decision)
}
