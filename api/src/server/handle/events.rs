//! The events socket: operations and lifecycle, live, or from a sequence of the log on.

use std::time::Duration;

use axum::{
    extract::{
        State, WebSocketUpgrade,
        ws::{Message, WebSocket},
    },
    response::IntoResponse,
};
use futures::{SinkExt, StreamExt, stream::SplitSink};
use stapes_core::ids::Sequence;
use tokio::{
    sync::broadcast::error::RecvError,
    time::{Instant, MissedTickBehavior, interval_at},
};

use super::{Answer, Api, Fault};
use crate::{
    backend::{Followed, Following},
    server::{
        hub::{self, Sent},
        params::{Params, Projects},
    },
};

/// Clients give a socket up after 30 s of silence.
const PING_EVERY: Duration = Duration::from_secs(10);
const TYPES: [&str; 4] = ["operation", "lifecycle", "logging", "network-acl"];

/// What a client wants to hear.
struct Wanted {
    types: Vec<String>,
    projects: Projects,
}

impl Wanted {
    fn wants(&self, sent: &Sent) -> bool {
        let of_project = match (&self.projects, &sent.project) {
            (Projects::All, _) | (_, None) => true,
            (Projects::One(wanted), Some(project)) => wanted == project,
        };
        of_project && self.types.iter().any(|kind| kind == sent.kind)
    }
}

pub(in crate::server) async fn get(
    State(api): State<Api>,
    params: Params,
    upgrade: WebSocketUpgrade,
) -> Answer {
    let types: Vec<String> = match params.get("type") {
        None => TYPES.iter().map(|kind| (*kind).to_owned()).collect(),
        Some(list) => list.split(',').map(str::to_owned).collect(),
    };
    if let Some(unknown) = types.iter().find(|kind| !TYPES.contains(&kind.as_str())) {
        return Err(Fault::bad_request(format!("{unknown:?} isn't a supported event type")));
    }
    let wanted = Wanted { types, projects: params.projects()? };
    if let Some(since) = params.number("since")? {
        let following = api.backend.follow(Some(Sequence(since))).await?;
        return Ok(upgrade
            .on_upgrade(move |socket| resumed(api, socket, following, wanted))
            .into_response());
    }
    // Subscribed before the answer: what happens after it is heard.
    let events = api.hub.subscribe();
    Ok(upgrade.on_upgrade(move |socket| live(socket, events, wanted)).into_response())
}

async fn live(
    socket: WebSocket,
    mut events: tokio::sync::broadcast::Receiver<Sent>,
    wanted: Wanted,
) {
    let (mut sink, mut from) = socket.split();
    let mut pings = pings();
    loop {
        let sent = tokio::select! {
            sent = events.recv() => sent,
            _ = pings.tick() => {
                if !ping(&mut sink).await { return }
                continue;
            }
            message = from.next() => match message {
                Some(Ok(Message::Close(_)) | Err(_)) | None => return,
                Some(Ok(_)) => continue,
            },
        };
        match sent {
            Ok(sent) if wanted.wants(&sent) => {
                if sink.send(Message::Text((&*sent.text).into())).await.is_err() {
                    return;
                }
            }
            Ok(_) => {}
            // It cannot keep up: it is told by the end of the connection, as the dialect does.
            Err(RecvError::Lagged(_) | RecvError::Closed) => break,
        }
    }
    let _ = sink.send(Message::Close(None)).await;
}

/// From a place in the log on: nothing is missed, however slow the client is.
async fn resumed(api: Api, socket: WebSocket, mut following: Following, wanted: Wanted) {
    let (mut sink, mut from) = socket.split();
    let mut pings = pings();
    loop {
        let followed = tokio::select! {
            followed = following.next() => followed,
            _ = pings.tick() => {
                if !ping(&mut sink).await { return }
                continue;
            }
            message = from.next() => match message {
                Some(Ok(Message::Close(_)) | Err(_)) | None => return,
                Some(Ok(_)) => continue,
            },
        };
        let told = match followed {
            Some(Ok(Followed::Told(told))) => told,
            Some(Ok(Followed::CaughtUp(_))) => continue,
            Some(Ok(Followed::Gap { .. }) | Err(_)) | None => break,
        };
        for sent in hub::events_of(&api, &told).await {
            if wanted.wants(&sent) && sink.send(Message::Text((&*sent.text).into())).await.is_err()
            {
                return;
            }
        }
    }
    let _ = sink.send(Message::Close(None)).await;
}

pub(super) fn pings() -> tokio::time::Interval {
    let mut pings = interval_at(Instant::now() + PING_EVERY, PING_EVERY);
    pings.set_missed_tick_behavior(MissedTickBehavior::Delay);
    pings
}

pub(super) async fn ping(sink: &mut SplitSink<WebSocket, Message>) -> bool {
    sink.send(Message::Ping(bytes::Bytes::new())).await.is_ok()
}
