//! The DNS server of one network, on its gateway's addresses, by UDP and TCP.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use socket2::{Domain, Protocol, Socket, Type};
use stapes_core::{ids::NetworkId, port::network::Plan};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream, UdpSocket},
    sync::Semaphore,
    time::timeout,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    dns::{self, Answer, Transport},
    upstream,
};

/// Queries of one network that wait for servers above, at most; more are refused at once.
const WAITING_MAX: usize = 256;
const CONNECTIONS_MAX: usize = 64;
/// A connection that is silent for so long is closed.
const IDLE: Duration = Duration::from_secs(10);
/// Connections waiting to be accepted.
const BACKLOG: i32 = 64;

/// Everything that the tasks of one network's server share.
#[derive(Debug)]
pub(super) struct DnsServer {
    network: NetworkId,
    plan: Arc<RwLock<Plan>>,
    waiting: Arc<Semaphore>,
    connections: Arc<Semaphore>,
}

/// The sockets on one address.
#[derive(Debug)]
pub(super) struct DnsSockets {
    udp: UdpSocket,
    tcp: TcpListener,
}

impl DnsSockets {
    /// Takes port 53 of `address`. Not bound to the bridge, so that the host itself can ask.
    pub(super) fn bind(address: IpAddr) -> io::Result<Self> {
        let at = SocketAddr::new(address, dns::PORT);
        let udp = Socket::new(Domain::for_address(at), Type::DGRAM, Some(Protocol::UDP))?;
        bind_early(&udp, address)?;
        udp.set_nonblocking(true)?;
        udp.bind(&at.into())?;
        let tcp = Socket::new(Domain::for_address(at), Type::STREAM, Some(Protocol::TCP))?;
        // Lets a new server start while connections of the old one are still closing.
        tcp.set_reuse_address(true)?;
        bind_early(&tcp, address)?;
        tcp.set_nonblocking(true)?;
        tcp.bind(&at.into())?;
        tcp.listen(BACKLOG)?;
        Ok(Self { udp: UdpSocket::from_std(udp.into())?, tcp: TcpListener::from_std(tcp.into())? })
    }
}

/// The kernel makes a new IPv6 address usable a moment after it has been given.
fn bind_early(socket: &Socket, address: IpAddr) -> io::Result<()> {
    match address {
        IpAddr::V4(_) => Ok(()),
        IpAddr::V6(_) => socket.set_freebind_v6(true),
    }
}

impl DnsServer {
    pub(super) fn new(network: NetworkId, plan: Arc<RwLock<Plan>>) -> Arc<Self> {
        Arc::new(Self {
            network,
            plan,
            waiting: Arc::new(Semaphore::new(WAITING_MAX)),
            connections: Arc::new(Semaphore::new(CONNECTIONS_MAX)),
        })
    }

    /// Serves from `sockets` until `stop`; all tasks are `tasks`'.
    pub(super) fn serve(
        self: &Arc<Self>,
        sockets: DnsSockets,
        stop: &CancellationToken,
        tasks: &TaskTracker,
    ) {
        let DnsSockets { udp, tcp } = sockets;
        let (server, inner, stopped) = (Arc::clone(self), tasks.clone(), stop.clone());
        let datagrams = server.datagrams(Arc::new(udp), inner, stopped);
        tasks.spawn(stop.clone().run_until_cancelled_owned(datagrams));
        let (server, inner, stopped) = (Arc::clone(self), tasks.clone(), stop.clone());
        let connections = server.accept(tcp, inner, stopped);
        tasks.spawn(stop.clone().run_until_cancelled_owned(connections));
    }

    async fn datagrams(
        self: Arc<Self>,
        socket: Arc<UdpSocket>,
        tasks: TaskTracker,
        stop: CancellationToken,
    ) {
        let mut buffer = [0; 4096];
        loop {
            let Ok((length, from)) = socket.recv_from(&mut buffer).await else {
                tokio::task::yield_now().await;
                continue;
            };
            if !self.serves(from.ip()) {
                continue;
            }
            let query = &buffer[..length];
            match self.answer(query, Transport::Udp) {
                Answer::Reply(reply) => drop(socket.send_to(&reply, from).await),
                Answer::Silence => {}
                Answer::Forward => {
                    let Ok(permit) = Arc::clone(&self.waiting).try_acquire_owned() else {
                        if let Answer::Reply(reply) = dns::failure(query) {
                            socket.send_to(&reply, from).await.ok();
                        }
                        continue;
                    };
                    let (server, socket) = (Arc::clone(&self), Arc::clone(&socket));
                    let query = query.to_vec();
                    let forward = async move {
                        if let Some(reply) = server.forward(&query, Transport::Udp).await {
                            socket.send_to(&reply, from).await.ok();
                        }
                        drop(permit);
                    };
                    tasks.spawn(stop.clone().run_until_cancelled_owned(forward));
                }
            }
        }
    }

    async fn accept(
        self: Arc<Self>,
        listener: TcpListener,
        tasks: TaskTracker,
        stop: CancellationToken,
    ) {
        loop {
            let Ok(permit) = Arc::clone(&self.connections).acquire_owned().await else { return };
            let Ok((stream, from)) = listener.accept().await else {
                tokio::task::yield_now().await;
                continue;
            };
            if !self.serves(from.ip()) {
                continue;
            }
            let server = Arc::clone(&self);
            let converse = async move {
                // Whatever goes wrong, the client sees the connection close.
                server.converse(stream).await.ok();
                drop(permit);
            };
            tasks.spawn(stop.clone().run_until_cancelled_owned(converse));
        }
    }

    async fn converse(&self, mut stream: TcpStream) -> io::Result<()> {
        loop {
            let length = timeout(IDLE, stream.read_u16()).await??;
            let mut query = vec![0; usize::from(length)];
            timeout(IDLE, stream.read_exact(&mut query)).await??;
            let reply = match self.answer(&query, Transport::Tcp) {
                Answer::Reply(reply) => reply,
                Answer::Silence => return Ok(()),
                Answer::Forward => match self.forward(&query, Transport::Tcp).await {
                    Some(reply) => reply,
                    None => return Ok(()),
                },
            };
            let length = u16::try_from(reply.len()).map_err(io::Error::other)?;
            let message = [&length.to_be_bytes()[..], &reply].concat();
            timeout(IDLE, stream.write_all(&message)).await??;
        }
    }

    fn answer(&self, query: &[u8], via: Transport) -> Answer {
        let plan = self.plan.read().unwrap_or_else(PoisonError::into_inner);
        dns::answer(&plan, self.network, query, via)
    }

    async fn forward(&self, query: &[u8], via: Transport) -> Option<Vec<u8>> {
        let servers = {
            let plan = self.plan.read().unwrap_or_else(PoisonError::into_inner);
            upstream::servers(&plan, self.network)
        };
        match upstream::ask(&servers, query, via).await {
            Some(reply) => Some(reply),
            None => match dns::failure(query) {
                Answer::Reply(reply) => Some(reply),
                Answer::Forward | Answer::Silence => None,
            },
        }
    }

    /// Only the network's own guests and the host: this is no open resolver.
    fn serves(&self, from: IpAddr) -> bool {
        let plan = self.plan.read().unwrap_or_else(PoisonError::into_inner);
        let Some(network) = plan.network(self.network) else { return false };
        match from {
            IpAddr::V4(from) => {
                let subnet = network.ipv4.and_then(|plan| plan.subnet().ok());
                subnet.is_some_and(|subnet| subnet.contains(&from))
            }
            IpAddr::V6(from) => {
                let subnet = network.ipv6.and_then(|plan| plan.subnet().ok());
                let link_local = from.segments()[0] & 0xffc0 == 0xfe80;
                link_local || subnet.is_some_and(|subnet| subnet.contains(&from))
            }
        }
    }
}
