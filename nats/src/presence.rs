//! Presence on core NATS: one subject a node, which only that node may speak on.
//!
//! The subjects are not below the log's own, whose stream would keep every heartbeat.

use async_trait::async_trait;
use futures::{StreamExt, future, stream::BoxStream};
use stapes_core::{
    ids::NodeId,
    port::presence::{Beat, Presence, PresenceError},
};
use uuid::Uuid;

use crate::Connection;

/// Where a node's heartbeats go.
pub(crate) fn subject(cluster: Uuid, node: NodeId) -> String {
    format!("h.{}.{}", cluster.simple(), node.0.simple())
}

/// Where all nodes' heartbeats go.
pub(crate) fn subjects(cluster: Uuid) -> String {
    format!("h.{}.*", cluster.simple())
}

/// The nodes of a cluster, heard over its servers.
#[derive(Clone, Debug)]
pub struct NatsPresence {
    connection: Connection,
    cluster: Uuid,
}

impl NatsPresence {
    #[must_use]
    pub const fn new(connection: Connection, cluster: Uuid) -> Self {
        Self { connection, cluster }
    }
}

#[async_trait]
impl Presence for NatsPresence {
    async fn beat(&self, beat: Beat) -> Result<(), PresenceError> {
        // The client would keep it for later, when it is not true any more.
        if !self.connection.is_connected() {
            return Err(PresenceError::Unavailable("there is no connection".to_owned()));
        }
        let payload = serde_json::to_vec(&beat).map_err(unavailable)?;
        let subject = subject(self.cluster, beat.node);
        self.connection.client().publish(subject, payload.into()).await.map_err(unavailable)
    }

    async fn heard(&self) -> Result<BoxStream<'static, Beat>, PresenceError> {
        let client = self.connection.client();
        let messages = client.subscribe(subjects(self.cluster)).await.map_err(unavailable)?;
        // From here on the server knows that somebody listens.
        client.flush().await.map_err(unavailable)?;
        let cluster = self.cluster;
        let beats = messages.filter_map(move |message| {
            future::ready(read(cluster, message.subject.as_str(), &message.payload))
        });
        Ok(beats.boxed())
    }
}

/// The heartbeat in a message, if it is one of the node that may speak there.
fn read(cluster: Uuid, from: &str, payload: &[u8]) -> Option<Beat> {
    match serde_json::from_slice::<Beat>(payload) {
        Ok(beat) if subject(cluster, beat.node) == from => Some(beat),
        Ok(beat) => {
            tracing::warn!(from, node = %beat.node, "a heartbeat in another node's name");
            None
        }
        Err(error) => {
            tracing::warn!(from, %error, "no heartbeat");
            None
        }
    }
}

fn unavailable(error: impl std::fmt::Display) -> PresenceError {
    PresenceError::Unavailable(error.to_string())
}

#[cfg(test)]
mod tests {
    use stapes_core::ids::Sequence;

    use super::*;

    #[test]
    fn only_a_node_itself_says_that_it_is_there() {
        let cluster = Uuid::from_u128(0xc1);
        let (one, two) = (NodeId(Uuid::from_u128(1)), NodeId(Uuid::from_u128(2)));
        let at = chrono::DateTime::UNIX_EPOCH;
        let beat = Beat { node: one, applied: Sequence(7), boot: Uuid::nil(), at };
        let payload = serde_json::to_vec(&beat).unwrap();
        assert!(payload.len() < 200, "{} bytes", payload.len());
        assert_eq!(read(cluster, &subject(cluster, one), &payload), Some(beat));
        assert_eq!(read(cluster, &subject(cluster, two), &payload), None);
        assert_eq!(read(cluster, &subject(cluster, one), b"{}"), None);
    }
}
