//! Projects.

use std::collections::BTreeMap;

use stapes_core::{
    config::Config, instance::Instance, port::image::ImageKind, project::Project, world::World,
};

use crate::{
    server::params::url,
    wire::project::{self, ProjectResource, ProjectState},
};

pub(in crate::server) fn project(world: &World, it: &Project) -> project::Project {
    project::Project {
        config: it.config.clone(),
        description: it.description.clone(),
        name: it.name.clone(),
        used_by: users(world, it),
    }
}

/// The URLs of all that is in it.
fn users(world: &World, it: &Project) -> Vec<String> {
    let here = Some(it.name.as_str());
    let instances = world.instances.values().filter(|instance| instance.project == it.id);
    let images = world.images.values().filter(|image| image.project == it.id);
    let profiles = world.profiles.values().filter(|profile| profile.project == it.id);
    let networks = world.networks.values().filter(|network| network.project == it.id);
    let mut urls: Vec<_> =
        instances.map(|instance| url(&["instances", &instance.name], here)).collect();
    urls.extend(images.map(|image| url(&["images", image.facts.fingerprint.as_str()], here)));
    urls.extend(profiles.map(|profile| url(&["profiles", &profile.name], here)));
    urls.extend(networks.map(|network| url(&["networks", &network.name], here)));
    urls
}

pub(in crate::server) fn project_state(world: &World, it: &Project) -> ProjectState {
    let count = |wanted: fn(&Instance) -> bool| {
        let mine = world.instances.values().filter(|instance| instance.project == it.id);
        i64::try_from(mine.filter(|instance| wanted(instance)).count()).unwrap_or(i64::MAX)
    };
    let networks = world.networks.values().filter(|network| network.project == it.id).count();
    let usage = [
        ("instances", count(|_| true)),
        ("containers", count(|instance| instance.kind == ImageKind::Container)),
        ("virtual-machines", count(|instance| instance.kind == ImageKind::VirtualMachine)),
        ("networks", i64::try_from(networks).unwrap_or(i64::MAX)),
    ];
    let resource = |(name, usage): (&str, i64)| {
        (name.to_owned(), ProjectResource { limit: limit(&it.config, name), usage })
    };
    ProjectState { resources: usage.into_iter().map(resource).collect::<BTreeMap<_, _>>() }
}

fn limit(config: &Config, name: &str) -> i64 {
    config.get(&format!("limits.{name}")).and_then(|text| text.parse().ok()).unwrap_or(-1)
}
