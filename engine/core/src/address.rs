//! Choosing addresses: pure rules over a plan, so that replay gives the same addresses again.
//!
//! Nothing here looks at the host. What is taken arrives as an argument, a choice among equals is
//! made by a seed, and the same arguments always give the same answer.
//!
//! [`NetworkAddress4`] and [`NetworkAddress6`] read what users write in `ipv4.address` and
//! `ipv6.address`; [`pick_ipv4`] gives an instance its address; [`derive_mac`] and
//! [`host_interface_name`] follow from the instance alone.

use std::{
    net::{Ipv4Addr, Ipv6Addr},
    str::FromStr,
};

use ipnet::{Ipv4Net, Ipv6Net};

use crate::{
    ids::{InstanceId, NetworkId},
    spec::{Ipv4Plan, Ipv6Plan, MacAddress},
};

/// The first three bytes of every MAC address that is made here; the same as Incus's.
pub const MAC_PREFIX: [u8; 3] = [0x10, 0x66, 0x6a];
/// Further addresses that are tried when the first is taken.
const MAC_ATTEMPTS: u32 = 1000;
/// Bytes in the name of an interface on Linux, at most.
pub const INTERFACE_NAME_MAX: usize = 15;
/// The longest prefix with room for a gateway and a guest.
const IPV4_PREFIX_MAX: u8 = 30;
/// The shortest prefix a bridge may have: that of the largest private range.
const IPV4_PREFIX_MIN: u8 = 8;
/// Stateless autoconfiguration works with this prefix only.
const IPV6_PREFIX: u8 = 64;

/// Why an address cannot be had.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    #[error("no free address is left in {0}; delete instances or make the network larger")]
    Exhausted(Ipv4Net),
    #[error("{0} is in use by another instance; choose another address")]
    Taken(Ipv4Addr),
    #[error("{address} is not in the network {network}; choose an address inside")]
    Outside { address: Ipv4Addr, network: Ipv4Net },
    #[error("{0} is the network's own (its gateway, base or broadcast address); choose another")]
    Reserved(Ipv4Addr),
    #[error(
        "{text:?} is not an address for a network; write an address with its prefix, as in \
         {example}, or auto, or none"
    )]
    NotANetworkAddress { text: String, example: &'static str },
    #[error(
        "{0} is the network itself, not an address in it; write the gateway's address, as in {1}"
    )]
    NoHostPart(String, String),
    #[error("a prefix of /{prefix} does not work here; it must be {wanted}")]
    Prefix { prefix: u8, wanted: &'static str },
    #[error("every private IPv4 range overlaps a route of this host; set ipv4.address yourself")]
    NoFreeRange,
}

/// What `ipv4.address` of a network says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NetworkAddress4 {
    /// `none`: no IPv4.
    None,
    /// `auto`: a range is chosen once, by [`free_subnet`].
    Auto,
    /// The gateway and the prefix, as in `10.1.2.1/24`.
    Gateway(Ipv4Net),
}

/// What `ipv6.address` of a network says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NetworkAddress6 {
    None,
    /// A unique local range is chosen once, by [`local_ipv6`].
    Auto,
    Gateway(Ipv6Net),
}

impl FromStr for NetworkAddress4 {
    type Err = AddressError;
    fn from_str(text: &str) -> Result<Self, AddressError> {
        match text {
            "none" => return Ok(Self::None),
            "auto" => return Ok(Self::Auto),
            _ => {}
        }
        let net: Ipv4Net = text.parse().map_err(|_| AddressError::NotANetworkAddress {
            text: text.into(),
            example: "10.1.2.1/24",
        })?;
        let address = net.addr();
        if address.is_multicast() || address.is_loopback() || address.is_unspecified() {
            return Err(AddressError::NotANetworkAddress {
                text: text.into(),
                example: "10.1.2.1/24",
            });
        }
        if !(IPV4_PREFIX_MIN..=IPV4_PREFIX_MAX).contains(&net.prefix_len()) {
            return Err(AddressError::Prefix {
                prefix: net.prefix_len(),
                wanted: "between /8 and /30",
            });
        }
        if address == net.network() || address == net.broadcast() {
            let first = Ipv4Addr::from(u32::from(net.network()) + 1);
            return Err(AddressError::NoHostPart(
                text.into(),
                format!("{first}/{}", net.prefix_len()),
            ));
        }
        Ok(Self::Gateway(net))
    }
}

impl FromStr for NetworkAddress6 {
    type Err = AddressError;
    fn from_str(text: &str) -> Result<Self, AddressError> {
        match text {
            "none" => return Ok(Self::None),
            "auto" => return Ok(Self::Auto),
            _ => {}
        }
        let not_an_address =
            || AddressError::NotANetworkAddress { text: text.into(), example: "fd42:1:2:3::1/64" };
        let net: Ipv6Net = text.parse().map_err(|_| not_an_address())?;
        let address = net.addr();
        let link_local = (address.segments()[0] & 0xffc0) == 0xfe80;
        if address.is_multicast() || address.is_loopback() || link_local {
            return Err(not_an_address());
        }
        if net.prefix_len() != IPV6_PREFIX {
            return Err(AddressError::Prefix {
                prefix: net.prefix_len(),
                wanted: "/64, as guests choose the other half themselves",
            });
        }
        if address == net.network() {
            let first = Ipv6Addr::from(u128::from(net.network()) + 1);
            return Err(AddressError::NoHostPart(text.into(), format!("{first}/64")));
        }
        Ok(Self::Gateway(net))
    }
}

impl Ipv4Plan {
    /// The range, named by its base address.
    ///
    /// # Errors
    /// When the gateway and the prefix do not make a network with room for guests.
    pub fn subnet(&self) -> Result<Ipv4Net, AddressError> {
        match format!("{}/{}", self.gateway, self.prefix).parse()? {
            NetworkAddress4::Gateway(net) => Ok(net.trunc()),
            NetworkAddress4::None | NetworkAddress4::Auto => Err(AddressError::NoFreeRange),
        }
    }
}

impl Ipv6Plan {
    /// The range, named by its base address.
    ///
    /// # Errors
    /// When the gateway and the prefix do not make a network with room for guests.
    pub fn subnet(&self) -> Result<Ipv6Net, AddressError> {
        match format!("{}/{}", self.gateway, self.prefix).parse()? {
            NetworkAddress6::Gateway(net) => Ok(net.trunc()),
            NetworkAddress6::None | NetworkAddress6::Auto => Err(AddressError::NoFreeRange),
        }
    }

    /// The address that a guest with this MAC address gives itself.
    ///
    /// # Errors
    /// When the plan is not a network.
    pub fn address_of(&self, mac: MacAddress) -> Result<Ipv6Addr, AddressError> {
        let [a, b, c, d, e, f] = mac.0;
        let interface = u64::from_be_bytes([a ^ 2, b, c, 0xff, 0xfe, d, e, f]);
        Ok(Ipv6Addr::from(u128::from(self.subnet()?.network()) | u128::from(interface)))
    }
}

/// The address for one more interface: `wanted` if it may be had, else the first free one from a
/// place that `seed` chooses, so that neighbours in time are not neighbours in the range.
///
/// # Errors
/// When `wanted` is not to be had, or nothing is free.
pub fn pick_ipv4(
    plan: &Ipv4Plan,
    taken: impl Fn(Ipv4Addr) -> bool,
    wanted: Option<Ipv4Addr>,
    seed: u64,
) -> Result<Ipv4Addr, AddressError> {
    let subnet = plan.subnet()?;
    let own = |address: Ipv4Addr| {
        address == subnet.network() || address == subnet.broadcast() || address == plan.gateway
    };
    if let Some(address) = wanted {
        return if !subnet.contains(&address) {
            Err(AddressError::Outside { address, network: subnet })
        } else if own(address) {
            Err(AddressError::Reserved(address))
        } else if taken(address) {
            Err(AddressError::Taken(address))
        } else {
            Ok(address)
        };
    }
    let size = 1_u64 << (32 - subnet.prefix_len());
    let base = u64::from(u32::from(subnet.network()));
    let start = spread(seed) % size;
    (0..size)
        .filter_map(|step| u32::try_from(base + (start + step) % size).ok())
        .map(Ipv4Addr::from)
        .find(|address| !own(*address) && !taken(*address))
        .ok_or(AddressError::Exhausted(subnet))
}

/// A private range for a new network that overlaps none of `taken` (the host's routes and the
/// other networks), with NAT and DHCP. Default routes do not count.
///
/// # Errors
/// When all private ranges are taken.
pub fn free_subnet(taken: &[Ipv4Net], seed: u64) -> Result<Ipv4Plan, AddressError> {
    let ranges = [
        (Ipv4Addr::new(10, 0, 0, 0), 1_u64 << 16),
        (Ipv4Addr::new(172, 16, 0, 0), 1 << 12),
        (Ipv4Addr::new(192, 168, 0, 0), 1 << 8),
    ];
    let free = |candidate: &Ipv4Net| {
        !taken.iter().any(|route| {
            route.prefix_len() >= IPV4_PREFIX_MIN
                && (route.contains(candidate) || candidate.contains(route))
        })
    };
    for (first, count) in ranges {
        let start = spread(seed) % count;
        let found = (0..count)
            .filter_map(|step| u32::try_from((start + step) % count).ok())
            .filter_map(|index| Ipv4Net::new((u32::from(first) + (index << 8)).into(), 24).ok())
            .find(free);
        if let Some(subnet) = found {
            let gateway = Ipv4Addr::from(u32::from(subnet.network()) + 1);
            return Ok(Ipv4Plan { gateway, prefix: 24, nat: true, dhcp: true });
        }
    }
    Err(AddressError::NoFreeRange)
}

/// A unique local range for a new network, with NAT, as Incus makes them: `fd42:x:x:x::1/64`.
#[must_use]
pub fn local_ipv6(seed: u64) -> Ipv6Plan {
    let [_, _, a, b, c, d, e, f] = spread(seed).to_be_bytes();
    let gateway = [0xfd, 0x42, a, b, c, d, e, f, 0, 0, 0, 0, 0, 0, 0, 1];
    Ipv6Plan { gateway: gateway.into(), prefix: IPV6_PREFIX, nat: true }
}

/// The MAC address of an interface that has none configured and is the only one to get it. Three
/// bytes are soon drawn twice (among 5,000 interfaces, probably): see [`pick_mac`].
#[must_use]
pub fn derive_mac(instance: InstanceId, nic: &str) -> MacAddress {
    let [a, b, c, ..] = digest("mac", instance, nic);
    let [x, y, z] = MAC_PREFIX;
    MacAddress([x, y, z, a, b, c])
}

/// [`derive_mac`]'s address, or the next that follows from it and is not `taken` in the network.
/// `None` when all of many are.
#[must_use]
pub fn pick_mac(
    instance: InstanceId,
    nic: &str,
    taken: impl Fn(MacAddress) -> bool,
) -> Option<MacAddress> {
    let first = derive_mac(instance, nic);
    let others =
        (1..=MAC_ATTEMPTS).map(|attempt| derive_mac(instance, &format!("{nic}#{attempt}")));
    std::iter::once(first).chain(others).find(|mac| !taken(*mac))
}

/// The MAC address of a network's bridge: guests keep their gateway through every restart.
#[must_use]
pub fn bridge_mac(network: NetworkId) -> MacAddress {
    derive_mac(InstanceId(network.0), "bridge")
}

/// The name on the host of an instance's interface: the same on every node and after every restart.
#[must_use]
pub fn host_interface_name(instance: InstanceId, nic: &str) -> String {
    let [a, b, c, d, ..] = digest("interface", instance, nic);
    format!("veth{a:02x}{b:02x}{c:02x}{d:02x}")
}

/// Whether Linux takes `name` for an interface and no tool can read it as something else.
#[must_use]
pub fn is_interface_name(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    (1..=INTERFACE_NAME_MAX).contains(&name.len())
        && name.bytes().all(plain)
        && name.as_bytes().first().is_some_and(u8::is_ascii_alphanumeric)
}

/// Whether `name` is one label of a DNS name, as hosts have them.
#[must_use]
pub fn is_dns_label(name: &str) -> bool {
    (1..=63).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
        && !name.starts_with('-')
        && !name.ends_with('-')
}

/// Whether `name` is a DNS name made of such labels, without the final dot.
#[must_use]
pub fn is_dns_name(name: &str) -> bool {
    // A label, a dot and the root have to fit beside it in the 255 bytes of a name.
    name.len() <= 180 && name.split('.').all(is_dns_label)
}

fn digest(purpose: &str, instance: InstanceId, nic: &str) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(purpose.as_bytes());
    hasher.update(instance.0.as_bytes());
    hasher.update(nic.as_bytes());
    hasher.finalize().into()
}

/// Seeds are often small counters: this sends neighbours far apart, one to one (splitmix64).
const fn spread(seed: u64) -> u64 {
    let mut z = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests;
