//! The table of known keys and what their values may be.

use super::{Scope, value};
use crate::spec::MacAddress;

/// What a value must be.
#[derive(Clone, Copy, Debug)]
pub(super) enum Check {
    /// Any text, without NUL.
    Text,
    Truth,
    Number,
    Size,
    /// A size, or a percentage of the host's.
    Memory,
    CpuCount,
    CpuAllowance,
    Mac,
    /// An address with its prefix length, or `auto`, or `none`.
    Subnet4,
    Subnet6,
    OneOf(&'static [&'static str]),
    /// An address and port to listen on.
    Listen,
    Span,
}

impl Check {
    pub(super) fn check(self, text: &str) -> Result<(), String> {
        match self {
            Self::Text if text.contains('\0') => Err("it contains a NUL".to_owned()),
            Self::Text => Ok(()),
            Self::Truth => value::truth(text).map(drop).ok_or_else(|| "true or false".to_owned()),
            Self::Number => text.parse::<i64>().map(drop).map_err(|_| "a whole number".to_owned()),
            Self::Size => value::bytes(text).map(drop),
            Self::Span => value::span(text).map(drop),
            Self::Memory => match text.strip_suffix('%') {
                Some(percent) => value::percentage(percent).map(drop),
                None => value::bytes(text).map(drop),
            },
            Self::CpuCount => value::count_of(text).map(drop),
            Self::CpuAllowance => value::allowance_of(text).map(drop),
            Self::Mac => text.parse::<MacAddress>().map(drop).map_err(|error| error.to_string()),
            Self::Subnet4 => subnet::<std::net::Ipv4Addr>(text, 32),
            Self::Subnet6 => subnet::<std::net::Ipv6Addr>(text, 128),
            Self::OneOf(words) if words.contains(&text) => Ok(()),
            Self::OneOf(words) => Err(format!("one of {}", words.join(", "))),
            Self::Listen => Ok(()),
        }
    }
}

fn subnet<A: std::str::FromStr>(text: &str, bits: u8) -> Result<(), String> {
    if text == "auto" || text == "none" {
        return Ok(());
    }
    let valid = text.split_once('/').is_some_and(|(address, prefix)| {
        address.parse::<A>().is_ok()
            && prefix.parse::<u8>().is_ok_and(|prefix| (1..=bits).contains(&prefix))
    });
    if valid {
        Ok(())
    } else {
        Err("an address with its prefix length, as in 10.0.3.1/24, or auto, or none".to_owned())
    }
}

use Check::{
    CpuAllowance, CpuCount, Listen, Mac, Memory, Number, OneOf, Size, Span, Subnet4, Subnet6, Text,
    Truth,
};

/// What becomes of an instance when its node is evacuated.
const EVACUATE: [&str; 6] =
    ["auto", "live-migrate", "migrate", "stop", "stateful-stop", "force-stop"];

const NODE: &[(&str, Check)] = &[("scheduler.instance", OneOf(&["all", "manual", "group"]))];

/// Keys of instances and of profiles.
const INSTANCE: &[(&str, Check)] = &[
    ("boot.autorestart", Truth),
    ("boot.autostart", Truth),
    ("boot.autostart.delay", Number),
    ("boot.autostart.priority", Number),
    ("boot.host_shutdown_timeout", Number),
    ("boot.stop.priority", Number),
    ("cloud-init.network-config", Text),
    ("cloud-init.user-data", Text),
    ("cloud-init.vendor-data", Text),
    ("cluster.evacuate", OneOf(&EVACUATE)),
    ("limits.cpu", CpuCount),
    ("limits.cpu.allowance", CpuAllowance),
    ("limits.memory", Memory),
    ("limits.processes", Number),
    ("placement.affinity", Text),
    ("placement.anti-affinity", Text),
    ("placement.spread", Text),
    ("replication.interval", Number),
    ("replication.target", Text),
    ("security.idmap.isolated", OneOf(&["true", "1", "yes", "on"])),
    ("security.nesting", Truth),
    ("security.privileged", Truth),
    ("security.protection.delete", Truth),
    ("snapshots.expiry", Text),
    ("snapshots.pattern", Text),
];

/// Keys that stapes sets itself and that come back when a client writes the whole object.
const VOLATILE: &[(&str, Check)] = &[
    ("volatile.apply_template", Text),
    ("volatile.base_image", Text),
    ("volatile.cloud-init.instance-id", Text),
    ("volatile.cloud_init.instance-id", Text),
    ("volatile.idmap.base", Number),
    ("volatile.idmap.current", Text),
    ("volatile.idmap.next", Text),
    ("volatile.last_state.idmap", Text),
    ("volatile.last_state.power", Text),
    ("volatile.last_state.ready", Text),
    ("volatile.uuid", Text),
    ("volatile.uuid.generation", Text),
];

/// What only an instance itself says: see [`crate::instance::Instance::is_ha`].
const INSTANCE_ONLY: &[(&str, Check)] = &[("cluster.ha", Truth)];

const SERVER: &[(&str, Check)] = &[
    ("cluster.healing_threshold", Number),
    ("cluster.join_token_expiry", Span),
    ("cluster.offline_threshold", Number),
    ("core.https_address", Listen),
    ("core.trust_ca_certificates", Truth),
    ("images.auto_update_interval", Number),
    ("images.compression_algorithm", OneOf(&["gzip", "zstd", "xz", "none"])),
    ("images.remote_cache_expiry", Number),
];

const PROJECT: &[(&str, Check)] = &[
    ("features.images", Truth),
    ("features.networks", Truth),
    ("features.networks.zones", Truth),
    ("features.profiles", Truth),
    ("features.storage.buckets", Truth),
    ("features.storage.volumes", Truth),
    ("limits.containers", Number),
    ("limits.instances", Number),
    ("limits.virtual-machines", Number),
];

const NETWORK: &[(&str, Check)] = &[
    ("bridge.external_interfaces", Text),
    ("bridge.mtu", Number),
    ("dns.domain", Text),
    ("dns.mode", OneOf(&["managed", "none"])),
    ("dns.nameservers", Text),
    ("ipv4.address", Subnet4),
    ("ipv4.dhcp", Truth),
    ("ipv4.nat", Truth),
    ("ipv6.address", Subnet6),
    ("ipv6.dhcp", Truth),
    ("ipv6.nat", Truth),
];

const POOL: &[(&str, Check)] = &[
    ("size", Size),
    ("source", Text),
    ("volatile.initial_source", Text),
    ("btrfs.mount_options", Text),
];

const VOLUME: &[(&str, Check)] =
    &[("size", Size), ("security.shifted", Truth), ("security.unmapped", Truth)];

impl Check {
    /// As the dialect names types of values.
    const fn kind(self) -> &'static str {
        match self {
            Self::Truth => "bool",
            Self::Number => "integer",
            Self::Text
            | Self::Size
            | Self::Memory
            | Self::CpuCount
            | Self::CpuAllowance
            | Self::Mac
            | Self::Subnet4
            | Self::Subnet6
            | Self::OneOf(_)
            | Self::Listen
            | Self::Span => "string",
        }
    }
}

/// The keys that users may set, with the types of their values.
pub fn known(scope: Scope) -> impl Iterator<Item = (&'static str, &'static str)> {
    table(scope).iter().map(|(key, check)| (*key, check.kind()))
}

const fn table(scope: Scope) -> &'static [(&'static str, Check)] {
    match scope {
        Scope::Server => SERVER,
        Scope::Instance | Scope::Profile => INSTANCE,
        Scope::Project => PROJECT,
        Scope::Network => NETWORK,
        Scope::Pool => POOL,
        Scope::Volume => VOLUME,
        Scope::Node => NODE,
    }
}

pub(super) fn find(scope: Scope, key: &str) -> Option<Check> {
    if key.strip_prefix("user.").is_some_and(|rest| !rest.is_empty()) {
        return Some(Text);
    }
    let listed = |table: &[(&str, Check)]| {
        table.iter().find(|(known, _)| *known == key).map(|(_, check)| *check)
    };
    listed(table(scope)).or_else(|| match scope {
        Scope::Instance => open_ended(key)
            .or_else(|| listed(INSTANCE_ONLY))
            .or_else(|| listed(VOLATILE))
            .or_else(|| interface(key)),
        Scope::Profile => open_ended(key),
        Scope::Server
        | Scope::Project
        | Scope::Network
        | Scope::Pool
        | Scope::Volume
        | Scope::Node => None,
    })
}

fn open_ended(key: &str) -> Option<Check> {
    let named = |prefix: &str| key.strip_prefix(prefix).is_some_and(|rest| !rest.is_empty());
    let variable = |rest: &str| {
        !rest.is_empty() && rest.bytes().all(|byte| byte != b'=' && byte.is_ascii_graphic())
    };
    if named("image.") || key.strip_prefix("environment.").is_some_and(variable) {
        Some(Text)
    } else {
        None
    }
}

/// `volatile.DEVICE.hwaddr` and its like.
fn interface(key: &str) -> Option<Check> {
    let (device, what) = key.strip_prefix("volatile.")?.rsplit_once('.')?;
    if device.is_empty() || device.contains('.') {
        return None;
    }
    match what {
        "hwaddr" => Some(Mac),
        "name" | "host_name" | "apply_quota" => Some(Text),
        _ => None,
    }
}
