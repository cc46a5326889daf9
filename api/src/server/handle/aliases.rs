//! Names of images. They may have slashes.

use axum::extract::{Path, State};
use bytes::Bytes;
use stapes_core::{command::Command, rejection::Noun};

use super::{Answer, Api, Fault, answer, body, listed, new_name, not_found};
use crate::{
    server::{
        params::{Params, url},
        peer::Caller,
        show,
    },
    wire::image::{ImageAliasPut, ImageAliasesEntry},
};

pub(in crate::server) async fn list(State(api): State<Api>, params: Params) -> Answer {
    let project = params.project();
    api.lens(&params).await?.look(|world| {
        let scope = world.project(&project)?.images_in();
        let aliases = show::aliases(world, scope).into_iter();
        listed(
            &params,
            aliases.map(|alias| {
                let url = url(&["images", "aliases", &alias.name], Some(&project));
                (url, move || alias)
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
        let scope = world.project(&params.project())?.images_in();
        let alias = show::alias(world, scope, &name);
        alias.map(answer::sync).ok_or_else(|| not_found(Noun::ImageAlias, &name))
    })
}

pub(in crate::server) async fn create(
    State(api): State<Api>,
    params: Params,
    caller: Caller,
    bytes: Bytes,
) -> Answer {
    let post: ImageAliasesEntry = body(&bytes)?;
    if post.name.is_empty() || post.target.is_empty() {
        return Err(Fault::bad_request("name and target are required"));
    }
    let project = params.project();
    let location = url(&["images", "aliases", &post.name], Some(&project));
    let command = Command::CreateImageAlias {
        project,
        alias: post.name,
        image: post.target,
        description: post.description,
    };
    api.submit(command, &caller).await?;
    Ok(answer::created(&location))
}

pub(in crate::server) async fn put(
    State(api): State<Api>,
    Path(alias): Path<String>,
    params: Params,
    caller: Caller,
    bytes: Bytes,
) -> Answer {
    let put: ImageAliasPut = body(&bytes)?;
    let command = Command::ChangeImageAlias {
        project: params.project(),
        alias,
        rename: None,
        image: put.target.filter(|target| !target.is_empty()),
        description: put.description,
    };
    api.submit(command, &caller).await?;
    Ok(answer::done())
}

pub(in crate::server) async fn rename(
    State(api): State<Api>,
    Path(alias): Path<String>,
    params: Params,
    caller: Caller,
    bytes: Bytes,
) -> Answer {
    let to = new_name(&bytes)?;
    let location = url(&["images", "aliases", &to], Some(&params.project()));
    let command = Command::ChangeImageAlias {
        project: params.project(),
        alias,
        rename: Some(to),
        image: None,
        description: None,
    };
    api.submit(command, &caller).await?;
    Ok(answer::created(&location))
}

pub(in crate::server) async fn delete(
    State(api): State<Api>,
    Path(alias): Path<String>,
    params: Params,
    caller: Caller,
) -> Answer {
    api.submit(Command::DeleteImageAlias { project: params.project(), alias }, &caller).await?;
    Ok(answer::done())
}
