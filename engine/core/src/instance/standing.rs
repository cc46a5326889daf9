//! What is asked of an instance most: where it stands.

use super::Instance;
use crate::{config, ids::Epoch, world::World};

impl Instance {
    /// Whether it is taken over when its node is fenced, so that its node stops it when it loses
    /// its lease: it says `cluster.ha` itself, and has, or is to have, a copy (`replication.target`).
    ///
    /// A profile cannot say it, and it cannot be said while the node is not heard: what a node that
    /// is cut off does not know it would not stop.
    #[must_use]
    pub fn is_ha(&self, world: &World) -> bool {
        if !config::is_true(&self.config, "cluster.ha") {
            return false;
        }
        let target = self.settings(world, &["replication.target"]).unwrap_or_default();
        self.replica.is_some() || target.values().any(|target| !target.is_empty())
    }

    #[must_use]
    pub const fn epoch(&self) -> Epoch {
        self.incarnation.epoch
    }
}
