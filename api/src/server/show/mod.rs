//! The world in the dialect's words: pure functions, one file a noun.
//!
//! Architecture Invariant: nothing here waits, reads a clock or asks a driver, but for the keys that
//! open secrets. What is measured live comes in as an argument.

mod image;
mod instance;
mod member;
mod network;
mod operation;
mod profile;
mod project;
mod state;
mod storage;

pub(super) use image::{alias, aliases, image};
use instance::status_of;
pub(super) use instance::{instance, snapshot};
pub(super) use member::{clustered, is_reachable, location, locations, member};
pub(super) use network::{leases, network};
pub(super) use operation::operation;
pub(super) use profile::profile;
pub(super) use project::{project, project_state};
pub(super) use state::state;
pub(super) use storage::{pool, volume};

use stapes_core::{
    config::Config,
    ids::{ProjectId, Revision},
    port::secret::{self, Sealer},
    world::World,
};

use super::params::DEFAULT_PROJECT;

/// The member that everything is on when there is no cluster.
pub(super) const NO_MEMBER: &str = "none";

/// The configuration with its secrets in clear: whoever may read the object may read them.
fn opened(secrets: &dyn Sealer, mut config: Config) -> Config {
    secret::show(secrets, &mut config);
    config
}

/// The name of a project, as long as it is there.
pub(super) fn project_name(world: &World, id: ProjectId) -> String {
    world.projects.get(&id).map_or_else(|| DEFAULT_PROJECT.to_owned(), |it| it.name.clone())
}

/// A revision as an ETag: quoted.
pub(super) fn etag(revision: Revision) -> String {
    format!("\"{revision}\"")
}
