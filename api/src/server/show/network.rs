//! Networks and who has which address in them.

use stapes_core::{network::Network, world::World};

use super::{NO_MEMBER, location, locations, project_name, storage::standing};
use crate::{
    server::params::url,
    wire::network::{self, NetworkLease},
};

pub(in crate::server) fn network(world: &World, it: &Network) -> network::Network {
    let uses = |devices: &stapes_core::config::Devices| {
        devices.values().any(|device| device.get("network") == Some(&it.name))
    };
    let instances = world.instances.values().filter(|instance| {
        instance.leases.values().any(|lease| lease.network == it.id) || uses(&instance.devices)
    });
    let mut used_by: Vec<_> = instances
        .map(|instance| {
            url(&["instances", &instance.name], Some(&project_name(world, instance.project)))
        })
        .collect();
    let profiles = world.profiles.values().filter(|profile| uses(&profile.devices));
    used_by.extend(profiles.map(|profile| {
        url(&["profiles", &profile.name], Some(&project_name(world, profile.project)))
    }));
    network::Network {
        config: it.config.clone(),
        description: it.description.clone(),
        name: it.name.clone(),
        kind: "bridge".to_owned(),
        used_by,
        managed: true,
        status: standing(it.progress.status).to_owned(),
        locations: locations(world),
        project: project_name(world, it.project),
    }
}

/// The network's own addresses and those of its guests.
pub(in crate::server) fn leases(world: &World, it: &Network) -> Vec<NetworkLease> {
    let gateways = ["ipv4.address", "ipv6.address"].into_iter().filter_map(|key| {
        let address = it.config.get(key)?.split('/').next()?;
        (address != "none" && !address.is_empty()).then(|| NetworkLease {
            hostname: format!("{}.gw", it.name),
            address: address.to_owned(),
            kind: "gateway".to_owned(),
            location: NO_MEMBER.to_owned(),
            ..NetworkLease::default()
        })
    });
    let guests = world.instances.values().flat_map(|instance| {
        let mine = instance.leases.values().filter(|lease| lease.network == it.id);
        mine.filter_map(move |lease| {
            Some(NetworkLease {
                hostname: instance.name.clone(),
                hwaddr: lease.mac.to_string(),
                address: lease.ipv4?.to_string(),
                kind: "dynamic".to_owned(),
                location: location(world, instance.node),
                project: project_name(world, instance.project),
            })
        })
    });
    gateways.chain(guests).collect()
}
