//! Operations: the list, one, the wait, and the sockets of sessions.

use std::{collections::BTreeMap, time::Duration};

use axum::{
    body::{Body, Bytes},
    extract::{Path, State, WebSocketUpgrade},
    http::header,
    response::IntoResponse,
};
use serde_json::{Value, json};
use stapes_core::{command::Command, ids::OperationId, operation::Operation};
use tokio::time::Instant;

use super::{Answer, Api, Fault, answer};
use crate::{
    server::{
        params::{Params, Projects, Recursion},
        peer::Caller,
        show,
    },
    wire::{self, envelope::Envelope},
};

/// Ended operations that one request may list.
const HISTORY_MAX: usize = 10_000;
const HISTORY_DEFAULT: usize = 1000;

/// A map from status to operations: those under way, those that ended a moment ago, and with
/// `history=1` all that are kept.
pub(in crate::server) async fn list(State(api): State<Api>, params: Params) -> Answer {
    let wanted = params.projects()?;
    let mut found = under_way(&api, &wanted)?;
    let mut ended = Vec::new();
    if params.is_true("history") {
        let count = params.number("limit")?.unwrap_or(HISTORY_DEFAULT).min(HISTORY_MAX);
        ended = api.backend.ended_operations(count).await?;
    } else {
        for id in api.hub.recently_ended() {
            ended.extend(api.backend.operation(id).await);
        }
    }
    for operation in ended {
        if operation.ended() && is_of(&api, &operation, &wanted) {
            found.push(api.shown(&operation));
        }
    }
    found.extend(api.bulks.shown());
    found.extend(api.look(super::members::tokens));
    let mut groups: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    for operation in found {
        let group = groups.entry(operation.status.to_lowercase()).or_default();
        group.push(match params.recursion() {
            Recursion::Urls => json!(format!("/1.0/operations/{}", operation.id)),
            Recursion::Objects | Recursion::Full => json!(operation),
        });
    }
    Ok(answer::sync(groups))
}

fn under_way(api: &Api, wanted: &Projects) -> Result<Vec<wire::operation::Operation>, Fault> {
    api.look(|world| {
        if let Projects::One(name) = wanted {
            world.project(name)?;
        }
        let operations = world.operations.values().filter(|operation| match wanted {
            Projects::All => true,
            Projects::One(name) => show::project_name(world, operation.project) == *name,
        });
        let live = |id| api.sessions.metadata(id);
        Ok(operations.map(|it| show::operation(world, it, live(it.id))).collect())
    })
}

fn is_of(api: &Api, operation: &Operation, wanted: &Projects) -> bool {
    match wanted {
        Projects::All => true,
        Projects::One(name) => {
            api.look(|world| show::project_name(world, operation.project) == *name)
        }
    }
}

fn parse(id: &str) -> Result<OperationId, Fault> {
    id.parse().map_err(|_| missing())
}

fn missing() -> Fault {
    Fault::not_found("Operation not found").hint("stapes op list")
}

pub(in crate::server) async fn get(State(api): State<Api>, Path(id): Path<String>) -> Answer {
    let id = parse(&id)?;
    if let Some(bulk) = api.bulks.get(id) {
        return Ok(answer::sync(bulk.borrow().clone()));
    }
    let token = |it: &wire::operation::Operation| it.id == id.to_string();
    if let Some(token) = api.look(super::members::tokens).into_iter().find(token) {
        return Ok(answer::sync(token));
    }
    api.operation(id).await.map(answer::sync).ok_or_else(missing)
}

/// The headers are sent at once, the body when the operation ended or the time is over.
pub(in crate::server) async fn wait(
    State(api): State<Api>,
    Path(id): Path<String>,
    params: Params,
) -> Answer {
    let id = parse(&id)?;
    let known = api.bulks.get(id).is_some() || api.backend.operation(id).await.is_some();
    if !known {
        return Err(missing());
    }
    let seconds: Option<i64> = params.number("timeout")?;
    let limit = seconds.and_then(|seconds| u64::try_from(seconds).ok()).map(Duration::from_secs);
    let deadline = limit.map(|limit| Instant::now() + limit);
    let outcome = async move {
        let shown = match api.bulks.get(id) {
            Some(mut bulk) => {
                let ended = bulk.wait_for(|shown| shown.is_final());
                // The time is over, or the end is there: shown either way.
                match limit {
                    Some(limit) => drop(tokio::time::timeout(limit, ended).await),
                    None => drop(ended.await),
                }
                Some(bulk.borrow().clone())
            }
            None => api.wait_for(id, deadline).await.map(|operation| api.shown(&operation)),
        };
        let envelope = match shown {
            Some(shown) => json!(Envelope::sync(shown)),
            None => json!(Envelope::error(404, missing().text, missing().advice)),
        };
        Ok::<_, std::io::Error>(Bytes::from(envelope.to_string()))
    };
    let body = Body::from_stream(futures::stream::once(outcome));
    Ok(([(header::CONTENT_TYPE, "application/json")], body).into_response())
}

/// What a node does for an operation runs to its end; only what runs in this process could stop.
pub(in crate::server) async fn cancel(
    State(api): State<Api>,
    Path(id): Path<String>,
    caller: Caller,
) -> Answer {
    let id = parse(&id)?;
    if let Some(name) = api.look(|world| super::members::token_of(world, id)) {
        api.submit(Command::RevokeJoinToken { name }, &caller).await?;
        return Ok(answer::done());
    }
    match api.backend.operation(id).await {
        None => Err(missing()),
        Some(_) => Err(Fault::bad_request("This operation can't be cancelled")
            .hint("what it began can be undone when it has ended")),
    }
}

/// One stream of a session. The secret is all that is asked for, but from the same user.
pub(in crate::server) async fn websocket(
    State(api): State<Api>,
    Path(id): Path<String>,
    params: Params,
    caller: Caller,
    upgrade: WebSocketUpgrade,
) -> Answer {
    let id = parse(&id)?;
    let secret =
        params.get("secret").ok_or_else(|| Fault::bad_request("Missing websocket secret"))?;
    let place = api.sessions.claim(id, secret, caller.uid)?;
    // When the session is over already the socket is dropped, which closes it.
    Ok(upgrade.on_upgrade(|socket| async move { drop(place.send(socket)) }))
}
