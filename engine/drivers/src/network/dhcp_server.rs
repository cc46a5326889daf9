//! The DHCP server of one bridge: receives by UDP, sends whole frames.

use std::{
    io,
    net::{Ipv4Addr, SocketAddrV4},
    sync::{Arc, PoisonError, RwLock},
};

use socket2::{Domain, Protocol, SockAddr, SockAddrStorage, Socket, Type};
use stapes_core::{ids::NetworkId, port::network::Plan};
use tokio::net::UdpSocket;

use super::{
    dhcp::{self, CLIENT_PORT, SERVER_PORT},
    frame::{self, Endpoint},
    link::Bridge,
};

/// The longest request that is read: more than any client sends.
const REQUEST_MAX: usize = 1500;

#[derive(Debug)]
pub(super) struct DhcpServer {
    receiver: UdpSocket,
    sender: UdpSocket,
    network: NetworkId,
    from: Endpoint,
    plan: Arc<RwLock<Plan>>,
}

impl DhcpServer {
    /// Takes the bridge's port 67.
    pub(super) fn bind(
        network: NetworkId,
        bridge_name: &str,
        bridge: Bridge,
        gateway: Ipv4Addr,
        plan: Arc<RwLock<Plan>>,
    ) -> io::Result<Self> {
        let receiver = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP))?;
        // Bound to the bridge, it neither hears other networks nor disturbs their servers.
        receiver.bind_device(Some(bridge_name.as_bytes()))?;
        // Others serve other bridges of the host, and some (dnsmasq) take the port before they say
        // which bridge.
        receiver.set_reuse_port(true)?;
        receiver.set_broadcast(true)?;
        receiver.set_nonblocking(true)?;
        receiver.bind(&SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, SERVER_PORT).into())?;

        // Protocol 0: this one never receives.
        let sender = Socket::new(Domain::PACKET, Type::RAW, None)?;
        sender.set_nonblocking(true)?;
        sender.bind(&packet_address(bridge.index, 0)?)?;

        Ok(Self {
            receiver: UdpSocket::from_std(receiver.into())?,
            // Bound to the bridge, a packet socket sends frames as a datagram socket does datagrams.
            sender: UdpSocket::from_std(sender.into())?,
            network,
            from: Endpoint { mac: bridge.mac, address: gateway, port: SERVER_PORT },
            plan,
        })
    }

    /// Serves until it is dropped.
    pub(super) async fn run(self) {
        let mut buffer = [0; REQUEST_MAX];
        loop {
            let length = match self.receiver.recv(&mut buffer).await {
                Ok(length) => length,
                Err(error) if is_gone(&error) => return,
                Err(error) => {
                    tracing::warn!(%error, "a DHCP request could not be read");
                    tokio::task::yield_now().await;
                    continue;
                }
            };
            let reply = {
                let plan = self.plan.read().unwrap_or_else(PoisonError::into_inner);
                dhcp::answer(&plan, self.network, &buffer[..length])
            };
            if let Some(reply) = reply
                && let Err(error) = self.send(&reply).await
            {
                // The client asks again.
                tracing::warn!(%error, to = %reply.mac, "a DHCP reply could not be sent");
            }
        }
    }

    async fn send(&self, reply: &dhcp::Reply) -> io::Result<()> {
        let to = Endpoint { mac: reply.mac, address: reply.address, port: CLIENT_PORT };
        let Some(frame) = frame::udp(self.from, to, &reply.payload) else {
            return Err(io::Error::other("too long for a frame"));
        };
        self.sender.send(&frame).await.map(drop)
    }
}

/// The bridge was deleted by somebody; the next `ensure_network` makes it and us again.
fn is_gone(error: &io::Error) -> bool {
    error.raw_os_error() == Some(nix::Error::ENODEV as i32)
}

/// An interface, and the protocol in the network's byte order; zero is every interface.
pub(crate) fn packet_address(index: u32, protocol: u16) -> io::Result<SockAddr> {
    let mut storage = SockAddrStorage::zeroed();
    let size = size_of::<nix::libc::sockaddr_ll>();
    // SAFETY: sockaddr_ll is a socket address, plain old data, and fits into the storage, which is
    // zeroed and aligned for every socket address.
    let address = unsafe { storage.view_as::<nix::libc::sockaddr_ll>() };
    address.sll_family = u16::try_from(nix::libc::AF_PACKET).map_err(io::Error::other)?;
    address.sll_protocol = protocol;
    address.sll_ifindex = i32::try_from(index).map_err(io::Error::other)?;
    let length = u32::try_from(size).map_err(io::Error::other)?;
    // SAFETY: the storage holds a complete sockaddr_ll of this length.
    Ok(unsafe { SockAddr::new(storage, length) })
}
