//! Log files of an instance: its console, and the recorded output of programs.

use axum::{
    body::Body,
    extract::{Path, State},
    http::header,
    response::IntoResponse,
};
use stapes_core::ids::InstanceId;
use tokio::fs::File;
use tokio_util::io::ReaderStream;

use super::{Answer, Api, Fault, answer};
use crate::server::params::{Params, url};

/// The one log that every instance has.
const CONSOLE: &str = "console.log";

fn find(api: &Api, params: &Params, name: &str) -> Result<InstanceId, Fault> {
    Ok(api.look(|world| world.instance(&params.project(), name).map(|it| it.id))?)
}

pub(in crate::server) async fn list(
    State(api): State<Api>,
    Path(name): Path<String>,
    params: Params,
) -> Answer {
    find(&api, &params, &name)?;
    let url = url(&["instances", &name, "logs", CONSOLE], Some(&params.project()));
    Ok(answer::sync([url]))
}

pub(in crate::server) async fn get(
    State(api): State<Api>,
    Path((name, file)): Path<(String, String)>,
    params: Params,
) -> Answer {
    let id = find(&api, &params, &name)?;
    if file != CONSOLE {
        return Err(Fault::not_found(format!("Log file {file:?} not found")));
    }
    let log = api.drivers.guests.console_log(id).await?;
    Ok(([(header::CONTENT_TYPE, "application/octet-stream")], log).into_response())
}

pub(in crate::server) async fn delete() -> Answer {
    Err(Fault::bad_request("Only log files other than console.log may be deleted"))
}

pub(in crate::server) async fn list_outputs(
    State(api): State<Api>,
    Path(name): Path<String>,
    params: Params,
) -> Answer {
    let id = find(&api, &params, &name)?;
    let files = api.outputs.list(id).await?;
    let project = params.project();
    let urls = files
        .iter()
        .map(|file| url(&["instances", &name, "logs", "exec-output", file], Some(&project)));
    Ok(answer::sync(urls.collect::<Vec<_>>()))
}

pub(in crate::server) async fn get_output(
    State(api): State<Api>,
    Path((name, file)): Path<(String, String)>,
    params: Params,
) -> Answer {
    let path = api.outputs.path(find(&api, &params, &name)?, &file)?;
    let file = File::open(path).await.map_err(missing)?;
    let body = Body::from_stream(ReaderStream::new(file));
    Ok(([(header::CONTENT_TYPE, "application/octet-stream")], body).into_response())
}

pub(in crate::server) async fn delete_output(
    State(api): State<Api>,
    Path((name, file)): Path<(String, String)>,
    params: Params,
) -> Answer {
    let path = api.outputs.path(find(&api, &params, &name)?, &file)?;
    tokio::fs::remove_file(path).await.map_err(missing)?;
    Ok(answer::done())
}

fn missing(error: std::io::Error) -> Fault {
    if error.kind() == std::io::ErrorKind::NotFound {
        Fault::not_found("Log file not found")
    } else {
        error.into()
    }
}
