//! Presence on core NATS.

use stapes_core::ids::NodeId;
use uuid::Uuid;

/// Where a node's heartbeats go. Not below the log's own subjects, whose stream takes everything.
pub(crate) fn subject(cluster: Uuid, node: NodeId) -> String {
    format!("h.{}.{}", cluster.simple(), node.0.simple())
}

/// Where all nodes' heartbeats go.
pub(crate) fn subjects(cluster: Uuid) -> String {
    format!("h.{}.*", cluster.simple())
}
