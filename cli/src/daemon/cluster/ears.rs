//! How this member hears the others, for those who ask: the watch, and the API.

use std::time::Duration;

use stapes_control::{Control, Ears};
use stapes_core::{
    cluster::liveness::Thresholds,
    ids::NodeId,
    lease::{Boottime, Standing},
    world::World,
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
        unheard(&self.control.world(), self.node, |id| self.membership.silence(id))
    }
}

/// Who has been silent for as long as the cluster's configuration allows, other than `here`.
fn unheard(world: &World, here: NodeId, silence: impl Fn(NodeId) -> Duration) -> Vec<NodeId> {
    let Thresholds { offline, .. } = Thresholds::of(world);
    let others = world.nodes.keys().copied().filter(|id| *id != here);
    others.filter(|id| silence(*id) >= offline).collect()
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

#[cfg(test)]
mod tests {
    use super::{super::servers::tests::world, *};

    #[test]
    fn who_is_silent_for_as_long_as_is_configured_is_unheard() {
        let (mut world, ids) = world(2);
        let unheard_after =
            |world: &World, seconds| unheard(world, ids[0], |_| Duration::from_secs(seconds));
        assert_eq!(unheard_after(&world, 11), []);
        assert_eq!(unheard_after(&world, 12), [ids[1]]);
        let threshold = ("cluster.offline_threshold".to_owned(), "30".to_owned());
        world.server.config.extend([threshold]);
        assert_eq!(unheard_after(&world, 29), []);
        assert_eq!(unheard_after(&world, 30), [ids[1]]);
    }
}
