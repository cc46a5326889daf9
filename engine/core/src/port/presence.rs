//! Presence: nodes say that they are there, off the log.
//!
//! What is said is heard by those who listen at that time, or by nobody: nothing is kept, nothing is
//! said again, and nobody who speaks waits for one who listens. Only what follows from silence is
//! decided and goes on the log; [`crate::lease`] has the times.

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use futures::stream::BoxStream;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::ids::{NodeId, Sequence};

pub mod laws;
mod memory;
pub use memory::MemoryPresence;

/// "I am here."
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Beat {
    pub node: NodeId,
    /// How far its views are.
    pub applied: Sequence,
    /// Changes when the machine is rebooted.
    pub boot: Uuid,
    /// By its own clock, to show whose clock is wrong; nothing is decided by it.
    pub at: DateTime<Utc>,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PresenceError {
    /// Nobody can be reached now.
    #[error("nobody can be told or heard now: {0}")]
    Unavailable(String),
}

#[async_trait]
pub trait Presence: Send + Sync + std::fmt::Debug + 'static {
    /// Says it to whoever listens; the one who says it may be among them.
    async fn beat(&self, beat: Beat) -> Result<(), PresenceError>;

    /// All that is said from now on, in the order of each who says it. Who listens too slowly misses
    /// some of it. The stream ends when nothing more can be heard on it: listen anew then.
    async fn heard(&self) -> Result<BoxStream<'static, Beat>, PresenceError>;
}
