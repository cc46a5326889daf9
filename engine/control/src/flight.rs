//! Which streams have a decision on its way to the log.

use std::collections::BTreeSet;

use stapes_core::ids::StreamId;
use tokio::sync::watch;

/// The claims of one process.
#[derive(Debug)]
pub(crate) struct Flight {
    claimed: BTreeSet<StreamId>,
    /// A decision that must be alone is on its way.
    closed: bool,
    /// Counts releases, so that whoever waits notices one.
    released: watch::Sender<u64>,
}

impl Default for Flight {
    fn default() -> Self {
        Self { claimed: BTreeSet::new(), closed: false, released: watch::Sender::new(0) }
    }
}

/// What one decision holds until it is in the world.
#[derive(Debug)]
pub(crate) struct Claim {
    streams: Vec<StreamId>,
    exclusive: bool,
}

impl Flight {
    /// Whether nobody has claimed one of the streams.
    pub(crate) fn is_free(&self, streams: &[StreamId], exclusive: bool) -> bool {
        let alone = !exclusive || self.claimed.is_empty();
        !self.closed && alone && streams.iter().all(|stream| !self.claimed.contains(stream))
    }

    /// Claims streams that are free.
    pub(crate) fn claim(&mut self, streams: Vec<StreamId>, exclusive: bool) -> Claim {
        debug_assert!(self.is_free(&streams, exclusive), "what is claimed is free");
        self.claimed.extend(&streams);
        self.closed = exclusive;
        Claim { streams, exclusive }
    }

    pub(crate) fn release(&mut self, claim: &Claim) {
        for stream in &claim.streams {
            self.claimed.remove(stream);
        }
        if claim.exclusive {
            self.closed = false;
        }
        self.released.send_modify(|count| *count += 1);
    }

    /// Changes when something is released after this call.
    pub(crate) fn released(&self) -> watch::Receiver<u64> {
        self.released.subscribe()
    }
}

#[cfg(test)]
mod tests {
    use stapes_core::ids::StreamKind;
    use uuid::Uuid;

    use super::*;

    fn stream(id: u128) -> StreamId {
        StreamId::new(StreamKind::Instance, Uuid::from_u128(id))
    }

    #[test]
    fn an_exclusive_claim_is_alone() {
        let mut flight = Flight::default();
        let one = flight.claim(vec![stream(1)], false);
        assert!(!flight.is_free(&[stream(1)], false));
        assert!(!flight.is_free(&[stream(2)], true));
        let two = flight.claim(vec![stream(2)], false);
        flight.release(&one);
        flight.release(&two);
        let all = flight.claim(vec![stream(2)], true);
        assert!(!flight.is_free(&[stream(3)], false));
        flight.release(&all);
        assert!(flight.is_free(&[stream(3)], false));
    }
}
