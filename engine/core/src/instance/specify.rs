//! From an instance as users see it to what a node is told: expansion, limits, specs.

use std::collections::{BTreeMap, BTreeSet};

use super::{Instance, Lease};
use crate::{
    address::{self, host_interface_name},
    config::{self, Config, Device, Devices},
    ids::{InstanceId, OperationId},
    name::{self, Name, NameKind},
    network::Network,
    port::image::ImageKind,
    project::Project,
    rejection::Rejection,
    spec::{
        DiskSource, DiskSpec, GuestSpec, Incarnation, Limits, MacAddress, NicSpec, Reservation,
        Security,
    },
    template::TemplateContext,
    world::World,
};

/// An instance's configuration and devices with its profiles' below them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Expanded {
    pub config: Config,
    pub devices: Devices,
}

/// Layers `config` and `devices` over the profiles, in order.
///
/// # Errors
/// When the project has no profile of one of the names.
pub(super) fn expand(
    world: &World,
    project: &Project,
    profiles: &[String],
    config: &Config,
    devices: &Devices,
) -> Result<Expanded, Rejection> {
    let scope = project.profiles_in();
    let profiles =
        profiles.iter().map(|name| world.profile_in(scope, name)).collect::<Result<Vec<_>, _>>()?;
    let layers = profiles.iter().map(|profile| &profile.devices).chain([devices]);
    let mut expanded = Expanded { config: Config::new(), devices: config::merge_devices(layers) };
    for layer in profiles.iter().map(|profile| &profile.config).chain([config]) {
        expanded.config.extend(layer.clone());
    }
    Ok(expanded)
}

/// # Errors
/// When a profile is named twice.
pub(super) fn check_profiles(profiles: &[String]) -> Result<(), Rejection> {
    let distinct: BTreeSet<_> = profiles.iter().collect();
    if distinct.len() == profiles.len() {
        return Ok(());
    }
    Err(Rejection::Invalid("Duplicate profile found in request".to_owned()))
}

impl Instance {
    /// # Errors
    /// When its project or one of its profiles is gone, which removing them prevents.
    pub fn expanded(&self, world: &World) -> Result<Expanded, Rejection> {
        expand(world, self.project_of(world)?, &self.profiles, &self.config, &self.devices)
    }

    /// Some of what [`Self::expanded`] has, without copying all of it.
    pub(crate) fn settings(&self, world: &World, keys: &[&str]) -> Option<Config> {
        let scope = world.projects.get(&self.project)?.profiles_in();
        let profiles = self.profiles.iter().rev().map(|name| world.profile_in(scope, name).ok());
        let profiles = profiles.collect::<Option<Vec<_>>>()?;
        let below = profiles.iter().map(|profile| &profile.config);
        let layers = [&self.config].into_iter().chain(below);
        let set = keys.iter().filter_map(|key| {
            let value = layers.clone().find_map(|layer| layer.get(*key))?;
            Some(((*key).to_owned(), value.clone()))
        });
        Some(set.collect())
    }

    pub(super) fn project_of<'a>(&self, world: &'a World) -> Result<&'a Project, Rejection> {
        let gone =
            || crate::world::missing(crate::rejection::Noun::Project, &self.project.to_string());
        world.projects.get(&self.project).ok_or_else(gone)
    }
}

/// The device that is the root disk, if there is just one.
///
/// # Errors
/// When there is none, or more than one.
pub(crate) fn root_device(devices: &Devices) -> Result<(&str, &Device), Rejection> {
    let is_root = |device: &Device| {
        device.get("type").is_some_and(|kind| kind == "disk")
            && device.get("path").is_some_and(|path| path == "/")
    };
    let mut roots = devices.iter().filter(|(_, device)| is_root(device));
    match (roots.next(), roots.next()) {
        (Some((name, device)), None) => Ok((name, device)),
        (None, _) => Err(Rejection::NotAllowed {
            message: "Failed creating instance record: No root device could be found".to_owned(),
            hint: "add one to the default profile: stapes init --auto, or give -s POOL".to_owned(),
        }),
        (Some(_), Some(_)) => {
            Err(Rejection::Invalid("There is more than one root disk device".to_owned()))
        }
    }
}

/// What the guest may use.
pub(super) fn limits(
    world: &World,
    instance: &Instance,
    expanded: &Expanded,
) -> Result<Limits, Rejection> {
    let host_bytes = world.nodes.get(&instance.node).map_or(0, |node| node.memory_bytes);
    let wrong = |why: String| Rejection::Invalid(format!("Invalid config: {why}"));
    let processes = expanded.config.get("limits.processes").filter(|text| !text.is_empty());
    let size = root_device(&expanded.devices).ok().and_then(|(_, device)| device.get("size"));
    Ok(Limits {
        memory_bytes: config::memory(&expanded.config, host_bytes).map_err(wrong)?,
        cpu: config::cpu(&expanded.config).map_err(wrong)?,
        processes: processes
            .map(|text| text.parse())
            .transpose()
            .map_err(|_| wrong("limits.processes".to_owned()))?,
        disk_bytes: size
            .filter(|text| !text.is_empty())
            .map(|text| config::bytes(text))
            .transpose()
            .map_err(wrong)?,
    })
}

/// The network that a nic device is on.
fn network_of<'a>(
    world: &'a World,
    project: &Project,
    device: &Device,
) -> Result<&'a Network, Rejection> {
    let named = device.get("network").filter(|name| !name.is_empty());
    let name = named.or_else(|| device.get("parent")).map_or("", String::as_str);
    world.network(&project.name, name)
}

fn nics(devices: &Devices) -> impl Iterator<Item = (&String, &Device)> {
    devices.iter().filter(|(_, device)| device.get("type").is_some_and(|kind| kind == "nic"))
}

/// Who asks for leases: an instance that is, or is about to be.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lessee<'a> {
    pub id: InstanceId,
    pub project: &'a Project,
    pub held: &'a BTreeMap<String, Lease>,
}

/// By device; `None` is given back.
type LeaseChanges = BTreeMap<String, Option<Lease>>;

/// What must change in the address plan for `devices`, and the names to reserve and to release.
pub(super) fn lease_changes(
    world: &World,
    lessee: Lessee<'_>,
    devices: &Devices,
) -> Result<(LeaseChanges, Vec<name::Event>), Rejection> {
    let mut changes = BTreeMap::new();
    let mut names = Vec::new();
    for (device_name, held) in lessee.held {
        if devices
            .get(device_name)
            .is_none_or(|device| device.get("type").is_none_or(|kind| kind != "nic"))
        {
            release(held, &mut names);
            changes.insert(device_name.clone(), None);
        }
    }
    for (device_name, device) in nics(devices) {
        let network = network_of(world, lessee.project, device)?;
        let held = lessee.held.get(device_name).filter(|held| held.network == network.id);
        let lease = lease_for(world, lessee.id, (device_name, device), network, held)?;
        if held == Some(&lease) {
            continue;
        }
        if let Some(old) = lessee.held.get(device_name) {
            release(old, &mut names);
        }
        if let Some(address) = lease.ipv4 {
            let name = Name::new(NameKind::Address, network.id, address.to_string());
            names.push(name::Event::Reserved {
                name,
                holder: lessee.id.0,
                description: String::new(),
            });
        }
        changes.insert(device_name.clone(), Some(lease));
    }
    Ok((changes, names))
}

fn release(lease: &Lease, names: &mut Vec<name::Event>) {
    if let Some(address) = lease.ipv4 {
        names.push(name::Event::Released {
            name: Name::new(NameKind::Address, lease.network, address.to_string()),
        });
    }
}

/// The releases of all that an instance holds in the address plan.
pub(super) fn release_all(leases: &BTreeMap<String, Lease>) -> Vec<name::Event> {
    let mut names = Vec::new();
    leases.values().for_each(|lease| release(lease, &mut names));
    names
}

fn lease_for(
    world: &World,
    instance: InstanceId,
    (device_name, device): (&str, &Device),
    network: &Network,
    held: Option<&Lease>,
) -> Result<Lease, Rejection> {
    let wrong = |why: String| Rejection::Invalid(format!("Invalid devices: {device_name}: {why}"));
    let given = device.get("hwaddr").map(|text| text.parse::<MacAddress>());
    let given = given.transpose().map_err(|error| wrong(error.to_string()))?;
    let mac = given.or_else(|| held.map(|held| held.mac));
    let mac = match mac {
        Some(mac) => mac,
        None => {
            let taken = |mac| world.ledger.has_mac(network.id, mac);
            let free = address::pick_mac(instance, device_name, taken);
            free.ok_or_else(|| {
                Rejection::Exhausted("No MAC address is free in this network".to_owned())
            })?
        }
    };
    let wanted =
        device.get("ipv4.address").filter(|text| !text.is_empty()).map(|text| text.parse());
    let wanted =
        wanted.transpose().map_err(|_| wrong("ipv4.address is not an address".to_owned()))?;
    let kept =
        held.and_then(|held| held.ipv4).filter(|kept| wanted.is_none_or(|wanted| wanted == *kept));
    let ipv4 = match (network.spec().ipv4, kept) {
        (None, _) => None,
        (Some(_), Some(kept)) => Some(kept),
        (Some(plan), None) => {
            let taken = |address: std::net::Ipv4Addr| {
                world.holder(NameKind::Address, network.id, &address.to_string()).is_some()
            };
            let seed = u64::from(u32::from_be_bytes([mac.0[2], mac.0[3], mac.0[4], mac.0[5]]));
            Some(
                address::pick_ipv4(&plan, taken, wanted, seed)
                    .map_err(|error| wrong(error.to_string()))?,
            )
        }
    };
    Ok(Lease { network: network.id, mac, ipv4 })
}

/// What the address plan must hold for the instance.
pub(super) fn reservations(
    world: &World,
    instance: &Instance,
    expanded: &Expanded,
) -> Vec<Reservation> {
    let nics = nic_specs(world, instance, expanded);
    nics.into_iter()
        .map(|nic| Reservation { instance: instance.id, hostname: instance.name.clone(), nic })
        .collect()
}

fn nic_specs(world: &World, instance: &Instance, expanded: &Expanded) -> Vec<NicSpec> {
    let spec = |(device_name, lease): (&String, &Lease)| {
        let network = world.networks.get(&lease.network)?;
        let device = expanded.devices.get(device_name)?;
        Some(NicSpec {
            name: device.get("name").filter(|name| !name.is_empty()).unwrap_or(device_name).clone(),
            host_name: host_interface_name(instance.id, device_name),
            network: lease.network,
            bridge: network.spec().bridge,
            mac: lease.mac,
            ipv4: lease.ipv4,
            ipv6: None,
        })
    };
    instance.leases.iter().filter_map(spec).collect()
}

fn disk_specs(world: &World, expanded: &Expanded) -> Result<Vec<DiskSpec>, Rejection> {
    let disks = expanded
        .devices
        .iter()
        .filter(|(_, device)| device.get("type").is_some_and(|kind| kind == "disk"));
    let disks = disks.filter(|(_, device)| device.get("path").is_some_and(|path| path != "/"));
    disks.map(|(name, device)| disk_spec(world, name, device)).collect()
}

fn disk_spec(world: &World, name: &str, device: &Device) -> Result<DiskSpec, Rejection> {
    let text = |key: &str| device.get(key).map_or("", String::as_str);
    let source = match device.get("pool").filter(|pool| !pool.is_empty()) {
        None => DiskSource::Host(text("source").into()),
        Some(pool) => {
            let volume = world.volume(pool, text("source"))?;
            DiskSource::Volume { pool: volume.pool, volume: volume.id }
        }
    };
    let read_only = config::is_true(device, "readonly");
    Ok(DiskSpec { name: name.to_owned(), source, path: text("path").into(), read_only })
}

pub(super) fn guest_spec(
    world: &World,
    instance: &Instance,
    expanded: &Expanded,
    incarnation: Incarnation,
    operation: OperationId,
) -> Result<GuestSpec, Rejection> {
    let variable = |(key, value): (&String, &String)| {
        Some((key.strip_prefix("environment.")?.to_owned(), value.clone()))
    };
    Ok(GuestSpec {
        instance: instance.id,
        incarnation,
        operation: Some(operation),
        hostname: instance.name.clone(),
        pool: instance.pool,
        image: instance.image.clone(),
        idmap: instance.idmap,
        limits: limits(world, instance, expanded)?,
        security: Security {
            privileged: config::is_true(&expanded.config, "security.privileged"),
            nesting: config::is_true(&expanded.config, "security.nesting"),
        },
        environment: expanded.config.iter().filter_map(variable).collect(),
        nics: nic_specs(world, instance, expanded),
        disks: disk_specs(world, expanded)?,
        template: instance.image.as_ref().map(|_| template_context(instance, expanded)),
        files: Vec::new(),
    })
}

/// Secrets stay out: the context lies on the log.
fn template_context(instance: &Instance, expanded: &Expanded) -> TemplateContext {
    let kind = match instance.kind {
        ImageKind::Container => "container",
        ImageKind::VirtualMachine => "virtual-machine",
    };
    let privileged = config::is_true(&expanded.config, "security.privileged");
    let facts = [
        ("name", instance.name.clone()),
        ("architecture", instance.architecture.clone()),
        ("type", kind.to_owned()),
        ("ephemeral", instance.ephemeral.to_string()),
        ("privileged", privileged.to_string()),
    ];
    let open = |(key, _): &(&String, &String)| !config::is_secret(key);
    let owned = |(key, value): (&String, &String)| (key.clone(), value.clone());
    TemplateContext {
        due: instance.template,
        instance: facts.into_iter().map(|(key, value)| (key.to_owned(), value)).collect(),
        config: expanded.config.iter().filter(open).map(owned).collect(),
        devices: expanded.devices.clone(),
    }
}
