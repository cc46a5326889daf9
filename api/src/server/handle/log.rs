//! Our log on the outside: CloudEvents by websocket or as server-sent events, and timelines.

use std::convert::Infallible;

use axum::{
    extract::{
        FromRequestParts, Path, Request, State, WebSocketUpgrade,
        ws::{Message, WebSocket},
    },
    response::{
        IntoResponse,
        sse::{Event as ServerSent, KeepAlive, Sse},
    },
};
use futures::{SinkExt, Stream, StreamExt};
use serde_json::{Value, json};
use stapes_core::ids::Sequence;

use super::{
    Answer, Api, Fault, answer,
    events::{ping, pings},
};
use crate::{
    backend::{Followed, Following, Told},
    server::{
        cloud_event::cloud_events,
        params::{Params, Projects},
    },
};

/// What a client wants to see of the log.
#[derive(Debug)]
struct Wanted {
    server: String,
    projects: Option<Projects>,
    /// `instance/web`, or a kind alone.
    resource: Option<String>,
    /// `instance.created`, or the beginning of one.
    kind: Option<String>,
    actor: Option<String>,
    operation: Option<String>,
}

impl Wanted {
    fn of(api: &Api, params: &Params) -> Result<Self, Fault> {
        let text = |key: &str| params.get(key).map(str::to_owned);
        let asked = params.get("project").is_some() || params.is_true("all-projects");
        Ok(Self {
            server: api.facts.server_name.clone(),
            projects: asked.then(|| params.projects()).transpose()?,
            resource: text("resource"),
            kind: text("type"),
            actor: text("actor"),
            operation: text("operation"),
        })
    }

    fn lines(&self, told: &Told) -> Vec<Value> {
        let record = &told.recorded.record;
        let of_project = match (&self.projects, &told.subject.project) {
            (None | Some(Projects::All), _) | (_, None) => true,
            (Some(Projects::One(wanted)), Some(project)) => wanted == project,
        };
        let of_actor = self.actor.as_ref().is_none_or(|actor| *actor == record.actor.name);
        let of_operation =
            self.operation.as_ref().is_none_or(|id| record.operation.to_string().starts_with(id));
        if !(of_project && of_actor && of_operation && self.of_resource(told)) {
            return Vec::new();
        }
        let mut lines = cloud_events(told, &self.server);
        if let Some(kind) = &self.kind {
            lines.retain(|line| {
                let of_type = line["type"].as_str().unwrap_or_default();
                of_type.trim_start_matches("io.stapes.").starts_with(kind.as_str())
            });
        }
        lines
    }

    fn of_resource(&self, told: &Told) -> bool {
        let kind = told.subject.kind.as_str();
        self.resource.as_ref().is_none_or(|resource| match resource.split_once('/') {
            Some((wanted, name)) => wanted == kind && name == told.subject.name,
            None => resource == kind || *resource == told.subject.name,
        })
    }
}

/// `GET /1.0/log?since=SEQ&follow=1&resource=`. A websocket when it is asked for, else
/// server-sent events. Without `since` from the beginning; without `follow` to the present.
pub(in crate::server) async fn get(
    State(api): State<Api>,
    params: Params,
    request: Request,
) -> Answer {
    let since = params.number("since")?.unwrap_or_default();
    let wanted = Wanted::of(&api, &params)?;
    let follow = params.is_true("follow");
    let following = api.backend.follow(Some(Sequence(since))).await?;
    let lines = lines(following, wanted, follow);
    let (mut parts, _) = request.into_parts();
    match WebSocketUpgrade::from_request_parts(&mut parts, &api).await {
        Ok(upgrade) => Ok(upgrade.on_upgrade(|socket| send(socket, lines)).into_response()),
        Err(_) => {
            let events = lines.map(|line| {
                let event = ServerSent::default().data(line.to_string());
                Ok::<_, Infallible>(match line["sequence"].as_str() {
                    Some(sequence) => event.id(sequence),
                    None => event,
                })
            });
            Ok(Sse::new(events).keep_alive(KeepAlive::default()).into_response())
        }
    }
}

/// CloudEvents, and control lines between them.
fn lines(
    following: Following,
    wanted: Wanted,
    follow: bool,
) -> impl Stream<Item = Value> + Send + 'static {
    let ends = move |followed: &Result<Followed, _>| {
        matches!(followed, Ok(Followed::CaughtUp(_)) if !follow) || followed.is_err()
    };
    // What ends the stream is still told; after it the log is not asked for more.
    let upto = futures::stream::unfold(Some(following), move |following| async move {
        let mut following = following?;
        let followed = following.next().await?;
        let more = (!ends(&followed)).then_some(following);
        Some((followed, more))
    });
    upto.flat_map(move |followed| {
        futures::stream::iter(match followed {
            Ok(Followed::Told(told)) => wanted.lines(&told),
            Ok(Followed::CaughtUp(sequence)) => {
                vec![json!({"control": "caught-up", "sequence": sequence})]
            }
            Ok(Followed::Gap { from, to, why }) => {
                vec![json!({"control": "gap", "from": from, "to": to, "why": why})]
            }
            Err(error) => vec![json!({"control": "broken", "why": error.to_string()})],
        })
    })
}

async fn send(socket: WebSocket, lines: impl Stream<Item = Value> + Send + 'static) {
    let (mut sink, mut from) = socket.split();
    let mut lines = std::pin::pin!(lines);
    let mut pings = pings();
    loop {
        tokio::select! {
            line = lines.next() => match line {
                Some(line) => {
                    if sink.send(Message::Text(line.to_string().into())).await.is_err() { return }
                }
                None => break,
            },
            _ = pings.tick() => if !ping(&mut sink).await { return },
            message = from.next() => match message {
                Some(Ok(Message::Close(_)) | Err(_)) | None => return,
                Some(Ok(_)) => {}
            },
        }
    }
    let _ = sink.send(Message::Close(None)).await;
}

/// `GET /1.0/instances/x/history`: everything that ever happened to it, oldest first.
pub(in crate::server) async fn history(
    State(api): State<Api>,
    Path(name): Path<String>,
    params: Params,
) -> Answer {
    let stream = api
        .lens(&params)
        .await?
        .look(|world| world.instance(&params.project(), &name).map(|it| it.id.stream()))?;
    let told = api.backend.history(stream).await?;
    let server = &api.facts.server_name;
    let lines: Vec<_> = told.iter().flat_map(|told| cloud_events(told, server)).collect();
    Ok(answer::sync(lines))
}

/// `POST /1.0/replay`: folds the whole log anew and compares it with what is served.
pub(in crate::server) async fn replay(State(api): State<Api>) -> Answer {
    let verified = api.backend.verify().await?;
    Ok(answer::sync(json!({
        "records": verified.records,
        "sequence": verified.sequence,
        "identical": verified.differences.is_empty(),
        "differences": verified.differences,
    })))
}
