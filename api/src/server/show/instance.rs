//! Instances and their snapshots.

use stapes_core::{
    config::{Config, Devices},
    instance::{Instance, Snapshot, Status},
    port::{image::ImageKind, secret::Sealer},
    world::World,
};

use super::{is_reachable, location, opened, project_name};
use crate::wire::{self, StatusCode, Time, snapshot::InstanceSnapshot};

/// Secrets are opened with what `secrets` holds.
pub(in crate::server) fn instance(
    world: &World,
    secrets: &dyn Sealer,
    it: &Instance,
) -> wire::instance::Instance {
    // A profile that is gone can be no instance's; should it be, its own settings are still true.
    let (expanded_config, expanded_devices) = it.expanded(world).map_or_else(
        |_| (it.config.clone(), it.devices.clone()),
        |expanded| (expanded.config, expanded.devices),
    );
    let status = status_of(world, it);
    let shown = |config| with_volatile(it, opened(secrets, config));
    wire::instance::Instance {
        architecture: it.architecture.clone(),
        config: shown(it.config.clone()),
        devices: it.devices.clone(),
        ephemeral: it.ephemeral,
        profiles: it.profiles.clone(),
        stateful: false,
        description: it.description.clone(),
        created_at: it.created_at.into(),
        expanded_config: shown(expanded_config),
        expanded_devices,
        name: it.name.clone(),
        status: status.name().to_owned(),
        status_code: status,
        last_used_at: last_used(it.last_started_at),
        location: location(world, it.node),
        kind: kind(it.kind).to_owned(),
        project: project_name(world, it.project),
    }
}

/// What is true of it as far as anybody knows: of one on a node that nobody hears, nothing.
pub(super) fn status_of(world: &World, it: &Instance) -> StatusCode {
    if is_reachable(world, it.node) { status(it.status) } else { StatusCode::ERROR }
}

const fn status(status: Status) -> StatusCode {
    match status {
        Status::Creating | Status::Stopped => StatusCode::STOPPED,
        Status::Running { .. } => StatusCode::RUNNING,
        Status::Frozen { .. } => StatusCode::FROZEN,
    }
}

pub(super) const fn kind(kind: ImageKind) -> &'static str {
    match kind {
        ImageKind::Container => "container",
        ImageKind::VirtualMachine => "virtual-machine",
    }
}

/// The dialect shows in the configuration what the server itself keeps of an instance.
fn with_volatile(it: &Instance, mut config: Config) -> Config {
    let mut set = |key: String, value: String| config.insert(key, value);
    set("volatile.uuid".to_owned(), it.id.to_string());
    let power = if it.status.is_up() { "RUNNING" } else { "STOPPED" };
    set("volatile.last_state.power".to_owned(), power.to_owned());
    if let Some(image) = &it.image {
        set("volatile.base_image".to_owned(), image.to_string());
    }
    for (device, lease) in &it.leases {
        set(format!("volatile.{device}.hwaddr"), lease.mac.to_string());
    }
    config
}

/// The dialect's "never" of this one field is the epoch.
fn last_used(at: Option<chrono::DateTime<chrono::Utc>>) -> Time {
    Time(at.unwrap_or_default())
}

pub(in crate::server) fn snapshot(
    secrets: &dyn Sealer,
    it: &Instance,
    name: &str,
    snapshot: &Snapshot,
) -> InstanceSnapshot {
    let config = opened(secrets, snapshot.config.clone());
    let devices: Devices = snapshot.devices.clone();
    InstanceSnapshot {
        expires_at: snapshot.expires_at.into(),
        architecture: it.architecture.clone(),
        config: config.clone(),
        created_at: snapshot.created_at.into(),
        devices: devices.clone(),
        ephemeral: snapshot.ephemeral,
        expanded_config: config,
        expanded_devices: devices,
        last_used_at: last_used(snapshot.last_started_at),
        name: name.to_owned(),
        profiles: snapshot.profiles.clone(),
        stateful: false,
        size: -1,
    }
}
