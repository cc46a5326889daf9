//! Who is at the other end of the connection.

use axum::{
    extract::{ConnectInfo, FromRequestParts, connect_info::Connected},
    http::{HeaderMap, request::Parts},
    serve::IncomingStream,
};
use stapes_core::{ids::NodeId, record::Protocol};
use tokio::net::UnixListener;

use super::fault::Fault;
use crate::tls::PeerCertificate;

/// The process at the other end of a unix socket, as the kernel tells it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Peer {
    /// `None` when the kernel would not say.
    pub uid: Option<u32>,
    pub pid: Option<i32>,
}

impl Connected<IncomingStream<'_, UnixListener>> for Peer {
    fn connect_info(stream: IncomingStream<'_, UnixListener>) -> Self {
        match stream.io().peer_cred() {
            Ok(credentials) => Self { uid: Some(credentials.uid()), pid: credentials.pid() },
            Err(_) => Self::default(),
        }
    }
}

/// The user who asks. Whoever may open the socket is trusted; its mode decides who may. A request
/// that another member passed on is its user's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Caller {
    pub(super) protocol: Protocol,
    pub(super) name: String,
    pub(super) uid: Option<u32>,
    /// The user's own words on why.
    pub(super) reason: Option<String>,
}

impl<S: Send + Sync> FromRequestParts<S> for Caller {
    type Rejection = Fault;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Fault> {
        let peer =
            parts.extensions.get::<ConnectInfo<Peer>>().map_or_else(Peer::default, |it| it.0);
        let reason = parts.headers.get("x-stapes-reason").and_then(|value| value.to_str().ok());
        let reason = reason.map(|text| {
            percent_encoding::percent_decode_str(text).decode_utf8_lossy().into_owned()
        });
        let reason = reason.filter(|text| !text.is_empty());
        let certificate = parts.extensions.get::<PeerCertificate>();
        if let Some(node) = certificate.and_then(|certificate| certificate.node) {
            return Ok(Self { reason, ..passed_on(&parts.headers, node) });
        }
        let name = match peer.uid {
            Some(uid) => user_name(uid).await,
            None => "unknown".to_owned(),
        };
        Ok(Self { protocol: Protocol::Unix, name, uid: peer.uid, reason })
    }
}

/// The header in which a member says how new its answer is to what another passed on.
pub(super) const SEQUENCE: &str = "x-stapes-sequence";

/// The header in which a member says whose request it passes on: `unix/1000/alice`.
pub(super) const ACTOR: &str = "x-stapes-actor";

impl Caller {
    /// For [`ACTOR`].
    pub(super) fn told(&self) -> String {
        let uid = self.uid.map(|uid| uid.to_string()).unwrap_or_default();
        format!("{}/{uid}/{}", self.protocol.as_str(), crate::client::escape(&self.name))
    }
}

/// Whose request a member passes on; its own when it does not say.
fn passed_on(headers: &HeaderMap, node: NodeId) -> Caller {
    let told = headers.get(ACTOR).and_then(|value| value.to_str().ok()).and_then(|text| {
        let mut parts = text.splitn(3, '/');
        let protocol = match parts.next()? {
            "unix" => Protocol::Unix,
            "tls" => Protocol::Tls,
            _ => return None,
        };
        let uid = parts.next()?.parse().ok();
        let name = percent_encoding::percent_decode_str(parts.next()?).decode_utf8().ok()?;
        Some(Caller { protocol, name: name.into_owned(), uid, reason: None })
    });
    let itself =
        || Caller { protocol: Protocol::Node, name: node.to_string(), uid: None, reason: None };
    told.unwrap_or_else(itself)
}

/// The user's name in the host's own list, else the number.
async fn user_name(uid: u32) -> String {
    if uid == 0 {
        return "root".to_owned();
    }
    let list = tokio::fs::read_to_string("/etc/passwd").await.unwrap_or_default();
    name_in(&list, uid).unwrap_or_else(|| uid.to_string())
}

fn name_in(list: &str, uid: u32) -> Option<String> {
    list.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(uid)).then(|| name.to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whose_request_it_is_survives_the_way_to_another_member() {
        let node = NodeId::derive(&["n1"]);
        let alice = Caller {
            protocol: Protocol::Unix,
            name: "al/ice é".to_owned(),
            uid: Some(1000),
            reason: None,
        };
        let mut headers = HeaderMap::new();
        headers.insert(ACTOR, alice.told().parse().unwrap());
        assert_eq!(passed_on(&headers, node), alice);
        headers.insert(ACTOR, "system//root".parse().unwrap());
        assert_eq!(passed_on(&headers, node).protocol, Protocol::Node);
    }

    #[test]
    fn names_are_found_by_number() {
        let list = "root:x:0:0:root:/root:/bin/sh\nalice:x:1000:1000::/home/alice:/bin/sh\n";
        assert_eq!(name_in(list, 1000).as_deref(), Some("alice"));
        assert_eq!(name_in(list, 1001), None);
    }
}
