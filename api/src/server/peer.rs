//! Who is at the other end of the connection.

use axum::{
    extract::{ConnectInfo, FromRequestParts, connect_info::Connected},
    http::request::Parts,
    serve::IncomingStream,
};
use tokio::net::UnixListener;

use super::fault::Fault;

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

/// The user who asks. Whoever may open the socket is trusted; its mode decides who may.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Caller {
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
        let name = match peer.uid {
            Some(uid) => user_name(uid).await,
            None => "unknown".to_owned(),
        };
        Ok(Self { name, uid: peer.uid, reason: reason.filter(|text| !text.is_empty()) })
    }
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
    #[test]
    fn names_are_found_by_number() {
        let list = "root:x:0:0:root:/root:/bin/sh\nalice:x:1000:1000::/home/alice:/bin/sh\n";
        assert_eq!(super::name_in(list, 1000).as_deref(), Some("alice"));
        assert_eq!(super::name_in(list, 1001), None);
    }
}
