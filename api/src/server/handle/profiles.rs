//! Profiles.

use axum::extract::{Path, State};
use bytes::Bytes;
use stapes_core::{
    command::Command,
    ids::{StreamId, StreamKind},
    profile::Wanted,
};

use super::{Answer, Api, Fault, answer, body, listed, new_name, projects};
use crate::{
    server::{
        change::{Change, merged},
        params::{Params, url},
        peer::Caller,
        show,
    },
    wire::profile::ProfilePut,
};

pub(in crate::server) async fn list(State(api): State<Api>, params: Params) -> Answer {
    let wanted = params.projects()?;
    let secrets = &*api.drivers.secrets;
    api.lens(&params).await?.look(|world| {
        let projects = projects(world, &wanted, |project| project.profiles_in())?;
        let mut profiles: Vec<_> = world
            .profiles
            .values()
            .filter(|profile| projects.iter().any(|(id, _)| *id == profile.project))
            .collect();
        profiles.sort_by(|one, other| (one.project, &one.name).cmp(&(other.project, &other.name)));
        listed(
            &params,
            profiles.into_iter().map(|it| {
                let url =
                    url(&["profiles", &it.name], Some(&show::project_name(world, it.project)));
                (url, move || show::profile(world, secrets, it))
            }),
        )
    })
}

pub(in crate::server) async fn get(
    State(api): State<Api>,
    Path(name): Path<String>,
    params: Params,
) -> Answer {
    api.lens(&params).await?.look(|world| {
        let it = world.profile(&params.project(), &name)?;
        let revision = world.tail(StreamId::new(StreamKind::Profile, it.id)).revision;
        let shown = show::profile(world, &*api.drivers.secrets, it);
        Ok(answer::tagged(shown, &show::etag(revision)))
    })
}

pub(in crate::server) async fn create(
    State(api): State<Api>,
    params: Params,
    caller: Caller,
    bytes: Bytes,
) -> Answer {
    let post: ProfilePut = body(&bytes)?;
    if post.name.is_empty() {
        return Err(Fault::bad_request("No name provided"));
    }
    let project = params.project();
    let location = url(&["profiles", &post.name], Some(&project));
    let wanted = Wanted {
        description: post.description,
        config: post.config.unwrap_or_default(),
        devices: post.devices.unwrap_or_default(),
    };
    let command = Command::CreateProfile { project, name: post.name, wanted: Box::new(wanted) };
    api.settle(command, &caller).await?;
    Ok(answer::created(&location))
}

pub(in crate::server) async fn put(
    State(api): State<Api>,
    Path(name): Path<String>,
    params: Params,
    Change { wanted: put, caller, expected }: Change<ProfilePut>,
) -> Answer {
    let command = Command::ConfigureProfile {
        project: params.project(),
        name,
        wanted: Box::new(Wanted {
            description: Some(put.description.unwrap_or_default()),
            config: put.config.unwrap_or_default(),
            devices: put.devices.unwrap_or_default(),
        }),
        expected,
    };
    api.done(command, &caller).await
}

pub(in crate::server) async fn patch(
    State(api): State<Api>,
    Path(name): Path<String>,
    params: Params,
    Change { wanted: patch, caller, expected }: Change<ProfilePut>,
) -> Answer {
    let project = params.project();
    let (wanted, read) = api.look(|world| {
        let it = world.profile(&project, &name)?;
        let config = merged(&it.config, patch.config.unwrap_or_default());
        let devices = merged(&it.devices, patch.devices.unwrap_or_default());
        let revision = world.tail(StreamId::new(StreamKind::Profile, it.id)).revision;
        Ok::<_, Fault>((Wanted { description: patch.description, config, devices }, revision))
    })?;
    let command = Command::ConfigureProfile {
        project,
        name,
        wanted: Box::new(wanted),
        expected: expected.or(Some(read)),
    };
    api.done(command, &caller).await
}

pub(in crate::server) async fn rename(
    State(api): State<Api>,
    Path(name): Path<String>,
    params: Params,
    caller: Caller,
    bytes: Bytes,
) -> Answer {
    let to = new_name(&bytes)?;
    let location = url(&["profiles", &to], Some(&params.project()));
    let command = Command::RenameProfile { project: params.project(), name, to };
    api.settle(command, &caller).await?;
    Ok(answer::created(&location))
}

pub(in crate::server) async fn delete(
    State(api): State<Api>,
    Path(name): Path<String>,
    params: Params,
    caller: Caller,
) -> Answer {
    let command = Command::DeleteProfile { project: params.project(), name };
    api.done(command, &caller).await
}
