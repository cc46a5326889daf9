//! The console of an instance: what it showed, and a connection to it.

use axum::{
    extract::{Path, State},
    http::header,
    response::IntoResponse,
};
use bytes::Bytes;
use serde_json::Map;
use stapes_core::{command::Command, session::End};

use super::{Answer, Api, Fault, body, exec::finish, target};
use crate::{
    server::{
        params::Params,
        peer::Caller,
        session::{Stream, attach_console},
    },
    wire::exec::InstanceConsolePost,
};

pub(in crate::server) async fn log(
    State(api): State<Api>,
    Path(name): Path<String>,
    params: Params,
) -> Answer {
    if params.get("type").is_some_and(|kind| kind != "log") {
        return Err(Fault::not_implemented("Screenshots are not supported"));
    }
    let id = api.look(|world| world.instance(&params.project(), &name).map(|it| it.id))?;
    let log = api.drivers.guests.console_log(id).await?;
    Ok(([(header::CONTENT_TYPE, "application/octet-stream")], log).into_response())
}

pub(in crate::server) async fn post(
    State(api): State<Api>,
    Path(name): Path<String>,
    params: Params,
    caller: Caller,
    bytes: Bytes,
) -> Answer {
    let post: InstanceConsolePost = body(&bytes)?;
    match post.kind.as_str() {
        "" | "console" => {}
        "vga" => return Err(Fault::not_implemented("Graphical consoles are not supported")),
        other => return Err(Fault::bad_request(format!("Unknown console type {other:?}"))),
    }
    let target = target(&params, name);
    let find = |world: &stapes_core::world::World| {
        world.instance(&target.project, &target.name).map(|it| it.id)
    };
    let instance = api.look(find)?;
    let accepted = api.submit(Command::BeginConsole { target }, &caller).await?;
    let operation = accepted.operation;
    let streams = [Stream::Input, Stream::Control];
    let opened = api.sessions.open(operation, caller.uid, &streams, Map::new());
    let (registration, connections) = match opened {
        Ok(opened) => opened,
        Err(fault) => {
            finish(&api, operation, &caller, End::Failed(fault.text.clone())).await;
            return Err(fault);
        }
    };
    let answer = api.begun(&accepted).await;
    let size = (post.width.max(1), post.height.max(1));
    tokio::spawn(async move {
        let guests = &*api.drivers.guests;
        let how = match attach_console(guests, instance, size, connections).await {
            Ok(_) => End::Closed,
            Err(error) => End::Failed(error),
        };
        finish(&api, operation, &caller, how).await;
        registration.over();
    });
    answer
}

/// What the driver keeps of the console is bounded and cannot be emptied.
pub(in crate::server) async fn clear() -> Answer {
    Err(Fault::not_implemented("The console log cannot be cleared"))
}
