//! Bridges, addresses, routes and counters, over netlink.
//!
//! A bridge is ours when its alias is the network's id. Between making a bridge and naming it so a
//! crash may come; its MAC address, which follows from the same id, then tells as well.

use std::{collections::BTreeSet, net::IpAddr};

use futures::TryStreamExt;
use ipnet::{IpNet, Ipv4Net};
use rtnetlink::{
    Handle, LinkBridge, LinkUnspec, RouteMessageBuilder,
    packet_core::ErrorMessage,
    packet_route::{
        address::{AddressAttribute, AddressMessage, AddressScope},
        link::{InfoKind, LinkAttribute, LinkInfo, LinkMessage, Stats64},
        route::{RouteAddress, RouteAttribute},
    },
};
use stapes_core::{
    address,
    ids::NetworkId,
    port::{DriverError, network::Counters},
    spec::{MacAddress, NetworkSpec},
};

/// A bridge that is there and ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Bridge {
    pub(super) index: u32,
    pub(super) mac: MacAddress,
}

/// A connection to the kernel's routing subsystem, in the network namespace it was made in.
#[derive(Clone, Debug)]
pub(super) struct Links {
    handle: Handle,
}

impl Links {
    pub(super) fn connect() -> Result<Self, DriverError> {
        let (connection, handle, _) = rtnetlink::new_connection()
            .map_err(|error| DriverError::Failed(format!("netlink: {error}")))?;
        tokio::spawn(connection);
        Ok(Self { handle })
    }

    /// Makes the network's bridge, or checks that the one there is ours.
    pub(super) async fn ensure_bridge(&self, spec: &NetworkSpec) -> Result<Bridge, DriverError> {
        let name = &spec.bridge;
        let mac = address::bridge_mac(spec.network);
        let link = match self.find(name).await? {
            Some(link) => link,
            None => {
                let message = LinkBridge::new(name).address(mac.0.to_vec()).forward_delay(0);
                let added = self.handle.link().add(message.build()).execute().await;
                added.map_err(|error| failed(&format!("the bridge {name}"), &error))?;
                self.find(name).await?.ok_or_else(|| {
                    DriverError::Failed(format!("the bridge {name} was made and is gone again"))
                })?
            }
        };
        if !is_bridge(&link) || !is_ours(&link, spec.network) {
            return Err(DriverError::Refused(format!(
                "the host has an interface {name} already that is not of this network; choose \
                 another name for the network, or delete it with: ip link delete {name}"
            )));
        }
        let index = link.header.index;
        let marked = LinkUnspec::new_with_index(index)
            .alias(spec.network.to_string())
            .address(mac.0.to_vec())
            .up()
            .build();
        let set = self.handle.link().set(marked).execute().await;
        set.map_err(|error| failed(&format!("the bridge {name}"), &error))?;
        Ok(Bridge { index, mac })
    }

    /// Removes the network's bridge, whatever its name; a daemon that has just started knows none.
    pub(super) async fn remove_bridges(&self, network: NetworkId) -> Result<(), DriverError> {
        let request = self.handle.link().get().execute();
        let all: Vec<LinkMessage> = request.try_collect().await.map_err(|e| failed("links", &e))?;
        for link in all.iter().filter(|link| is_bridge(link) && is_ours(link, network)) {
            match self.handle.link().del(link.header.index).execute().await {
                Ok(()) => {}
                Err(error) if is_error(&error, nix::Error::ENODEV) => {}
                Err(error) => return Err(failed("removing the bridge", &error)),
            }
        }
        Ok(())
    }

    /// Makes `wanted` the bridge's only addresses, apart from what the kernel gives it.
    pub(super) async fn set_addresses(
        &self,
        bridge: Bridge,
        wanted: &[IpNet],
    ) -> Result<(), DriverError> {
        let mut missing: BTreeSet<IpNet> = wanted.iter().copied().collect();
        let request = self.handle.address().get().set_link_index_filter(bridge.index);
        let present: Vec<AddressMessage> =
            request.execute().try_collect().await.map_err(|e| failed("addresses", &e))?;
        for message in present {
            let Some(net) = net_of(&message) else { continue };
            if message.header.scope == AddressScope::Link || missing.remove(&net) {
                continue;
            }
            match self.handle.address().del(message).execute().await {
                Ok(()) => {}
                Err(error) if is_error(&error, nix::Error::EADDRNOTAVAIL) => {}
                Err(error) => return Err(failed(&format!("removing {net}"), &error)),
            }
        }
        for net in missing {
            let add = self.handle.address().add(bridge.index, net.addr(), net.prefix_len());
            match add.execute().await {
                Ok(()) => {}
                Err(error) if is_error(&error, nix::Error::EEXIST) => {}
                Err(error) => return Err(failed(&format!("the address {net}"), &error)),
            }
        }
        Ok(())
    }

    /// Makes interfaces of the host ports of the bridge, and lets go of those that were.
    pub(super) async fn set_uplinks(
        &self,
        bridge: Bridge,
        wanted: &[String],
        before: &[String],
    ) -> Result<(), DriverError> {
        for name in wanted {
            let link = self.find(name).await?.ok_or_else(|| {
                DriverError::Refused(format!(
                    "the host has no interface {name}; see ip link, then set \
                     bridge.external_interfaces to what is there"
                ))
            })?;
            let foreign = master(&link).filter(|master| *master != bridge.index);
            if foreign.is_some() {
                return Err(DriverError::Refused(format!(
                    "the interface {name} belongs to another bridge; take it out with: ip link set {name} nomaster"
                )));
            }
            let port = LinkUnspec::new_with_index(link.header.index).controller(bridge.index).up();
            let set = self.handle.link().set(port.build()).execute().await;
            set.map_err(|error| failed(&format!("the uplink {name}"), &error))?;
        }
        for name in before.iter().filter(|name| !wanted.contains(name)) {
            let Some(link) = self.find(name).await? else { continue };
            if master(&link) == Some(bridge.index) {
                let free = LinkUnspec::new_with_index(link.header.index).nocontroller().build();
                let set = self.handle.link().set(free).execute().await;
                set.map_err(|error| failed(&format!("the uplink {name}"), &error))?;
            }
        }
        Ok(())
    }

    /// Counters of one interface, turned round: what the host sent is what the guest received.
    pub(super) async fn counters(&self, name: &str) -> Result<Counters, DriverError> {
        let missing = || DriverError::NotFound(format!("interface {name}"));
        if !address::is_interface_name(name) {
            return Err(missing());
        }
        let link = self.find(name).await?.ok_or_else(missing)?;
        let statistics = link.attributes.iter().find_map(|attribute| {
            if let LinkAttribute::Stats64(statistics) = attribute { Some(statistics) } else { None }
        });
        let Stats64 { rx_bytes, tx_bytes, rx_packets, tx_packets, .. } =
            statistics.copied().ok_or_else(missing)?;
        Ok(Counters {
            bytes_received: tx_bytes,
            bytes_sent: rx_bytes,
            packets_received: tx_packets,
            packets_sent: rx_packets,
        })
    }

    /// Where the host's IPv4 routes lead, without the default.
    pub(super) async fn ipv4_routes(&self) -> Result<Vec<Ipv4Net>, DriverError> {
        let all = RouteMessageBuilder::<std::net::Ipv4Addr>::new().build();
        let mut routes = std::pin::pin!(self.handle.route().get(all).execute());
        let mut found = Vec::new();
        while let Some(route) = routes.try_next().await.map_err(|e| failed("routes", &e))? {
            for attribute in &route.attributes {
                if let RouteAttribute::Destination(RouteAddress::Inet(base)) = attribute
                    && let Ok(net) = Ipv4Net::new(*base, route.header.destination_prefix_length)
                {
                    found.push(net);
                }
            }
        }
        Ok(found)
    }

    async fn find(&self, name: &str) -> Result<Option<LinkMessage>, DriverError> {
        let request = self.handle.link().get().match_name(name).execute();
        match std::pin::pin!(request).try_next().await {
            Ok(link) => Ok(link),
            Err(error) if is_error(&error, nix::Error::ENODEV) => Ok(None),
            Err(error) => Err(failed(&format!("looking for {name}"), &error)),
        }
    }
}

fn is_bridge(link: &LinkMessage) -> bool {
    let kind = LinkInfo::Kind(InfoKind::Bridge);
    link.attributes.iter().any(|attribute| {
        if let LinkAttribute::LinkInfo(info) = attribute { info.contains(&kind) } else { false }
    })
}

/// The bridge that an interface is a port of.
fn master(link: &LinkMessage) -> Option<u32> {
    link.attributes.iter().find_map(|attribute| {
        if let LinkAttribute::Controller(index) = attribute { Some(*index) } else { None }
    })
}

fn is_ours(link: &LinkMessage, network: NetworkId) -> bool {
    let mac = address::bridge_mac(network);
    link.attributes.iter().any(|attribute| {
        if let LinkAttribute::IfAlias(alias) = attribute {
            *alias == network.to_string()
        } else if let LinkAttribute::Address(bytes) = attribute {
            bytes[..] == mac.0
        } else {
            false
        }
    })
}

fn net_of(message: &AddressMessage) -> Option<IpNet> {
    let address = message.attributes.iter().find_map(|attribute| {
        if let AddressAttribute::Address(address) = attribute { Some(*address) } else { None }
    });
    let address: IpAddr = address?;
    IpNet::new(address, message.header.prefix_len).ok()
}

fn is_error(error: &rtnetlink::Error, wanted: nix::Error) -> bool {
    if let rtnetlink::Error::NetlinkError(ErrorMessage { code: Some(code), .. }) = error {
        code.get().abs() == wanted as i32
    } else {
        false
    }
}

fn failed(what: &str, error: &rtnetlink::Error) -> DriverError {
    let reason = if let rtnetlink::Error::NetlinkError(message) = error {
        message.to_io().to_string()
    } else {
        error.to_string()
    };
    DriverError::Failed(format!("{what}: {reason}"))
}
