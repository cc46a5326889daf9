//! What a node is told to make: complete, typed, and free of names that could change.
//!
//! A spec rides in a task, so a node needs nothing but its own tasks to know what to do. Values
//! come from users and guests: whoever uses one passes it as an argument, never pastes it into a
//! file or a shell.

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, Ipv6Addr},
    path::PathBuf,
};

use serde::{Deserialize, Serialize};

use crate::ids::{
    Epoch, Fingerprint, Generation, InstanceId, NetworkId, OperationId, PoolId, SnapshotId,
    VolumeId,
};
use crate::template::{RenderedFile, TemplateContext};

/// Which incarnation of a thing a request is about. Written into the world beside the thing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Incarnation {
    pub epoch: Epoch,
    pub generation: Generation,
}

impl Incarnation {
    /// Of what is asked for next.
    #[must_use]
    pub const fn next(self) -> Self {
        Self { epoch: self.epoch, generation: self.generation.next() }
    }

    /// The next owner's first: it overtakes all that this owner asked for.
    #[must_use]
    pub const fn of_next_owner(self) -> Self {
        Self { epoch: self.epoch.next(), generation: Generation(0) }
    }
}

/// One guest to run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GuestSpec {
    pub instance: InstanceId,
    pub incarnation: Incarnation,
    /// The operation that asked for it; progress is told under this id.
    pub operation: Option<OperationId>,
    /// A DNS label.
    pub hostname: String,
    pub pool: PoolId,
    /// The image below the root volume, if it was made from one.
    pub image: Option<Fingerprint>,
    pub idmap: IdMap,
    pub limits: Limits,
    pub security: Security,
    /// Of the init process and of everything executed later. Values are sealed until the node opens
    /// them; a sealed value says itself which project's key it needs.
    pub environment: BTreeMap<String, String>,
    pub nics: Vec<NicSpec>,
    pub disks: Vec<DiskSpec>,
    /// What the image's templates are rendered from; `None` without an image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub template: Option<TemplateContext>,
    /// What came of it. The node fills this in: it is not on the log.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<RenderedFile>,
}

/// The host's ids that a container's 0.. are mapped to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdMap {
    pub base: u32,
    pub size: u32,
}

/// What a guest may use; `None` is no limit. Set while it runs, too.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    pub memory_bytes: Option<u64>,
    pub cpu: Option<CpuLimit>,
    pub processes: Option<u64>,
    /// Of the root volume.
    pub disk_bytes: Option<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CpuLimit {
    /// CPU time in each period, over all CPUs.
    pub quota_us: u64,
    pub period_us: u64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Security {
    /// Without a user namespace.
    pub privileged: bool,
    /// May run containers of its own.
    pub nesting: bool,
}

/// A network interface of a guest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NicSpec {
    /// Its name inside, e.g. `eth0`.
    pub name: String,
    /// Its name on the host, at most 15 bytes; follows from the instance's id and `name`.
    pub host_name: String,
    pub network: NetworkId,
    /// The bridge on the host.
    pub bridge: String,
    pub mac: MacAddress,
    /// Reserved for it in the network's address plan; handed out by DHCP.
    pub ipv4: Option<Ipv4Addr>,
    pub ipv6: Option<Ipv6Addr>,
}

/// A directory of the host, or a volume of a pool, inside the guest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiskSpec {
    pub name: String,
    pub source: DiskSource,
    /// Where it is inside, absolute.
    pub path: PathBuf,
    pub read_only: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DiskSource {
    Host(PathBuf),
    Volume { pool: PoolId, volume: VolumeId },
}

/// An Ethernet address.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct MacAddress(pub [u8; 6]);

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a MAC address is six pairs of hexadecimal digits, as in 10:66:6a:00:00:01")]
pub struct NotAMacAddress;

impl std::str::FromStr for MacAddress {
    type Err = NotAMacAddress;
    fn from_str(text: &str) -> Result<Self, NotAMacAddress> {
        let mut bytes = [0; 6];
        let mut pairs = text.split(':');
        for byte in &mut bytes {
            let pair = pairs.next().filter(|pair| pair.len() == 2).ok_or(NotAMacAddress)?;
            *byte = u8::from_str_radix(pair, 16).map_err(|_| NotAMacAddress)?;
        }
        if pairs.next().is_some() { Err(NotAMacAddress) } else { Ok(Self(bytes)) }
    }
}

impl TryFrom<String> for MacAddress {
    type Error = NotAMacAddress;
    fn try_from(text: String) -> Result<Self, NotAMacAddress> {
        text.parse()
    }
}

impl From<MacAddress> for String {
    fn from(mac: MacAddress) -> Self {
        mac.to_string()
    }
}

impl std::fmt::Display for MacAddress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl std::fmt::Debug for MacAddress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Display::fmt(self, f)
    }
}

/// A storage pool on a node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PoolSpec {
    pub pool: PoolId,
    /// For messages only.
    pub name: String,
    pub driver: PoolDriver,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PoolDriver {
    /// A directory of a file system that is there. No quotas, copies take as long as the data.
    Dir { source: Option<PathBuf> },
    /// btrfs on a loop file of this size that stapes makes, or on `source` (a block device or a
    /// mounted btrfs).
    Btrfs { source: Option<PathBuf>, size_bytes: u64 },
}

/// Where a root volume's content comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RootSource {
    Image(Fingerprint),
    /// A copy of another root volume of the same pool as it is now, or at a snapshot of it.
    Volume {
        volume: VolumeId,
        snapshot: Option<SnapshotId>,
        image: Option<Fingerprint>,
    },
    Empty,
}

/// A managed bridge network on a node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkSpec {
    pub network: NetworkId,
    /// The network's name; also the bridge's.
    pub bridge: String,
    pub ipv4: Option<Ipv4Plan>,
    pub ipv6: Option<Ipv6Plan>,
    /// The zone of the guests' names, e.g. `stapes`.
    pub dns_domain: String,
    /// Further DNS servers for what is not ours; empty: the host's own.
    pub dns_upstream: Vec<std::net::IpAddr>,
    /// Interfaces of the host that belong to the bridge, so that one Ethernet spans several nodes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub uplinks: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ipv4Plan {
    /// The bridge's own address: gateway, DHCP and DNS server.
    pub gateway: Ipv4Addr,
    pub prefix: u8,
    pub nat: bool,
    pub dhcp: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ipv6Plan {
    pub gateway: Ipv6Addr,
    pub prefix: u8,
    pub nat: bool,
}

/// What the address plan holds for one interface: what DHCP answers, DNS knows and anti-spoofing
/// lets pass.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reservation {
    pub instance: InstanceId,
    /// The name that DNS answers for, a label.
    pub hostname: String,
    pub nic: NicSpec,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mac_addresses_print_as_they_parse() {
        let mac: MacAddress = "10:66:6a:0F:00:01".parse().unwrap();
        assert_eq!(mac.to_string(), "10:66:6a:0f:00:01");
        for bad in
            ["", "10:66:6a:00:00", "10:66:6a:00:00:01:02", "1:66:6a:00:00:01", "zz:66:6a:00:00:01"]
        {
            assert_eq!(bad.parse::<MacAddress>(), Err(NotAMacAddress), "{bad}");
        }
    }
}
