//! Router advertisements: how guests get IPv6.
//!
//! Guests make their addresses themselves from the advertised prefix and find the DNS server in
//! the same message (RFC 4861, RFC 8106), so there is no DHCPv6. The message is built by hand: it
//! is a hundred bytes that never change.

use std::{
    io,
    net::{Ipv6Addr, SocketAddr, SocketAddrV6},
    time::Duration,
};

use socket2::{Domain, Protocol, Socket, Type};
use stapes_core::spec::{Ipv6Plan, MacAddress};
use tokio::{net::UdpSocket, time::Instant};

use super::link::Bridge;

const SOLICITATION: u8 = 133;
const ADVERTISEMENT: u8 = 134;
/// Receivers drop what has been routed: RFC 4861 wants the largest number of hops.
const HOPS: u32 = 255;
const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
const ALL_ROUTERS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 2);
const PERIOD: Duration = Duration::from_secs(200);
/// Nobody needs to hear from us more often, however often they ask.
const PAUSE: Duration = Duration::from_millis(50);
const ROUTER_LIFETIME_SECONDS: u16 = 1800;
const PREFIX_VALID_SECONDS: u32 = 86_400;
const PREFIX_PREFERRED_SECONDS: u32 = 14_400;
const DNS_LIFETIME_SECONDS: u32 = 1800;
/// Options count their length in these.
const UNIT: usize = 8;

#[derive(Debug)]
pub(super) struct Router {
    socket: UdpSocket,
    everybody: SocketAddr,
    advertisement: Vec<u8>,
}

impl Router {
    pub(super) fn bind(
        bridge_name: &str,
        bridge: Bridge,
        plan: &Ipv6Plan,
        domain: &str,
    ) -> io::Result<Self> {
        let socket = Socket::new(Domain::IPV6, Type::RAW, Some(Protocol::ICMPV6))?;
        socket.bind_device(Some(bridge_name.as_bytes()))?;
        socket.join_multicast_v6(&ALL_ROUTERS, bridge.index)?;
        socket.set_multicast_if_v6(bridge.index)?;
        socket.set_multicast_hops_v6(HOPS)?;
        socket.set_unicast_hops_v6(HOPS)?;
        socket.set_nonblocking(true)?;
        Ok(Self {
            // A raw socket sends and receives as a datagram socket does.
            socket: UdpSocket::from_std(socket.into())?,
            everybody: SocketAddrV6::new(ALL_NODES, 0, 0, bridge.index).into(),
            advertisement: advertisement(plan, bridge.mac, domain),
        })
    }

    /// Advertises until it is dropped: now, now and then, and when asked.
    pub(super) async fn run(self) {
        let mut buffer = [0; 256];
        loop {
            if let Err(error) = self.socket.send_to(&self.advertisement, self.everybody).await {
                // A bridge without guests has no carrier, hence no address to send from.
                tracing::debug!(%error, "no router advertisement");
            }
            let next = Instant::now() + PERIOD;
            tokio::time::sleep(PAUSE).await;
            let asked = async {
                while !matches!(self.socket.recv(&mut buffer).await, Ok(1..) if buffer[0] == SOLICITATION)
                {
                    tokio::task::yield_now().await;
                }
            };
            tokio::time::timeout_at(next, asked).await.ok();
        }
    }
}

/// The message; the kernel fills in its checksum.
fn advertisement(plan: &Ipv6Plan, mac: MacAddress, domain: &str) -> Vec<u8> {
    let mut message = vec![ADVERTISEMENT, 0, 0, 0, 64, 0];
    message.extend(ROUTER_LIFETIME_SECONDS.to_be_bytes());
    message.extend([0; 8]); // reachable time and retransmission timer: unspecified

    option(&mut message, 1, &mac.0); // source link-layer address

    let mut prefix = vec![plan.prefix, 0xc0]; // on link, for autoconfiguration
    prefix.extend(PREFIX_VALID_SECONDS.to_be_bytes());
    prefix.extend(PREFIX_PREFERRED_SECONDS.to_be_bytes());
    prefix.extend([0; 4]);
    let base = plan.subnet().map_or(plan.gateway, |subnet| subnet.network());
    prefix.extend(base.octets());
    option(&mut message, 3, &prefix);

    let mut servers = vec![0; 2];
    servers.extend(DNS_LIFETIME_SECONDS.to_be_bytes());
    servers.extend(plan.gateway.octets());
    option(&mut message, 25, &servers);

    let mut search = vec![0; 2];
    search.extend(DNS_LIFETIME_SECONDS.to_be_bytes());
    for label in domain.split('.') {
        search.push(u8::try_from(label.len()).unwrap_or(0));
        search.extend(label.as_bytes());
    }
    search.push(0);
    option(&mut message, 31, &search);
    message
}

fn option(message: &mut Vec<u8>, kind: u8, body: &[u8]) {
    let units = (2 + body.len()).div_ceil(UNIT);
    message.extend([kind, u8::try_from(units).unwrap_or(u8::MAX)]);
    message.extend(body);
    message.resize(message.len() + units * UNIT - 2 - body.len(), 0);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_advertisement_says_prefix_router_and_dns() {
        let plan = Ipv6Plan { gateway: "fd42:1:2:3::1".parse().unwrap(), prefix: 64, nat: true };
        let bytes = advertisement(&plan, MacAddress([0x10, 0x66, 0x6a, 1, 2, 3]), "lab.test");
        let expected = "860000004000070800000000000000000101\
             10666a010203\
             030440c00001518000003840\
             00000000fd420001000200030000000000000000\
             19030000\
             00000708fd420001000200030000000000000001\
             1f030000\
             00000708036c61620474657374000000000000\
             00";
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, expected);
    }
}
