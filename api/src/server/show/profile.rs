//! Profiles.

use stapes_core::{port::secret::Sealer, profile::Profile, world::World};

use super::{opened, project_name};
use crate::{server::params::url, wire::profile};

pub(in crate::server) fn profile(
    world: &World,
    secrets: &dyn Sealer,
    it: &Profile,
) -> profile::Profile {
    let users = stapes_core::profile::users(world, it).map(|instance| {
        url(&["instances", &instance.name], Some(&project_name(world, instance.project)))
    });
    profile::Profile {
        config: opened(secrets, it.config.clone()),
        description: it.description.clone(),
        devices: it.devices.clone(),
        name: it.name.clone(),
        used_by: users.collect(),
        project: project_name(world, it.project),
    }
}
