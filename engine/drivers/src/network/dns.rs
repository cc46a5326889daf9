//! What the DNS server answers from the plan: a pure function, bytes in, bytes out.
//!
//! Ours are `<hostname>.<domain>`, the bare hostname, and the addresses of the network backwards.
//! What is ours and unknown does not exist; everything else is for the servers above.

use std::net::IpAddr;

use hickory_proto::{
    op::{Edns, Message, MessageType, Metadata, OpCode, Query, ResponseCode},
    rr::{DNSClass, Name, RData, Record, RecordType, rdata},
};
use ipnet::IpNet;
use stapes_core::{
    ids::NetworkId,
    port::network::Plan,
    spec::{NetworkSpec, Reservation},
};

pub(super) const PORT: u16 = 53;
/// Short, as a guest may be given another address.
const TTL_SECONDS: u32 = 10;
/// What fits into a datagram when the client does not say.
const DATAGRAM_MIN: usize = 512;
/// What we would take ourselves, and send at most.
const DATAGRAM_MAX: u16 = 1232;

/// How a query travelled: a datagram has limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Transport {
    Udp,
    Tcp,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    Reply(Vec<u8>),
    /// Not ours: ask the servers above.
    Forward,
    /// Not a query at all.
    Silence,
}

/// Answers one query.
pub(super) fn answer(plan: &Plan, network: NetworkId, query: &[u8], via: Transport) -> Answer {
    let Some(network) = plan.network(network) else { return Answer::Silence };
    let Ok(request) = Message::from_vec(query) else { return not_understood(query) };
    if request.metadata.message_type != MessageType::Query {
        return Answer::Silence;
    }
    let mut reply = Message::response(request.metadata.id, request.metadata.op_code);
    reply.metadata = Metadata::response_from_request(&request.metadata);
    reply.metadata.recursion_available = true;
    reply.add_queries(request.queries.iter().cloned());
    if request.edns.is_some() {
        let mut edns = Edns::new();
        edns.set_max_payload(DATAGRAM_MAX);
        reply.set_edns(edns);
    }
    if request.metadata.op_code != OpCode::Query {
        reply.metadata.response_code = ResponseCode::NotImp;
    } else if let [question] = request.queries.as_slice() {
        match (Zone { plan, network }).look_up(question) {
            Some(found) => found.fill(&mut reply, network, &question.name),
            None => return Answer::Forward,
        }
    } else {
        reply.metadata.response_code = ResponseCode::FormErr;
    }
    let limit = match via {
        Transport::Udp => {
            let offered = request.edns.as_ref().map_or(DATAGRAM_MIN, |e| e.max_payload().into());
            offered.clamp(DATAGRAM_MIN, DATAGRAM_MAX.into())
        }
        Transport::Tcp => usize::from(u16::MAX),
    };
    encode(&reply, limit)
}

/// The reply to a query that nobody above could answer.
pub(super) fn failure(query: &[u8]) -> Answer {
    refusal(query, ResponseCode::ServFail)
}

fn not_understood(query: &[u8]) -> Answer {
    refusal(query, ResponseCode::FormErr)
}

fn refusal(query: &[u8], code: ResponseCode) -> Answer {
    let request = Message::from_vec(query);
    let id = match query {
        [high, low, flags, ..] if flags & 0x80 == 0 => u16::from_be_bytes([*high, *low]),
        _ => return Answer::Silence,
    };
    let mut reply = Message::error_msg(id, OpCode::Query, code);
    if let Ok(request) = request {
        reply.metadata = Metadata::response_from_request(&request.metadata);
        reply.metadata.response_code = code;
        reply.add_queries(request.queries);
    }
    encode(&reply, DATAGRAM_MIN)
}

fn encode(reply: &Message, limit: usize) -> Answer {
    match reply.to_vec() {
        Ok(bytes) if bytes.len() <= limit => Answer::Reply(bytes),
        // The client comes back by TCP.
        Ok(_) => reply.truncate().to_vec().map_or(Answer::Silence, Answer::Reply),
        Err(_) => Answer::Silence,
    }
}

/// What was found about a name of ours.
enum Found {
    Records(Vec<RData>),
    /// The name is there, but not with what was asked for.
    NoData,
    NoName,
}

impl Found {
    fn fill(self, reply: &mut Message, network: &NetworkSpec, name: &Name) {
        reply.metadata.authoritative = true;
        match self {
            Self::Records(data) => {
                for data in data {
                    reply.add_answer(Record::from_rdata(name.clone(), TTL_SECONDS, data));
                }
            }
            Self::NoData => add_authority(reply, network),
            Self::NoName => {
                reply.metadata.response_code = ResponseCode::NXDomain;
                add_authority(reply, network);
            }
        }
    }
}

/// Says how long the "no" holds.
fn add_authority(reply: &mut Message, network: &NetworkSpec) {
    if let Some(zone) = domain(network) {
        let data = RData::SOA(authority(&zone));
        reply.add_authority(Record::from_rdata(zone, TTL_SECONDS, data));
    }
}

fn authority(zone: &Name) -> rdata::SOA {
    let minimum = TTL_SECONDS;
    rdata::SOA::new(zone.clone(), zone.clone(), 1, 3600, 600, 86400, minimum)
}

fn domain(network: &NetworkSpec) -> Option<Name> {
    Name::from_ascii(format!("{}.", network.dns_domain)).ok()
}

struct Zone<'a> {
    plan: &'a Plan,
    network: &'a NetworkSpec,
}

impl Zone<'_> {
    /// `None`: not ours to answer.
    fn look_up(&self, question: &Query) -> Option<Found> {
        if question.query_class != DNSClass::IN {
            return None;
        }
        let kind = question.query_type;
        let name = &question.name;
        let zone = domain(self.network)?;
        if let Ok(net) = name.parse_arpa_name() {
            return self.reverse(net, kind, &zone);
        }
        if zone.zone_of(name) {
            let labels = name.num_labels() - zone.num_labels();
            return Some(match (labels, name.iter().next()) {
                (0, _) => apex(kind, &zone),
                (1, Some(label)) => self.guest(label, kind).unwrap_or(Found::NoName),
                _ => Found::NoName,
            });
        }
        if name.num_labels() == 1 && !name.is_root() {
            // A bare name is a guest's or nobody's; but top level domains have other records.
            let address = matches!(kind, RecordType::A | RecordType::AAAA);
            let found = name.iter().next().and_then(|label| self.guest(label, kind));
            return found.or_else(|| address.then_some(Found::NoName));
        }
        None
    }

    /// `None`: there is no such guest.
    fn guest(&self, label: &[u8], kind: RecordType) -> Option<Found> {
        let label = std::str::from_utf8(label).ok()?;
        let mut nics = self.plan.by_hostname(self.network.network, label).peekable();
        nics.peek()?;
        let any = kind == RecordType::ANY;
        let mut data = Vec::new();
        for Reservation { nic, .. } in nics {
            if let Some(address) = nic.ipv4.filter(|_| any || kind == RecordType::A) {
                data.push(RData::A(address.into()));
            }
            if let Some(address) = nic.ipv6.filter(|_| any || kind == RecordType::AAAA) {
                data.push(RData::AAAA(address.into()));
            }
        }
        Some(if data.is_empty() { Found::NoData } else { Found::Records(data) })
    }

    fn reverse(&self, asked: IpNet, kind: RecordType, zone: &Name) -> Option<Found> {
        let network = self.network.network;
        let known = match asked {
            IpNet::V4(net) => {
                let subnet = self.network.ipv4?.subnet().ok()?;
                if !subnet.contains(&net) {
                    return None;
                }
                (net.prefix_len() == 32).then(|| self.plan.by_ipv4(network, net.addr()))
            }
            IpNet::V6(net) => {
                let subnet = self.network.ipv6?.subnet().ok()?;
                if !subnet.contains(&net) {
                    return None;
                }
                (net.prefix_len() == 128).then(|| self.plan.by_ipv6(network, net.addr()))
            }
        };
        let Some(known) = known else { return Some(Found::NoData) };
        let name = match known {
            Some(reservation) => reservation.hostname.as_str(),
            None if self.is_gateway(asked.addr()) => "_gateway",
            None => return Some(Found::NoName),
        };
        if !matches!(kind, RecordType::PTR | RecordType::ANY) {
            return Some(Found::NoData);
        }
        let name = Name::from_ascii(name).and_then(|name| name.append_domain(zone)).ok()?;
        Some(Found::Records(vec![RData::PTR(rdata::PTR(name))]))
    }

    fn is_gateway(&self, address: IpAddr) -> bool {
        let four = self.network.ipv4.is_some_and(|plan| IpAddr::V4(plan.gateway) == address);
        four || self.network.ipv6.is_some_and(|plan| IpAddr::V6(plan.gateway) == address)
    }
}

fn apex(kind: RecordType, zone: &Name) -> Found {
    if kind == RecordType::SOA {
        Found::Records(vec![RData::SOA(authority(zone))])
    } else if kind == RecordType::NS {
        Found::Records(vec![RData::NS(rdata::NS(zone.clone()))])
    } else {
        Found::NoData
    }
}

#[cfg(test)]
mod tests;
