//! Presence among those in one process: for a node that stands alone, and for the simulator.

use async_trait::async_trait;
use futures::{StreamExt, stream::BoxStream};
use tokio::sync::broadcast::{self, error::RecvError};

use super::{Beat, Presence, PresenceError};

/// What one who listens may fall behind.
const BEHIND_MAX: usize = 1024;

#[derive(Clone, Debug)]
pub struct MemoryPresence {
    beats: broadcast::Sender<Beat>,
}

impl Default for MemoryPresence {
    fn default() -> Self {
        Self { beats: broadcast::Sender::new(BEHIND_MAX) }
    }
}

#[async_trait]
impl Presence for MemoryPresence {
    async fn beat(&self, beat: Beat) -> Result<(), PresenceError> {
        // An error says that nobody listens, which is nobody's fault.
        let _ = self.beats.send(beat);
        Ok(())
    }

    async fn heard(&self) -> Result<BoxStream<'static, Beat>, PresenceError> {
        let listening = self.beats.subscribe();
        let next = async |mut listening: broadcast::Receiver<Beat>| {
            loop {
                match listening.recv().await {
                    Ok(beat) => return Some((beat, listening)),
                    Err(RecvError::Lagged(_)) => {}
                    Err(RecvError::Closed) => return None,
                }
            }
        };
        Ok(futures::stream::unfold(listening, next).boxed())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::port::presence::laws;

    #[tokio::test]
    async fn it_keeps_the_laws() {
        let presence = MemoryPresence::default();
        laws::all(Arc::new(presence.clone()), Arc::new(presence)).await;
    }
}
