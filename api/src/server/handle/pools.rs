//! Storage pools.

use axum::extract::{Path, State};
use bytes::Bytes;
use stapes_core::{
    command::Command,
    ids::{StreamId, StreamKind},
};

use super::{Answer, Api, Fault, answer, body, listed};
use crate::{
    server::{
        change::{Change, merged},
        params::{Params, url},
        peer::Caller,
        show,
    },
    wire::storage::{Amounts, StoragePoolPut, StoragePoolResources},
};

pub(in crate::server) async fn list(State(api): State<Api>, params: Params) -> Answer {
    api.lens(&params).await?.look(|world| {
        let mut pools: Vec<_> = world.pools.values().collect();
        pools.sort_by(|one, other| one.name.cmp(&other.name));
        listed(
            &params,
            pools
                .into_iter()
                .map(|it| (url(&["storage-pools", &it.name], None), move || show::pool(world, it))),
        )
    })
}

pub(in crate::server) async fn get(
    State(api): State<Api>,
    Path(name): Path<String>,
    params: Params,
) -> Answer {
    api.lens(&params).await?.look(|world| {
        let it = world.pool(&name)?;
        let revision = world.tail(StreamId::new(StreamKind::Pool, it.id)).revision;
        Ok(answer::tagged(show::pool(world, it), &show::etag(revision)))
    })
}

pub(in crate::server) async fn create(
    State(api): State<Api>,
    params: Params,
    caller: Caller,
    bytes: Bytes,
) -> Answer {
    let post: StoragePoolPut = body(&bytes)?;
    if post.name.is_empty() {
        return Err(Fault::bad_request("No name provided"));
    }
    if post.driver.is_empty() {
        return Err(Fault::bad_request("No driver provided").hint("btrfs or dir"));
    }
    let location = url(&["storage-pools", &post.name], None);
    let config = post.config.clone().unwrap_or_default();
    if api.look(|world| params.for_one_member(world, &config))? {
        return Ok(answer::created(&location));
    }
    let command = Command::CreatePool {
        name: post.name,
        driver: post.driver,
        description: post.description.unwrap_or_default(),
        config: post.config.unwrap_or_default(),
    };
    api.settle(command, &caller).await?;
    Ok(answer::created(&location))
}

pub(in crate::server) async fn put(
    State(api): State<Api>,
    Path(name): Path<String>,
    Change { wanted: put, caller, expected }: Change<StoragePoolPut>,
) -> Answer {
    let command = Command::ConfigurePool {
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
    Change { wanted: patch, caller, expected }: Change<StoragePoolPut>,
) -> Answer {
    let (config, read) = api.look(|world| {
        let it = world.pool(&name)?;
        let config = merged(&it.config, patch.config.unwrap_or_default());
        let revision = world.tail(StreamId::new(StreamKind::Pool, it.id)).revision;
        Ok::<_, Fault>((config, revision))
    })?;
    let command = Command::ConfigurePool {
        name,
        description: patch.description,
        config,
        expected: expected.or(Some(read)),
    };
    api.done(command, &caller).await
}

pub(in crate::server) async fn delete(
    State(api): State<Api>,
    Path(name): Path<String>,
    caller: Caller,
) -> Answer {
    api.done(Command::DeletePool { name }, &caller).await
}

pub(in crate::server) async fn resources(
    State(api): State<Api>,
    Path(name): Path<String>,
) -> Answer {
    let pool = api.look(|world| world.pool(&name).map(|it| it.id))?;
    let usage = api.drivers.storage.pool_usage(pool).await?;
    Ok(answer::sync(StoragePoolResources {
        space: Amounts { used: usage.used_bytes, total: usage.total_bytes },
        inodes: Amounts::default(),
    }))
}
