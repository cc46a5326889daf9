//! A node: a machine that runs `stapes daemon`. The dialect calls it a member.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{
    decision::{Context, Decision},
    ids::{NodeId, StreamId, StreamKind},
    rejection::Rejection,
    world::World,
};

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Node {
    pub id: NodeId,
    pub name: String,
    pub architecture: String,
    pub cpus: u32,
    pub memory_bytes: u64,
    /// Of its last start.
    pub boot: Uuid,
    pub started_at: DateTime<Utc>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Event {
    /// Its daemon started. The first one makes the node known.
    Started {
        node: NodeId,
        name: String,
        /// e.g. `x86_64`.
        architecture: String,
        cpus: u32,
        memory_bytes: u64,
        /// Changes when the machine is rebooted.
        boot: Uuid,
        version: String,
    },
}

impl Event {
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Started { .. } => "started",
        }
    }
}

impl Node {
    #[must_use]
    pub fn stream(node: NodeId) -> StreamId {
        StreamId::new(StreamKind::Node, node)
    }

    /// The node as this event leaves it, whatever it was before.
    #[must_use]
    pub fn after(event: &Event, at: DateTime<Utc>) -> Self {
        match event {
            Event::Started { node, name, architecture, cpus, memory_bytes, boot, version: _ } => {
                Self {
                    id: *node,
                    name: name.clone(),
                    architecture: architecture.clone(),
                    cpus: *cpus,
                    memory_bytes: *memory_bytes,
                    boot: *boot,
                    started_at: at,
                }
            }
        }
    }
}

/// What a daemon says of its node when it starts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Start {
    pub node: NodeId,
    pub name: String,
    pub architecture: String,
    pub cpus: u32,
    pub memory_bytes: u64,
    pub boot: Uuid,
    pub version: String,
}

/// # Errors
/// None today; a name held by another node will be.
pub fn start(_world: &World, context: &Context, start: &Start) -> Result<Decision, Rejection> {
    let mut decision = Decision::for_context(context);
    decision.record(
        Node::stream(start.node),
        Event::Started {
            node: start.node,
            name: start.name.clone(),
            architecture: start.architecture.clone(),
            cpus: start.cpus,
            memory_bytes: start.memory_bytes,
            boot: start.boot,
            version: start.version.clone(),
        },
    );
    Ok(decision)
}
