//! How this member hears the others, for those who ask: the watch, and the API.

use std::time::Duration;

use stapes_control::{Control, Ears};
use stapes_core::{
    ids::NodeId,
    lease::{Boottime, LOST_AFTER, Standing},
};
use stapes_node::membership::{Clock as _, MachineClock, Membership};

#[derive(Debug)]
pub(crate) struct MemberEars {
    membership: Membership,
    control: Control,
    node: NodeId,
}

impl MemberEars {
    pub(crate) const fn new(membership: Membership, control: Control, node: NodeId) -> Self {
        Self { membership, control, node }
    }

    /// Members whose beats do not come, whatever the log says of them.
    pub(crate) fn unheard(&self) -> Vec<NodeId> {
        let world = self.control.world();
        let others = world.nodes.keys().filter(|id| **id != self.node);
        others.filter(|id| self.membership.silence(**id) >= LOST_AFTER).copied().collect()
    }
}

impl Ears for MemberEars {
    fn now(&self) -> Boottime {
        MachineClock.now()
    }

    fn silence(&self, node: NodeId) -> Option<Duration> {
        // Who holds no lease hears too little to say so.
        let held = matches!(*self.membership.standing().borrow(), Some(Standing::Held { .. }));
        held.then(|| self.membership.silence(node))
    }
}
