//! Projects.

use axum::extract::{Path, State};
use bytes::Bytes;
use stapes_core::{
    command::Command,
    ids::{StreamId, StreamKind},
};

use super::{Answer, Api, Fault, answer, body, listed, new_name};
use crate::{
    server::{
        change::{Change, merged},
        params::{Params, url},
        peer::Caller,
        show,
    },
    wire::project::ProjectPut,
};

pub(in crate::server) async fn list(State(api): State<Api>, params: Params) -> Answer {
    api.lens(&params).await?.look(|world| {
        let mut projects: Vec<_> = world.projects.values().collect();
        projects.sort_by(|one, other| one.name.cmp(&other.name));
        listed(
            &params,
            projects
                .into_iter()
                .map(|it| (url(&["projects", &it.name], None), move || show::project(world, it))),
        )
    })
}

pub(in crate::server) async fn get(
    State(api): State<Api>,
    Path(name): Path<String>,
    params: Params,
) -> Answer {
    api.lens(&params).await?.look(|world| {
        let it = world.project(&name)?;
        let revision = world.tail(StreamId::new(StreamKind::Project, it.id)).revision;
        Ok(answer::tagged(show::project(world, it), &show::etag(revision)))
    })
}

pub(in crate::server) async fn state(
    State(api): State<Api>,
    Path(name): Path<String>,
    params: Params,
) -> Answer {
    api.lens(&params)
        .await?
        .look(|world| Ok(answer::sync(show::project_state(world, world.project(&name)?))))
}

pub(in crate::server) async fn create(
    State(api): State<Api>,
    caller: Caller,
    bytes: Bytes,
) -> Answer {
    let post: ProjectPut = body(&bytes)?;
    if post.name.is_empty() {
        return Err(Fault::bad_request("No name provided"));
    }
    let location = url(&["projects", &post.name], None);
    let command = Command::CreateProject {
        name: post.name,
        description: post.description.unwrap_or_default(),
        config: post.config.unwrap_or_default(),
    };
    api.settle(command, &caller).await?;
    Ok(answer::created(&location))
}

pub(in crate::server) async fn put(
    State(api): State<Api>,
    Path(name): Path<String>,
    Change { wanted: put, caller, expected }: Change<ProjectPut>,
) -> Answer {
    let command = Command::ConfigureProject {
        name,
        description: Some(put.description.unwrap_or_default()),
        config: put.config.unwrap_or_default(),
        expected,
    };
    api.done(command, &caller).await
}

pub(in crate::server) async fn patch(
    State(api): State<Api>,
    Path(name): Path<String>,
    Change { wanted: patch, caller, expected }: Change<ProjectPut>,
) -> Answer {
    let (config, read) = api.look(|world| {
        let it = world.project(&name)?;
        let config = merged(&it.config, patch.config.unwrap_or_default());
        let revision = world.tail(StreamId::new(StreamKind::Project, it.id)).revision;
        Ok::<_, Fault>((config, revision))
    })?;
    let command = Command::ConfigureProject {
        name,
        description: patch.description,
        config,
        expected: expected.or(Some(read)),
    };
    api.done(command, &caller).await
}

/// An operation in the dialect, though it is over at once.
pub(in crate::server) async fn rename(
    State(api): State<Api>,
    Path(name): Path<String>,
    caller: Caller,
    bytes: Bytes,
) -> Answer {
    let to = new_name(&bytes)?;
    api.begin(Command::RenameProject { name, to }, &caller).await
}

pub(in crate::server) async fn delete(
    State(api): State<Api>,
    Path(name): Path<String>,
    params: Params,
    caller: Caller,
) -> Answer {
    if params.is_true("force") {
        return Err(Fault::not_implemented(
            "Deleting a project with what is in it is not supported",
        )
        .hint("delete what is in it first; stapes project show says what"));
    }
    api.done(Command::DeleteProject { name }, &caller).await
}
