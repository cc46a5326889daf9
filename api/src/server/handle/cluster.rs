//! The cluster itself: what it is, founding and joining one, and the way in for those who join.

use axum::{
    extract::{Request, State},
    response::Response,
};
use bytes::Bytes;
use stapes_core::world::World;

use super::{Answer, Api, Fault, answer, body};
use crate::{
    backend::{Clustering, Founding, Health, Joining, LogAccess, LogKind},
    server::{acts::Act, peer::Caller, show},
    wire::{
        Time,
        cluster::{Cluster, ClusterHealth, ClusterPut},
    },
};

/// Bytes of what a joiner sends.
const JOIN_MAX: usize = 64 << 10;

impl Api {
    /// What makes or changes a membership.
    pub(super) fn membership(&self) -> Result<&dyn Clustering, Fault> {
        self.cluster.as_deref().ok_or_else(|| {
            Fault::not_implemented("This server cannot be a member of a cluster")
                .hint("use the daemon: stapes daemon")
        })
    }

    pub(in crate::server) fn health(&self) -> Option<Health> {
        self.cluster.as_ref().and_then(|cluster| cluster.health())
    }
}

pub(in crate::server) async fn get(State(api): State<Api>) -> Response {
    let Some(health) = api.health() else { return answer::sync(Cluster::default()) };
    let here = api.here();
    let cluster = api.look(|world| Cluster {
        server_name: here.map(|here| show::location(world, here)).unwrap_or_default(),
        enabled: true,
        member_config: Vec::new(),
        health: Some(told(world, &health, api.backend.is_whole())),
    });
    answer::sync(cluster)
}

fn told(world: &World, health: &Health, whole: bool) -> ClusterHealth {
    let missing = missing(world, health);
    ClusterHealth {
        writable: health.lost.is_none(),
        log: health.log.as_str().to_owned(),
        replicas: health.replicas,
        servers_answering: health.servers_answering,
        servers: health.servers,
        stale_since: health.lost.as_ref().map(|lost| Time(lost.since)),
        head: health.head.max(world.sequence.0),
        sequence: world.sequence.0,
        notes: notes(health, &missing, whole),
        missing,
    }
}

/// The members that are not heard, by name: as the log says, and as this one hears itself. Without
/// the log nobody can write down who is lost.
pub(in crate::server) fn missing(world: &World, health: &Health) -> Vec<String> {
    let away =
        world.nodes.values().filter(|node| !node.is_online() || health.unheard.contains(&node.id));
    away.map(|node| node.name.clone()).collect()
}

/// What does not work, what still does, and what to type.
fn notes(health: &Health, missing: &[String], whole: bool) -> Vec<String> {
    let mut notes = Vec::new();
    if let Some(lost) = &health.lost {
        notes.push(format!("Nothing can be changed: {}", lost.why));
        let read = if whole {
            "lists and logs are read here, and may be old"
        } else {
            "lists are read here as this member knew them before it started; logs are not"
        };
        notes.push(format!("Guests go on running; {read}"));
        notes.push("Bring the missing members back: systemctl start stapes, there".to_owned());
    }
    for name in missing {
        notes.push(format!(
            "{name} is not heard; if it does not come back: stapes cluster remove {name} --force"
        ));
    }
    if health.lost.is_none() && missing.is_empty() && health.replicas == 1 {
        let kept = if health.log == LogKind::External {
            "The log is kept once, by a server that is not stapes' own: what it loses is lost"
        } else {
            "The log is kept once: with a third member it is kept three times: stapes cluster add NAME"
        };
        notes.push(kept.to_owned());
    }
    notes
}

/// Found, join, or leave.
pub(in crate::server) async fn put(State(api): State<Api>, caller: Caller, bytes: Bytes) -> Answer {
    let put: ClusterPut = body(&bytes)?;
    let cluster = api.membership()?;
    let is_member = cluster.health().is_some();
    if !put.enabled {
        let fault = Fault::bad_request(if is_member {
            "A member leaves its cluster by being removed from it"
        } else {
            "This server is not clustered"
        });
        return Err(fault.hint("at another member: stapes cluster remove NAME"));
    }
    if is_member {
        return Err(
            Fault::bad_request("This server is already clustered").hint("stapes cluster list")
        );
    }
    if put.cluster_token.is_empty() && !put.cluster_address.is_empty() {
        return Err(Fault::bad_request("A join token is needed to join a cluster")
            .hint("at a member: stapes cluster add NAME"));
    }
    let joins = !put.cluster_token.is_empty();
    if put.server_name.is_empty() && !joins {
        return Err(Fault::bad_request("ServerName is required when enabling clustering"));
    }
    let address = address(&api, &put)?;
    tracing::info!(by = caller.name, name = put.server_name, address, joins, "cluster");
    let (description, act) = if joins {
        let wanted = Joining { token: put.cluster_token, name: put.server_name, address };
        ("Joining cluster", Act::Join(wanted))
    } else {
        let log_access = LogAccess {
            authority: put.log_authority,
            certificate: put.log_certificate,
            key: put.log_key,
            credentials: put.log_credentials,
        };
        let (name, log_servers) = (put.server_name, put.log_servers);
        let wanted = Founding { name, address, log_servers, log_access };
        ("Creating bootstrap node", Act::Found(wanted))
    };
    Ok(answer::begun(act.begin(&api, description)))
}

/// Where the others find this server: as it was asked, or as the server is configured.
fn address(api: &Api, put: &ClusterPut) -> Result<String, Fault> {
    let configured = || {
        let of = |key: &str| api.look(|world| world.server.config.get(key).cloned());
        of("cluster.https_address").or_else(|| of("core.https_address"))
    };
    let given = Some(put.server_address.clone()).filter(|address| !address.is_empty());
    let missing = || {
        Fault::bad_request("No address that other members reach this server by")
            .hint("stapes cluster enable NAME --address HOST:PORT")
    };
    let address = given.or_else(configured).ok_or_else(missing)?;
    complete(&address)
}

/// `HOST:PORT`; the port may be left out. A wildcard is no address to be found by.
pub(super) fn complete(address: &str) -> Result<String, Fault> {
    const PORT: u16 = 8443;
    let wrong = |why: &str| {
        Fault::bad_request(format!("Invalid address {address:?}: {why}"))
            .hint("HOST:PORT as the other members reach it, e.g. 10.0.0.1:8443")
    };
    let with_port = match address.parse::<std::net::IpAddr>() {
        Ok(ip) => std::net::SocketAddr::new(ip, PORT).to_string(),
        Err(_) if address.rsplit_once(':').is_some() => address.to_owned(),
        Err(_) => format!("{address}:{PORT}"),
    };
    let (host, port) = with_port.rsplit_once(':').unwrap_or((address, ""));
    if host.is_empty() || port.parse::<u16>().map_or(true, |port| port == 0) {
        return Err(wrong("a host and a port are needed"));
    }
    let wildcard = with_port.parse::<std::net::SocketAddr>();
    if wildcard.is_ok_and(|socket| socket.ip().is_unspecified()) {
        return Err(wrong("it is no address of this server alone"));
    }
    Ok(with_port)
}

/// The one thing that somebody may ask who is no member: to become one, with a token.
pub(in crate::server) async fn admit(State(api): State<Api>, request: Request) -> Answer {
    let bytes = axum::body::to_bytes(request.into_body(), JOIN_MAX).await;
    let bytes = bytes.map_err(|error| Fault::bad_request(error.to_string()))?;
    let asked = body(&bytes)?;
    Ok(answer::sync(api.membership()?.admit(asked).await?))
}

/// Each member has a certificate of its own, and the cluster's authority has signed it.
pub(in crate::server) async fn certificate() -> Answer {
    Err(Fault::not_implemented("Members' certificates are made by the cluster's own authority")
        .hint("to replace a member's key remove the member and let it join again"))
}

#[cfg(test)]
mod tests {
    use super::complete;

    #[test]
    fn addresses_get_a_port_and_must_be_somewhere() {
        assert_eq!(complete("10.0.0.1").unwrap(), "10.0.0.1:8443");
        assert_eq!(complete("fd00::1").unwrap(), "[fd00::1]:8443");
        assert_eq!(complete("[fd00::1]:9").unwrap(), "[fd00::1]:9");
        assert_eq!(complete("n1.example").unwrap(), "n1.example:8443");
        for bad in ["0.0.0.0:1", "[::]:8443", ":8443", "n1:x", "n1:0"] {
            assert!(complete(bad).is_err(), "{bad}");
        }
    }
}
