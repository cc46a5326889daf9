//! Storage pools and volumes.

use stapes_core::{pool::Pool, resource::Status, volume::Volume, world::World};

use super::{location, locations, project_name};
use crate::{
    server::params::url,
    wire::{
        Time,
        storage::{StoragePool, StorageVolume},
    },
};

pub(in crate::server) fn pool(world: &World, it: &Pool) -> StoragePool {
    let instances = world.instances.values().filter(|instance| instance.pool == it.id);
    let mut used_by: Vec<_> = instances
        .map(|instance| {
            url(&["instances", &instance.name], Some(&project_name(world, instance.project)))
        })
        .collect();
    let volumes = world.volumes.values().filter(|volume| volume.pool == it.id);
    used_by.extend(volumes.map(|volume| {
        let path = ["storage-pools", &it.name, "volumes", "custom", &volume.name];
        url(&path, Some(&project_name(world, volume.project)))
    }));
    let names_it = |device: &stapes_core::config::Device| device.get("pool") == Some(&it.name);
    let profiles = world.profiles.values();
    let profiles = profiles.filter(|profile| profile.devices.values().any(names_it));
    used_by.extend(profiles.map(|profile| {
        url(&["profiles", &profile.name], Some(&project_name(world, profile.project)))
    }));
    StoragePool {
        config: it.config.clone(),
        description: it.description.clone(),
        name: it.name.clone(),
        driver: it.driver.clone(),
        used_by,
        status: standing(it.progress.status).to_owned(),
        locations: locations(world),
    }
}

pub(super) const fn standing(status: Status) -> &'static str {
    match status {
        Status::Creating => "Pending",
        Status::Ready | Status::Changing | Status::Deleting => "Created",
    }
}

/// A volume that users made.
pub(in crate::server) fn volume(world: &World, it: &Volume, pool: &str) -> StorageVolume {
    let attaches = |devices: &stapes_core::config::Devices| {
        devices.values().any(|device| {
            device.get("pool").is_some_and(|name| name == pool)
                && device.get("source") == Some(&it.name)
        })
    };
    let instances = world.instances.values().filter(|instance| attaches(&instance.devices));
    let mut used_by: Vec<_> = instances
        .map(|instance| {
            url(&["instances", &instance.name], Some(&project_name(world, instance.project)))
        })
        .collect();
    let profiles = world.profiles.values().filter(|profile| attaches(&profile.devices));
    used_by.extend(profiles.map(|profile| {
        url(&["profiles", &profile.name], Some(&project_name(world, profile.project)))
    }));
    StorageVolume {
        config: it.config.clone(),
        description: it.description.clone(),
        name: it.name.clone(),
        kind: "custom".to_owned(),
        used_by,
        location: location(world, it.node),
        content_type: "filesystem".to_owned(),
        project: project_name(world, it.project),
        created_at: Time(it.created_at),
    }
}
