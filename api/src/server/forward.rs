//! Requests that only another member can answer: what touches a guest, or a member itself. They are
//! passed on to it as they are, with whose they are; websockets too.
//!
//! ```text
//! client ─► this member ─(certificate, x-stapes-actor)─► the member that has it
//!        ◄──────────── answer, or bytes both ways ◄──────┘
//! ```
//!
//! The answer comes back once this member knows as much as that one did: what the client was told of,
//! it finds here. Lists never come this way, and what a member passed on is never passed on again.

use std::time::Duration;

use axum::{
    body::Body,
    extract::{FromRequestParts, Request, State},
    http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, header},
    middleware::Next,
    response::{IntoResponse, Response},
};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use percent_encoding::percent_decode_str;
use stapes_core::{
    ids::{NodeId, OperationId, Sequence},
    instance::Target,
    node::{Node, Reach},
    operation::{Class, ResourceKind},
    port::peer::PeerAddress,
    world::World,
};

use super::{
    Api,
    fault::Fault,
    params::Params,
    peer::{ACTOR, Caller, SEQUENCE},
    show,
};
use crate::tls::PeerCertificate;

/// How long another member may take to pick up.
const CONNECT_WITHIN: Duration = Duration::from_secs(5);
/// Headers of one connection, not of the request.
const HOPS: [header::HeaderName; 3] = [header::CONNECTION, header::TRANSFER_ENCODING, header::HOST];

/// Passes a request on when this member is not the one to answer it.
pub(super) async fn elsewhere(State(api): State<Api>, request: Request, next: Next) -> Response {
    // On the network there are only members.
    let passed_on = request.extensions().get::<PeerCertificate>().is_some();
    if passed_on {
        let mut response = next.run(request).await;
        let sequence = api.look(|world| world.sequence.0);
        response.headers_mut().insert(SEQUENCE, sequence.into());
        return response;
    }
    if api.cluster.is_none() {
        return next.run(request).await;
    }
    let wanted = api.look(|world| destination(&api, world, request.method(), request.uri()));
    match wanted {
        Ok(None) => next.run(request).await,
        Ok(Some(member)) => {
            pass_on(&api, &member, request).await.unwrap_or_else(IntoResponse::into_response)
        }
        Err(fault) => fault.into_response(),
    }
}

/// The member whose answer it is; `None` for this one.
fn destination(
    api: &Api,
    world: &World,
    method: &Method,
    uri: &Uri,
) -> Result<Option<Node>, Fault> {
    if !show::clustered(world) {
        return Ok(None);
    }
    let path: Vec<String> = uri
        .path()
        .split('/')
        .filter(|segment| !segment.is_empty())
        .map(|segment| percent_decode_str(segment).decode_utf8_lossy().into_owned())
        .collect();
    let segments: Vec<&str> = path.iter().map(String::as_str).collect();
    let params = Params::parse(uri.query().unwrap_or_default());
    let Some(place) = place(api, world, method, &segments, &params)? else { return Ok(None) };
    if api.here() == Some(place.node) {
        return Ok(None);
    }
    let Some(node) = world.nodes.get(&place.node) else { return Ok(None) };
    match (node.is_online(), place.needed) {
        (true, _) => Ok(Some(node.clone())),
        (false, true) => Err(unreachable(node)),
        (false, false) => Ok(None),
    }
}

/// Where a request is answered best.
struct Place {
    node: NodeId,
    /// Nobody else can answer it at all.
    needed: bool,
}

/// `None`: any member can answer.
fn place(
    api: &Api,
    world: &World,
    method: &Method,
    segments: &[&str],
    params: &Params,
) -> Result<Option<Place>, Fault> {
    let reads = *method == Method::GET;
    let of_instance = |name: &str, needed| {
        let node = world.instance(&params.project(), name).ok().map(|it| it.node);
        Ok(node.map(|node| Place { node, needed }))
    };
    match segments {
        ["1.0", "instances", name, "exec" | "console" | "files" | "sftp" | "logs", ..] => {
            of_instance(name, true)
        }
        ["1.0", "instances", name, "state"] if reads => of_instance(name, false),
        ["1.0", "instances", name] if reads && params.get("recursion").is_some() => {
            of_instance(name, false)
        }
        ["1.0", "images", reference, "export"] if reads => {
            Ok(holder(api, world, &params.project(), reference))
        }
        ["1.0", "operations", id, "websocket"] => Ok(session(world, id, true)),
        ["1.0", "operations", id] if reads => Ok(session(world, id, false)),
        ["1.0", "cluster", "members", name, "state"] if reads => {
            member(world, name).map(|node| Some(Place { node: node.id, needed: true }))
        }
        ["1.0", "resources"]
        | ["1.0", "storage-pools", _, "resources"]
        | ["1.0", "networks", _, "state"]
            if reads =>
        {
            let Some(name) = params.get("target") else { return Ok(None) };
            member(world, name).map(|node| Some(Place { node: node.id, needed: true }))
        }
        _ => Ok(None),
    }
}

/// A member that has the image's files, unless this one does.
fn holder(api: &Api, world: &World, project: &str, reference: &str) -> Option<Place> {
    let holders = &world.image(project, reference).ok()?.holders;
    let here = api.here().filter(|here| holders.contains(here));
    let online = |id: &&NodeId| world.nodes.get(id).is_some_and(Node::is_online);
    let node = here.or_else(|| holders.iter().find(online).copied())?;
    Some(Place { node, needed: true })
}

/// Programs and consoles live where their guest does.
fn session(world: &World, id: &str, needed: bool) -> Option<Place> {
    let operation = world.operations.get(&id.parse::<OperationId>().ok()?)?;
    if operation.class != Class::Websocket {
        return None;
    }
    let project = world.projects.get(&operation.project)?.name.clone();
    let guest = operation.resources.iter().find(|it| it.kind == ResourceKind::Instance)?;
    let target = Target { project, name: guest.name.clone() };
    let node = world.instance(&target.project, &target.name).ok()?.node;
    Some(Place { node, needed })
}

/// # Errors
/// When there is no member of that name.
pub(super) fn member<'a>(world: &'a World, name: &str) -> Result<&'a Node, Fault> {
    let found = world.nodes.values().find(|node| node.name == name);
    found.ok_or_else(|| super::handle::not_found(stapes_core::rejection::Noun::Node, name))
}

fn unreachable(node: &Node) -> Fault {
    let since = match node.reach {
        Reach::Online => String::new(),
        Reach::Unreachable { since } | Reach::Fenced { since } => {
            format!(": it is not heard since {}", since.format("%Y-%m-%d %H:%M:%S UTC"))
        }
    };
    Fault::new(503, format!("Cluster member {} is not reachable{since}", node.name))
        .code("node-unreachable")
        .fact("member", node.name.as_str())
        .hint("stapes cluster status")
}

async fn pass_on(api: &Api, to: &Node, request: Request) -> Result<Response, Fault> {
    let cluster = api.cluster.as_ref().ok_or_else(|| unreachable(to))?;
    let (mut parts, body) = request.into_parts();
    let caller = Caller::from_request_parts(&mut parts, &()).await?;
    let address = PeerAddress { node: to.id, address: to.address.clone() };
    let connection = tokio::time::timeout(CONNECT_WITHIN, cluster.connect(&address));
    let connection = match connection.await {
        Ok(Ok(connection)) => connection,
        Ok(Err(error)) => return Err(unreachable(to).fact("cause", error.to_string())),
        Err(_) => return Err(unreachable(to).fact("cause", "it does not pick up")),
    };
    let broken = |error: hyper::Error| unreachable(to).fact("cause", error.to_string());
    let (mut sender, driver) =
        hyper::client::conn::http1::handshake(TokioIo::new(connection)).await.map_err(broken)?;
    tokio::spawn(async move {
        if let Err(error) = driver.with_upgrades().await {
            tracing::debug!(%error, "a connection to another member broke");
        }
    });

    let ours = parts.extensions.remove::<OnUpgrade>();
    let upgrades = parts.headers.contains_key(header::UPGRADE);
    clean(&mut parts.headers, upgrades);
    parts.headers.insert(header::HOST, HeaderValue::from_static("stapes"));
    if let Ok(told) = HeaderValue::from_str(&caller.told()) {
        parts.headers.insert(ACTOR, told);
    }
    let path = parts.uri.path_and_query().map_or("/", |path| path.as_str());
    let mut passed = Request::builder().method(parts.method).uri(path);
    if let Some(headers) = passed.headers_mut() {
        *headers = parts.headers;
    }
    let passed = passed.body(body).map_err(|error| Fault::bad_request(error.to_string()))?;
    let mut response = sender.send_request(passed).await.map_err(broken)?;
    // Whoever is told of something finds it here, too.
    let told = response.headers_mut().remove(SEQUENCE);
    if let Some(sequence) = told.and_then(|told| told.to_str().ok()?.parse().ok()) {
        api.backend.reach(Sequence(sequence)).await;
    }
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        let theirs = hyper::upgrade::on(&mut response);
        if let Some(ours) = ours {
            tokio::spawn(join(ours, theirs));
        }
    } else {
        clean(response.headers_mut(), false);
    }
    Ok(response.map(Body::new))
}

fn clean(headers: &mut HeaderMap, upgrades: bool) {
    for name in HOPS {
        if !(upgrades && name == header::CONNECTION) {
            headers.remove(name);
        }
    }
}

/// Bytes both ways until one side ends.
async fn join(ours: OnUpgrade, theirs: OnUpgrade) {
    let (Ok(ours), Ok(theirs)) = tokio::join!(ours, theirs) else { return };
    let (mut ours, mut theirs) = (TokioIo::new(ours), TokioIo::new(theirs));
    // However it ends: both are closed then.
    let _ = tokio::io::copy_bidirectional(&mut ours, &mut theirs).await;
}
