//! Asks the DNS servers above, for what is not ours.
//!
//! Queries and replies pass as they are, but for the id: what the client negotiates (DNSSEC,
//! sizes) is between it and the server above, and there is nothing here to poison.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use hickory_proto::op::{Message, Query};
use stapes_core::{ids::NetworkId, port::network::Plan};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpStream, UdpSocket},
    time::timeout,
};

use super::dns::{self, Transport};

const RESOLV_CONF: &str = "/etc/resolv.conf";
/// Servers that are asked, one after the other; resolv.conf knows no more either.
const SERVERS_MAX: usize = 3;
/// A client's own patience is 5 s: within it there is time for a second server.
const PATIENCE: Duration = Duration::from_secs(2);
/// Datagrams that are not the reply before we stop looking.
const STRAY_MAX: usize = 16;
const ID_LENGTH: usize = 2;

/// The servers above a network: its own, or the host's. Never one of ours, which would come back.
pub(super) fn servers(plan: &Plan, network: NetworkId) -> Vec<IpAddr> {
    let configured = plan.network(network).map(|network| network.dns_upstream.clone());
    let mut servers = configured.unwrap_or_default();
    if servers.is_empty() {
        servers =
            std::fs::read_to_string(RESOLV_CONF).map(|text| nameservers(&text)).unwrap_or_default();
    }
    let ours = |server: &IpAddr| {
        plan.networks().any(|network| match server {
            IpAddr::V4(server) => network.ipv4.is_some_and(|plan| plan.gateway == *server),
            IpAddr::V6(server) => network.ipv6.is_some_and(|plan| plan.gateway == *server),
        })
    };
    servers.retain(|server| !ours(server));
    servers.truncate(SERVERS_MAX);
    servers
}

fn nameservers(resolv_conf: &str) -> Vec<IpAddr> {
    let server = |line: &str| {
        let mut words = line.split_ascii_whitespace();
        (words.next() == Some("nameserver")).then(|| words.next()?.parse().ok()).flatten()
    };
    resolv_conf.lines().filter_map(server).collect()
}

/// The first good reply, under the query's own id.
pub(super) async fn ask(servers: &[IpAddr], query: &[u8], via: Transport) -> Option<Vec<u8>> {
    if query.len() <= ID_LENGTH {
        return None;
    }
    for server in servers {
        let server = SocketAddr::new(*server, dns::PORT);
        // A fresh id and a fresh port: who cannot see the query cannot answer it.
        let [high, low, ..] = *uuid::Uuid::new_v4().as_bytes();
        let mut question = query.to_vec();
        question[..ID_LENGTH].copy_from_slice(&[high, low]);
        let reply = match via {
            Transport::Udp => timeout(PATIENCE, by_udp(server, &question)).await,
            Transport::Tcp => timeout(PATIENCE, by_tcp(server, &question)).await,
        };
        match reply {
            Ok(Ok(mut reply)) => {
                reply[..ID_LENGTH].copy_from_slice(&query[..ID_LENGTH]);
                return Some(reply);
            }
            Ok(Err(error)) => tracing::debug!(%server, %error, "a DNS server above failed"),
            Err(_) => tracing::debug!(%server, "a DNS server above does not answer"),
        }
    }
    None
}

async fn by_udp(server: SocketAddr, question: &[u8]) -> io::Result<Vec<u8>> {
    let any: IpAddr =
        if server.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0)).await?;
    socket.connect(server).await?;
    socket.send(question).await?;
    let mut buffer = vec![0; usize::from(u16::MAX)];
    for _ in 0..STRAY_MAX {
        let length = socket.recv(&mut buffer).await?;
        if answers(&buffer[..length], question) {
            buffer.truncate(length);
            return Ok(buffer);
        }
    }
    Err(io::Error::other("only replies to other questions came"))
}

async fn by_tcp(server: SocketAddr, question: &[u8]) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(server).await?;
    let length = u16::try_from(question.len()).map_err(io::Error::other)?;
    stream.write_all(&[&length.to_be_bytes()[..], question].concat()).await?;
    let mut reply = vec![0; usize::from(stream.read_u16().await?)];
    stream.read_exact(&mut reply).await?;
    if answers(&reply, question) {
        Ok(reply)
    } else {
        Err(io::Error::other("the reply is to another question"))
    }
}

/// Whether `reply` is one to `question`. Only the head is read: the rest is for the client.
fn answers(reply: &[u8], question: &[u8]) -> bool {
    let is_reply = reply.len() > 12 && reply[2] & 0x80 != 0;
    is_reply
        && reply[..ID_LENGTH] == question[..ID_LENGTH]
        && asked(question).is_some_and(|asked_for| asked(reply) == Some(asked_for))
}

fn asked(message: &[u8]) -> Option<Vec<Query>> {
    let mut decoder = hickory_proto::serialize::binary::BinDecoder::new(message.get(12..)?);
    let count = u16::from_be_bytes([*message.get(4)?, *message.get(5)?]);
    Message::read_queries(&mut decoder, count.into()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resolv_conf_is_read_as_the_resolver_reads_it() {
        let text = "# nameserver 9.9.9.9\nnameserver 10.0.0.1\n nameserver\tfd42::1 # why\n\
                    nameserver nonsense\nsearch example.org\nnameserver 10.0.0.2";
        let expected: Vec<IpAddr> =
            ["10.0.0.1", "fd42::1", "10.0.0.2"].map(|text| text.parse().unwrap()).into();
        assert_eq!(nameservers(text), expected);
    }
}
