//! The state that is folded from the log: the world, and the operations around it.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use stapes_core::{
    ids::Sequence,
    record::{Digest, Recorded},
    world::World,
};

use crate::{operations::Operations, status::Blocked};

/// A copy is cheap and does not change.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct State {
    #[serde(with = "shared")]
    pub(crate) world: Arc<World>,
    pub(crate) operations: Operations,
    /// Of the last record.
    pub(crate) digest: Option<Digest>,
}

impl State {
    pub(crate) fn sequence(&self) -> Sequence {
        self.world.sequence
    }

    /// # Errors
    /// When the record does not continue the log. Nothing has changed then.
    pub(crate) fn apply(&mut self, recorded: &Recorded) -> Result<(), Blocked> {
        let applied = Arc::make_mut(&mut self.world).apply(recorded);
        applied.map_err(|broken| Blocked::by_record(recorded, &broken))?;
        self.operations.apply(recorded);
        self.digest = Some(recorded.digest);
        Ok(())
    }
}

/// serde leaves shared pointers to the crate's `rc` feature; the world is owned by one state.
mod shared {
    use super::{Arc, Deserialize, Serialize, World};

    pub(super) fn serialize<S: serde::Serializer>(
        world: &Arc<World>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        World::serialize(world, serializer)
    }

    pub(super) fn deserialize<'de, D: serde::Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Arc<World>, D::Error> {
        World::deserialize(deserializer).map(Arc::new)
    }
}
