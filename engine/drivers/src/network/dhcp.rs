//! What the DHCP server answers: a pure function of the plan and the request.
//!
//! An address is reserved before its guest exists, so there are no leases to keep: the same MAC
//! address gets the same answer from any daemon at any time, and unknown ones get none. A lease
//! ends only so that guests come and look for changes.

use std::net::Ipv4Addr;

use dhcproto::{
    Decodable, Encodable,
    v4::{DhcpOption, HType, Message, MessageType, Opcode, OptionCode},
};
use stapes_core::{
    ids::NetworkId,
    port::network::Plan,
    spec::{Ipv4Plan, MacAddress, NetworkSpec, Reservation},
};

pub(super) const SERVER_PORT: u16 = 67;
pub(super) const CLIENT_PORT: u16 = 68;
const LEASE_SECONDS: u32 = 3600;
/// Old clients drop anything shorter: the fixed part of BOOTP.
const LENGTH_MIN: usize = 300;
const BROADCAST_MAC: MacAddress = MacAddress([0xff; 6]);

/// An answer and whom it goes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Reply {
    pub(super) mac: MacAddress,
    pub(super) address: Ipv4Addr,
    pub(super) payload: Vec<u8>,
}

/// Answers one datagram; silence where there is nothing to say.
pub(super) fn answer(plan: &Plan, network: NetworkId, datagram: &[u8]) -> Option<Reply> {
    let request = Message::decode(&mut dhcproto::Decoder::new(datagram)).ok()?;
    // A relay's requests come from elsewhere, and nobody routes for guests but us.
    let relayed = !request.giaddr().is_unspecified() || request.hops() != 0;
    let ethernet = request.htype() == HType::Eth && request.hlen() == 6;
    if request.opcode() != Opcode::BootRequest || relayed || !ethernet {
        return None;
    }
    let mac = MacAddress(request.chaddr().try_into().ok()?);
    let network = plan.network(network)?;
    let ipv4 = network.ipv4.filter(|ipv4| ipv4.dhcp)?;
    let reservation = plan.by_mac(network.network, mac)?;
    let address = reservation.nic.ipv4?;
    let lease = Lease { network, ipv4, reservation, address };
    let kind = request.opts().msg_type()?;
    if kind == MessageType::Discover {
        lease.reply(&request, MessageType::Offer)
    } else if kind == MessageType::Request {
        lease.requested(&request)
    } else if kind == MessageType::Inform {
        lease.reply(&request, MessageType::Ack)
    } else {
        if kind == MessageType::Decline {
            let bridge = &network.bridge;
            tracing::warn!(%mac, %address, bridge, "a guest found its address in use");
        }
        None
    }
}

/// What a guest gets.
struct Lease<'a> {
    network: &'a NetworkSpec,
    ipv4: Ipv4Plan,
    reservation: &'a Reservation,
    address: Ipv4Addr,
}

impl Lease<'_> {
    fn requested(&self, request: &Message) -> Option<Reply> {
        if let Some(DhcpOption::ServerIdentifier(server)) =
            request.opts().get(OptionCode::ServerIdentifier)
            && *server != self.ipv4.gateway
        {
            return None; // it chose another server
        }
        let wanted = match request.opts().get(OptionCode::RequestedIpAddress) {
            Some(DhcpOption::RequestedIpAddress(address)) => *address,
            _ => request.ciaddr(),
        };
        if wanted == self.address {
            self.reply(request, MessageType::Ack)
        } else {
            // The plan changed, or the guest brought an address along from elsewhere.
            self.reply(request, MessageType::Nak)
        }
    }

    fn reply(&self, request: &Message, kind: MessageType) -> Option<Reply> {
        let nak = kind == MessageType::Nak;
        let configured = !request.ciaddr().is_unspecified();
        let mut reply = Message::new_with_id(
            request.xid(),
            Ipv4Addr::UNSPECIFIED,
            Ipv4Addr::UNSPECIFIED,
            Ipv4Addr::UNSPECIFIED,
            Ipv4Addr::UNSPECIFIED,
            request.chaddr(),
        );
        reply.set_opcode(Opcode::BootReply).set_flags(request.flags());
        let informs = request.opts().msg_type() == Some(MessageType::Inform);
        if !nak {
            reply.set_ciaddr(request.ciaddr());
            if !informs {
                reply.set_yiaddr(self.address);
            }
        }
        let options = reply.opts_mut();
        options.insert(DhcpOption::MessageType(kind));
        options.insert(DhcpOption::ServerIdentifier(self.ipv4.gateway));
        if let Some(identifier) = request.opts().get(OptionCode::ClientIdentifier) {
            options.insert(identifier.clone());
        }
        if !nak {
            self.configuration()?.into_iter().for_each(|option| drop(options.insert(option)));
        }
        if !nak && !informs {
            options.insert(DhcpOption::AddressLeaseTime(LEASE_SECONDS));
            options.insert(DhcpOption::Renewal(LEASE_SECONDS / 2));
            options.insert(DhcpOption::Rebinding(LEASE_SECONDS / 8 * 7));
        }
        let mut payload = reply.to_vec().ok()?;
        payload.resize(payload.len().max(LENGTH_MIN), 0);

        let (mac, address) = if nak || (!configured && request.flags().broadcast()) {
            (BROADCAST_MAC, Ipv4Addr::BROADCAST)
        } else if configured {
            (self.reservation.nic.mac, request.ciaddr())
        } else {
            (self.reservation.nic.mac, self.address)
        };
        Some(Reply { mac, address, payload })
    }

    fn configuration(&self) -> Option<[DhcpOption; 6]> {
        let subnet = self.ipv4.subnet().ok()?;
        let gateway = self.ipv4.gateway;
        Some([
            DhcpOption::SubnetMask(subnet.netmask()),
            DhcpOption::BroadcastAddr(subnet.broadcast()),
            DhcpOption::Router(vec![gateway]),
            DhcpOption::DomainNameServer(vec![gateway]),
            DhcpOption::DomainName(self.network.dns_domain.clone()),
            DhcpOption::Hostname(self.reservation.hostname.clone()),
        ])
    }
}

#[cfg(test)]
mod tests;
