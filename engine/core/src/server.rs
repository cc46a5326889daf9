//! The server's own configuration: one stream for the whole installation.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{
    config::{self, Changes, Config},
    decision::{Context, Decision},
    ids::{StreamId, StreamKind},
    rejection::Rejection,
    world::World,
};

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Server {
    pub config: Config,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Event {
    /// These keys have these values now; `None` is unset.
    Configured { changes: Changes },
}

impl Event {
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Configured { .. } => "configured",
        }
    }
}

impl Server {
    /// There is one.
    #[must_use]
    pub fn stream() -> StreamId {
        StreamId::new(StreamKind::Server, Uuid::nil())
    }

    pub fn evolve(&mut self, event: &Event) {
        match event {
            Event::Configured { changes } => config::apply(&mut self.config, changes),
        }
    }
}

/// The whole configuration becomes `wanted`.
///
/// # Errors
/// Unknown keys and wrong values.
pub fn configure(
    world: &World,
    context: &Context,
    wanted: &BTreeMap<String, String>,
) -> Result<Decision, Rejection> {
    config::check(config::Scope::Server, wanted)?;
    let changes = config::diff(&world.server.config, wanted);
    let mut decision = Decision::for_context(context);
    if !changes.is_empty() {
        decision.record(Server::stream(), Event::Configured { changes });
    }
    Ok(decision)
}
