//! Instances: lists, one, changes, rename and delete.

use axum::{
    extract::{Path, State},
    http::Uri,
};
use bytes::Bytes;
use futures::StreamExt;
use stapes_core::{
    command::Command,
    config::Config,
    ids::InstanceId,
    instance::{Instance, LivePolicy, Reconfigure, Target},
    world::World,
};

use super::{Answer, Api, Fault, answer, body, listed, projects, target};
use crate::{
    server::{
        change::{Change, merged},
        params::{Params, Recursion, url},
        peer::Caller,
        show,
    },
    wire::instance::{InstanceFull, InstancePost, InstancePut},
};

/// Instances that are looked at at the same time.
const LOOKS: usize = 16;

pub(in crate::server) async fn list(State(api): State<Api>, params: Params) -> Answer {
    let wanted = params.projects()?;
    let lens = api.lens(&params).await?;
    if params.recursion() == Recursion::Full && lens.is_now() {
        return list_full(&api, &params).await;
    }
    let secrets = &*api.drivers.secrets;
    lens.look(|world| {
        let projects = projects(world, &wanted, |project| project.id)?;
        let instances = of_projects(world, &projects);
        listed(
            &params,
            instances
                .into_iter()
                .map(|it| (url_of(world, it), move || show::instance(world, secrets, it))),
        )
    })
}

fn of_projects<'a>(
    world: &'a World,
    projects: &[(stapes_core::ids::ProjectId, &stapes_core::project::Project)],
) -> Vec<&'a Instance> {
    let mut instances: Vec<_> = world
        .instances
        .values()
        .filter(|it| projects.iter().any(|(id, _)| *id == it.project))
        .collect();
    instances.sort_by(|one, other| (one.project, &one.name).cmp(&(other.project, &other.name)));
    instances
}

fn url_of(world: &World, it: &Instance) -> String {
    url(&["instances", &it.name], Some(&show::project_name(world, it.project)))
}

/// With state and snapshots. The look at the guests comes after the filter.
async fn list_full(api: &Api, params: &Params) -> Answer {
    let (wanted, filter) = (params.projects()?, params.filter()?);
    let secrets = &*api.drivers.secrets;
    let found: Vec<InstanceId> = api.look(|world| {
        let projects = projects(world, &wanted, |project| project.id)?;
        let instances = of_projects(world, &projects).into_iter();
        let matching = instances.filter(|it| {
            filter.as_ref().is_none_or(|filter| {
                serde_json::to_value(show::instance(world, secrets, it))
                    .is_ok_and(|value| filter.matches(&value))
            })
        });
        Ok::<_, Fault>(matching.map(|it| it.id).collect())
    })?;
    let full = futures::stream::iter(found).map(|id| full(api, id)).buffered(LOOKS);
    let full: Vec<_> = full.filter_map(std::future::ready).collect().await;
    Ok(answer::sync(full))
}

/// `None` when it is gone meanwhile.
async fn full(api: &Api, id: InstanceId) -> Option<InstanceFull> {
    let look = super::state::look_at(api, id).await;
    let secrets = &*api.drivers.secrets;
    api.look(|world| {
        let it = world.instances.get(&id)?;
        let snapshots = it.snapshots.iter();
        let snapshots: Vec<_> =
            snapshots.map(|(name, snapshot)| show::snapshot(secrets, it, name, snapshot)).collect();
        Some(InstanceFull {
            instance: show::instance(world, secrets, it),
            backups: None,
            state: Some(look.shown(world, it)),
            snapshots: (!snapshots.is_empty()).then_some(snapshots),
        })
    })
}

pub(in crate::server) async fn get(
    State(api): State<Api>,
    Path(name): Path<String>,
    params: Params,
) -> Answer {
    let lens = api.lens(&params).await?;
    let project = params.project();
    if params.recursion() != Recursion::Urls && lens.is_now() {
        let id = api.look(|world| world.instance(&project, &name).map(|it| it.id))?;
        let full = full(&api, id).await;
        let gone = || super::not_found(stapes_core::rejection::Noun::Instance, &name);
        return full.map(answer::sync).ok_or_else(gone);
    }
    lens.look(|world| {
        let it = world.instance(&project, &name)?;
        let etag = show::etag(world.tail(it.id.stream()).revision);
        Ok(answer::tagged(show::instance(world, &*api.drivers.secrets, it), &etag))
    })
}

pub(in crate::server) async fn put(
    State(api): State<Api>,
    Path(name): Path<String>,
    params: Params,
    Change { wanted: put, caller, expected }: Change<InstancePut>,
) -> Answer {
    let target = target(&params, name);
    if !put.restore.is_empty() {
        let snapshot = put.restore.rsplit('/').next().unwrap_or_default().to_owned();
        let command = Command::RestoreSnapshot { target, name: snapshot };
        return api.begin(command, &caller).await;
    }
    // The whole object is written: what is absent is empty.
    let wanted = Reconfigure {
        config: Some(without_volatile(put.config.unwrap_or_default())),
        devices: Some(put.devices.unwrap_or_default()),
        profiles: put.profiles,
        description: Some(put.description.unwrap_or_default()),
        ephemeral: Some(put.ephemeral.unwrap_or_default()),
        expected,
    };
    api.begin(Command::ReconfigureInstance { target, wanted: Box::new(wanted) }, &caller).await
}

/// What the server keeps of an instance is shown among its settings and comes back with them.
pub(super) fn without_volatile(mut config: Config) -> Config {
    config.retain(|key, _| !key.starts_with("volatile."));
    config
}

pub(in crate::server) async fn patch(
    State(api): State<Api>,
    Path(name): Path<String>,
    params: Params,
    Change { wanted: patch, caller, expected }: Change<InstancePut>,
) -> Answer {
    let target = target(&params, name);
    let wanted = api.look(|world| {
        let it = world.instance(&target.project, &target.name)?;
        let config = patch.config.map(|config| merged(&it.config, without_volatile(config)));
        let devices = patch.devices.map(|devices| merged(&it.devices, devices));
        // Without a tag of its own the patch is of what was just read.
        let read = world.tail(it.id.stream()).revision;
        Ok::<_, Fault>(Reconfigure {
            config,
            devices,
            profiles: patch.profiles,
            description: patch.description,
            ephemeral: patch.ephemeral,
            expected: expected.or(Some(read)),
        })
    })?;
    api.done(Command::ReconfigureInstance { target, wanted: Box::new(wanted) }, &caller).await
}

/// Rename, or move to another member. Moves between pools and projects are not served.
pub(in crate::server) async fn post(
    State(api): State<Api>,
    Path(name): Path<String>,
    params: Params,
    caller: Caller,
    bytes: Bytes,
) -> Answer {
    let post: InstancePost = body(&bytes)?;
    let to = api.look(|world| params.target(world))?;
    if !post.pool.is_empty() || !post.project.is_empty() {
        return Err(Fault::not_implemented("Moving between pools or projects is not supported")
            .hint(format!("stapes copy {name} NEW, then stapes delete {name}")));
    }
    if let Some(to) = to {
        return move_to(&api, target(&params, name), &params, &post, to, &caller).await;
    }
    if post.name.is_empty() || (post.migration && post.target.is_some()) {
        return Err(Fault::not_implemented("Migration between servers is not supported"));
    }
    let command = Command::RenameInstance { target: target(&params, name), to: post.name };
    api.begin(command, &caller).await
}

/// `live` in the body is what clients of the dialect say; `live=required|preferred|never` in the
/// query says it in full.
async fn move_to(
    api: &Api,
    target: Target,
    params: &Params,
    post: &InstancePost,
    to: String,
    caller: &Caller,
) -> Answer {
    if !post.name.is_empty() && post.name != target.name {
        return Err(Fault::bad_request("Instance must be renamed and moved in two steps")
            .hint(format!("stapes rename {} {}", target.name, post.name)));
    }
    if post.config.is_some() || post.devices.is_some() || post.profiles.is_some() {
        return Err(Fault::bad_request("A move to another member changes no configuration")
            .hint(format!("stapes config edit {}", target.name)));
    }
    let live = match params.get("live") {
        Some("required") => LivePolicy::Required,
        Some("preferred") => LivePolicy::Preferred,
        Some("never") => LivePolicy::Never,
        None if post.live => LivePolicy::Preferred,
        None => LivePolicy::Never,
        Some(other) => {
            return Err(Fault::bad_request(format!("Invalid live {other:?}"))
                .hint("required, preferred or never"));
        }
    };
    // `*` is anywhere else.
    let to = Some(to).filter(|to| to != "*");
    api.begin(Command::MoveInstance { target, to, live }, caller).await
}

pub(in crate::server) async fn delete(
    State(api): State<Api>,
    Path(name): Path<String>,
    params: Params,
    caller: Caller,
) -> Answer {
    let force = params.is_true("force");
    api.begin(Command::DeleteInstance { target: target(&params, name), force }, &caller).await
}

/// What its image said of itself.
pub(in crate::server) async fn metadata(
    State(api): State<Api>,
    Path(name): Path<String>,
    params: Params,
) -> Answer {
    api.look(|world| {
        let it = world.instance(&params.project(), &name)?;
        let of_image = it.config.iter().filter_map(|(key, value)| {
            Some((key.strip_prefix("image.")?.to_owned(), value.clone()))
        });
        Ok(answer::sync(crate::wire::instance::ImageMetadata {
            architecture: it.architecture.clone(),
            creation_date: it.created_at.timestamp(),
            properties: of_image.collect(),
            ..Default::default()
        }))
    })
}

/// There are none, but only of an instance that is there.
pub(in crate::server) async fn backups(
    State(api): State<Api>,
    Path(name): Path<String>,
    params: Params,
) -> Answer {
    api.look(|world| world.instance(&params.project(), &name).map(|_| ()))?;
    listed(&params, std::iter::empty::<(String, fn())>())
}

/// The guest port lends no root, so files go through `exec`.
pub(in crate::server) async fn files(uri: Uri) -> Answer {
    let _ = uri;
    Err(Fault::not_implemented("Files of instances are not served")
        .hint("stapes exec NAME -- cat /path, or tar through its standard input and output"))
}
