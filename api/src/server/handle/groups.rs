//! Groups of members, which `--target @NAME` names.

use std::collections::BTreeSet;

use axum::{
    extract::{Path, State},
    http::HeaderMap,
};
use bytes::Bytes;
use stapes_core::{command::Command, rejection::Noun, server::Server, world::World};

use super::{Answer, Api, Fault, answer, body, listed, not_found};
use crate::{
    server::{
        params::{Params, url},
        peer::Caller,
        show,
        submit::expected,
    },
    wire::cluster::{ClusterGroup, ClusterGroupPut},
};

fn shown(world: &World, name: &str, description: &str) -> ClusterGroup {
    let mut members: Vec<_> = world.members_of(name).map(|node| node.name.clone()).collect();
    members.sort();
    ClusterGroup { description: description.to_owned(), members, name: name.to_owned() }
}

pub(in crate::server) async fn list(State(api): State<Api>, params: Params) -> Answer {
    api.lens(&params).await?.look(|world| {
        let groups = &world.cluster()?.groups;
        listed(
            &params,
            groups.iter().map(|(name, group)| {
                let url = url(&["cluster", "groups", name], None);
                (url, move || shown(world, name, &group.description))
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
        let group = world.cluster()?.groups.get(&name);
        let group = group.ok_or_else(|| not_found(Noun::ClusterGroup, &name))?;
        let revision = world.tail(Server::stream()).revision;
        Ok(answer::tagged(shown(world, &name, &group.description), &show::etag(revision)))
    })
}

fn members(names: Option<Vec<String>>) -> Option<BTreeSet<String>> {
    names.map(|names| names.into_iter().collect())
}

pub(in crate::server) async fn create(
    State(api): State<Api>,
    caller: Caller,
    bytes: Bytes,
) -> Answer {
    let post: ClusterGroupPut = body(&bytes)?;
    if post.name.is_empty() {
        return Err(Fault::bad_request("No name provided"));
    }
    let location = url(&["cluster", "groups", &post.name], None);
    let command = Command::CreateClusterGroup {
        name: post.name,
        description: post.description.unwrap_or_default(),
        members: members(post.members).unwrap_or_default(),
    };
    api.submit(command, &caller).await?;
    Ok(answer::created(&location))
}

/// `whole`: what is absent is empty, but for the members, which `incus` leaves out to keep them.
async fn describe(
    api: &Api,
    name: String,
    caller: &Caller,
    headers: &HeaderMap,
    put: ClusterGroupPut,
    whole: bool,
) -> Answer {
    if let Some(wanted) = expected(headers)? {
        let actual = api.look(|world| world.tail(Server::stream()).revision);
        if wanted != actual {
            let (wanted, actual) = (wanted.0, actual.0);
            return Err(stapes_core::rejection::Rejection::Stale { wanted, actual }.into());
        }
    }
    let empty = || whole.then(String::new);
    let command = Command::ConfigureClusterGroup {
        name,
        description: put.description.or_else(empty),
        members: members(put.members),
    };
    api.submit(command, caller).await?;
    Ok(answer::done())
}

pub(in crate::server) async fn put(
    State(api): State<Api>,
    Path(name): Path<String>,
    caller: Caller,
    headers: HeaderMap,
    bytes: Bytes,
) -> Answer {
    describe(&api, name, &caller, &headers, body(&bytes)?, true).await
}

pub(in crate::server) async fn patch(
    State(api): State<Api>,
    Path(name): Path<String>,
    caller: Caller,
    headers: HeaderMap,
    bytes: Bytes,
) -> Answer {
    describe(&api, name, &caller, &headers, body(&bytes)?, false).await
}

pub(in crate::server) async fn rename(
    State(api): State<Api>,
    Path(name): Path<String>,
    caller: Caller,
    bytes: Bytes,
) -> Answer {
    let to = super::new_name(&bytes)?;
    let location = url(&["cluster", "groups", &to], None);
    api.submit(Command::RenameClusterGroup { name, to }, &caller).await?;
    Ok(answer::created(&location))
}

pub(in crate::server) async fn delete(
    State(api): State<Api>,
    Path(name): Path<String>,
    caller: Caller,
) -> Answer {
    api.submit(Command::DeleteClusterGroup { name }, &caller).await?;
    Ok(answer::done())
}
