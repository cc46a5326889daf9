//! The lease: how long a node may let its guests run without a word from the log, and how long the
//! others wait before they start them elsewhere.
//!
//! ```text
//!  proof of contact ──── 15 s without another ────► the node stops what may run elsewhere
//!  last heartbeat ── 12 s ─► lost ──── 30 s ──────► fenced: what may run elsewhere starts there
//! ```
//!
//! A proof counts from the moment the question was *sent*: what the answer says was true no earlier.
//! The last proof is never older than the last heartbeat by more than a lease, for a node without a
//! lease says nothing; so it has stopped long before it is fenced, as long as its clock runs at the
//! same rate. That clock is the one that counts while the machine sleeps.

use std::{collections::BTreeMap, time::Duration};

use crate::ids::NodeId;

/// How long a proof of contact is good.
pub const LEASE: Duration = Duration::from_secs(15);
/// How long a node may be silent before it is lost.
pub const LOST_AFTER: Duration = Duration::from_secs(12);
/// How long after it was lost what may run elsewhere is started there.
pub const FENCED_AFTER: Duration = Duration::from_secs(30);

/// A time of this machine since it booted, the time that it slept included.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Boottime(pub Duration);

impl Boottime {
    #[must_use]
    pub const fn after(self, passed: Duration) -> Self {
        Self(self.0.saturating_add(passed))
    }

    #[must_use]
    pub const fn since(self, earlier: Self) -> Duration {
        self.0.saturating_sub(earlier.0)
    }
}

/// What a node may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Let everything run, until then.
    Held { until: Boottime },
    /// Stop what may run elsewhere.
    Fence,
}

/// A node's lease: its last proof of contact.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lease {
    asked: Option<Boottime>,
}

impl Lease {
    /// `asked` is when the last question was sent that was answered.
    #[must_use]
    pub const fn new(asked: Option<Boottime>) -> Self {
        Self { asked }
    }

    /// A question that was sent at `asked` was answered. Answers may overtake each other.
    pub fn proved(&mut self, asked: Boottime) {
        self.asked = self.asked.max(Some(asked));
    }

    #[must_use]
    pub fn standing(&self, now: Boottime) -> Standing {
        match self.asked.map(|asked| asked.after(LEASE)) {
            Some(until) if now < until => Standing::Held { until },
            Some(_) | None => Standing::Fence,
        }
    }
}

/// Who was heard, and when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hearing {
    /// Who listens since then has not missed anybody before.
    since: Boottime,
    heard: BTreeMap<NodeId, Boottime>,
}

impl Hearing {
    #[must_use]
    pub const fn new(since: Boottime) -> Self {
        Self { since, heard: BTreeMap::new() }
    }

    pub fn hear(&mut self, node: NodeId, at: Boottime) {
        let last = self.heard.entry(node).or_insert(at);
        *last = (*last).max(at);
    }

    /// Hears nobody for a while, through no fault of theirs: everybody gets their time again.
    pub fn listen_anew(&mut self, since: Boottime) {
        self.since = self.since.max(since);
    }

    /// How long the node has been silent.
    #[must_use]
    pub fn silence(&self, node: NodeId, now: Boottime) -> Duration {
        let heard = self.heard.get(&node).copied().unwrap_or(self.since);
        now.since(heard.max(self.since))
    }

    /// Whether it is lost.
    #[must_use]
    pub fn is_lost(&self, node: NodeId, now: Boottime) -> bool {
        self.silence(node, now) >= LOST_AFTER
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    fn at(seconds: u64) -> Boottime {
        Boottime(Duration::from_secs(seconds))
    }

    #[test]
    fn a_lease_counts_from_the_question() {
        let mut lease = Lease::default();
        assert_eq!(lease.standing(at(0)), Standing::Fence, "nothing is proved yet");
        lease.proved(at(100));
        assert_eq!(lease.standing(at(114)), Standing::Held { until: at(115) });
        assert_eq!(lease.standing(at(115)), Standing::Fence);
        lease.proved(at(103));
        lease.proved(at(101));
        assert_eq!(lease.standing(at(117)), Standing::Held { until: at(118) });
    }

    #[test]
    fn a_node_has_stopped_before_it_is_fenced() {
        // The last heartbeat is sent at the very end of a lease.
        let last_proof = at(1000);
        let last_beat = last_proof.after(LEASE);
        let fenced = last_beat.after(LOST_AFTER).after(FENCED_AFTER);
        assert!(fenced.since(last_proof.after(LEASE)) >= Duration::from_secs(30));
        assert!(Lease::new(Some(last_proof)).standing(last_beat) == Standing::Fence);
    }

    #[test]
    fn who_listens_late_loses_nobody() {
        let (one, two) = (NodeId(Uuid::from_u128(1)), NodeId(Uuid::from_u128(2)));
        let mut hearing = Hearing::new(at(50));
        assert!(!hearing.is_lost(one, at(61)));
        assert!(hearing.is_lost(one, at(62)));
        hearing.hear(one, at(60));
        assert_eq!(hearing.silence(one, at(65)), Duration::from_secs(5));
        assert!(hearing.is_lost(one, at(72)) && hearing.is_lost(two, at(72)));
        hearing.listen_anew(at(72));
        assert!(!hearing.is_lost(one, at(83)) && hearing.is_lost(one, at(84)));
    }
}
