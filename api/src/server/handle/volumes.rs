//! Volumes of a pool: those that users made, and the roots of instances.

use axum::extract::{Path, State};
use bytes::Bytes;
use stapes_core::{
    command::Command,
    ids::{StreamId, StreamKind},
    port::image::ImageKind,
    rejection::Noun,
    world::World,
};

use super::{Answer, Api, Fault, answer, body, listed, new_name, not_found};
use crate::{
    server::{
        change::{Change, merged},
        params::{Params, Projects, url},
        peer::Caller,
        show,
    },
    wire::storage::{StorageVolume, StorageVolumePut},
};

const CUSTOM: &str = "custom";
const KINDS: [&str; 4] = [CUSTOM, "container", "virtual-machine", "image"];

pub(in crate::server) async fn list_all(
    State(api): State<Api>,
    Path(pool): Path<String>,
    params: Params,
) -> Answer {
    list_of(&api, &params, &pool, None).await
}

pub(in crate::server) async fn list(
    State(api): State<Api>,
    Path((pool, kind)): Path<(String, String)>,
    params: Params,
) -> Answer {
    check(&kind)?;
    list_of(&api, &params, &pool, Some(kind)).await
}

fn check(kind: &str) -> Result<(), Fault> {
    if KINDS.contains(&kind) {
        return Ok(());
    }
    Err(Fault::bad_request(format!("Invalid storage volume type {kind:?}")))
}

async fn list_of(api: &Api, params: &Params, pool: &str, kind: Option<String>) -> Answer {
    let wanted = params.projects()?;
    api.lens(params).await?.look(|world| {
        let volumes = all(world, pool, &wanted)?;
        let volumes = volumes.into_iter().filter(|it| kind.as_ref().is_none_or(|k| it.kind == *k));
        listed(
            params,
            volumes.map(|it| {
                let path = ["storage-pools", pool, "volumes", &it.kind, &it.name];
                (url(&path, Some(&it.project)), move || it)
            }),
        )
    })
}

/// Every volume of the pool in these projects, the users' own first.
fn all(world: &World, name: &str, wanted: &Projects) -> Result<Vec<StorageVolume>, Fault> {
    let pool = world.pool(name)?;
    if let Projects::One(project) = wanted {
        world.project(project)?;
    }
    let of_project = |project: &str| match wanted {
        Projects::All => true,
        Projects::One(wanted) => wanted == project,
    };
    let custom = world.volumes.values().filter(|volume| volume.pool == pool.id);
    let custom = custom.map(|volume| show::volume(world, volume, name));
    let roots = world.instances.values().filter(|instance| instance.pool == pool.id);
    let roots = roots.map(|instance| root(world, instance));
    Ok(custom.chain(roots).filter(|volume| of_project(&volume.project)).collect())
}

fn root(world: &World, it: &stapes_core::instance::Instance) -> StorageVolume {
    let project = show::project_name(world, it.project);
    let (kind, content) = match it.kind {
        ImageKind::Container => ("container", "filesystem"),
        ImageKind::VirtualMachine => ("virtual-machine", "block"),
    };
    StorageVolume {
        name: it.name.clone(),
        kind: kind.to_owned(),
        used_by: vec![url(&["instances", &it.name], Some(&project))],
        location: show::location(world, it.node),
        content_type: content.to_owned(),
        project,
        created_at: it.created_at.into(),
        ..StorageVolume::default()
    }
}

pub(in crate::server) async fn get(
    State(api): State<Api>,
    Path((pool, kind, name)): Path<(String, String, String)>,
    params: Params,
) -> Answer {
    check(&kind)?;
    api.lens(&params).await?.look(|world| {
        if kind == CUSTOM {
            let it = world.volume(&pool, &name)?;
            let revision = world.tail(StreamId::new(StreamKind::Volume, it.id)).revision;
            return Ok(answer::tagged(show::volume(world, it, &pool), &show::etag(revision)));
        }
        let volumes = all(world, &pool, &params.projects()?)?;
        let found = volumes.into_iter().find(|it| it.kind == kind && it.name == name);
        found.map(answer::sync).ok_or_else(|| not_found(Noun::Volume, &name))
    })
}

pub(in crate::server) async fn create(
    State(api): State<Api>,
    Path(pool): Path<String>,
    params: Params,
    caller: Caller,
    bytes: Bytes,
) -> Answer {
    let post: StorageVolumePut = body(&bytes)?;
    let kind = post.kind.clone();
    make(&api, pool, kind, &params, &caller, post).await
}

pub(in crate::server) async fn create_of_kind(
    State(api): State<Api>,
    Path((pool, kind)): Path<(String, String)>,
    params: Params,
    caller: Caller,
    bytes: Bytes,
) -> Answer {
    make(&api, pool, kind, &params, &caller, body(&bytes)?).await
}

async fn make(
    api: &Api,
    pool: String,
    kind: String,
    params: &Params,
    caller: &Caller,
    post: StorageVolumePut,
) -> Answer {
    only_custom(&kind)?;
    let target = api.look(|world| params.target(world))?;
    if post.name.is_empty() {
        return Err(Fault::bad_request("No name provided"));
    }
    if post.source.is_some_and(|source| !source.kind.is_empty() && source.kind != "none") {
        return Err(Fault::not_implemented("Copying storage volumes is not supported"));
    }
    if !matches!(post.content_type.as_str(), "" | "filesystem") {
        return Err(Fault::bad_request(format!(
            "Unsupported content type {:?}",
            post.content_type
        ))
        .hint("filesystem"));
    }
    let project = params.project();
    let location = url(&["storage-pools", &pool, "volumes", CUSTOM, &post.name], Some(&project));
    let command = Command::CreateVolume {
        project,
        pool,
        name: post.name,
        description: post.description.unwrap_or_default(),
        config: post.config.unwrap_or_default(),
        target,
    };
    api.settle(command, caller).await?;
    Ok(answer::created(&location))
}

fn only_custom(kind: &str) -> Result<(), Fault> {
    check(kind)?;
    if kind == CUSTOM {
        return Ok(());
    }
    Err(Fault::bad_request(format!(
        "Currently not allowed to change storage volumes of type {kind}"
    ))
    .hint("change the instance or the image that it belongs to"))
}

pub(in crate::server) async fn put(
    State(api): State<Api>,
    Path((pool, kind, name)): Path<(String, String, String)>,
    Change { wanted: put, caller, expected }: Change<StorageVolumePut>,
) -> Answer {
    only_custom(&kind)?;
    let command = Command::ConfigureVolume {
        pool,
        name,
        description: Some(put.description.unwrap_or_default()),
        config: put.config.unwrap_or_default(),
        expected,
    };
    api.done(command, &caller).await
}

pub(in crate::server) async fn patch(
    State(api): State<Api>,
    Path((pool, kind, name)): Path<(String, String, String)>,
    Change { wanted: patch, caller, expected }: Change<StorageVolumePut>,
) -> Answer {
    only_custom(&kind)?;
    let (config, read) = api.look(|world| {
        let it = world.volume(&pool, &name)?;
        let config = merged(&it.config, patch.config.unwrap_or_default());
        let revision = world.tail(StreamId::new(StreamKind::Volume, it.id)).revision;
        Ok::<_, Fault>((config, revision))
    })?;
    let command = Command::ConfigureVolume {
        pool,
        name,
        description: patch.description,
        config,
        expected: expected.or(Some(read)),
    };
    api.done(command, &caller).await
}

pub(in crate::server) async fn rename(
    State(api): State<Api>,
    Path((pool, kind, name)): Path<(String, String, String)>,
    params: Params,
    caller: Caller,
    bytes: Bytes,
) -> Answer {
    only_custom(&kind)?;
    let to = new_name(&bytes)?;
    let path = ["storage-pools", &pool, "volumes", CUSTOM, &to];
    let location = url(&path, Some(&params.project()));
    api.settle(Command::RenameVolume { pool, name, to }, &caller).await?;
    Ok(answer::created(&location))
}

pub(in crate::server) async fn snapshots() -> Answer {
    Err(Fault::not_implemented("Snapshots of storage volumes are not supported"))
}

pub(in crate::server) async fn delete(
    State(api): State<Api>,
    Path((pool, kind, name)): Path<(String, String, String)>,
    caller: Caller,
) -> Answer {
    only_custom(&kind)?;
    api.done(Command::DeleteVolume { pool, name }, &caller).await
}
