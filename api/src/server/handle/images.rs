//! Images: lists, one, changes and delete.

use axum::{
    extract::{Path, State},
    http::HeaderMap,
};
use bytes::Bytes;
use serde_json::Value;
use stapes_core::{
    command::Command,
    ids::{StreamId, StreamKind},
    image::{Describe, Image},
    world::World,
};

use super::{Answer, Api, Fault, answer, body, listed, projects};
use crate::{
    server::{
        params::{Params, url},
        peer::Caller,
        show,
        submit::expected,
    },
    wire::{Time, image::ImagePut},
};

pub(in crate::server) async fn list(State(api): State<Api>, params: Params) -> Answer {
    let wanted = params.projects()?;
    api.lens(&params).await?.look(|world| {
        let projects = projects(world, &wanted, |project| project.images_in())?;
        let mut images: Vec<_> = world
            .images
            .values()
            .filter(|image| projects.iter().any(|(id, _)| *id == image.project))
            .collect();
        images.sort_by_key(|image| (image.project, image.facts.fingerprint.clone()));
        listed(
            &params,
            images.into_iter().map(|it| {
                let fingerprint = it.facts.fingerprint.as_str();
                let url =
                    url(&["images", fingerprint], Some(&show::project_name(world, it.project)));
                (url, move || show::image(world, it))
            }),
        )
    })
}

fn etag(world: &World, image: &Image) -> String {
    show::etag(world.tail(StreamId::new(StreamKind::Image, image.id)).revision)
}

pub(in crate::server) async fn get(
    State(api): State<Api>,
    Path(name): Path<String>,
    params: Params,
) -> Answer {
    api.lens(&params).await?.look(|world| {
        let image = by_fingerprint(world, &params.project(), &name)?;
        Ok(answer::tagged(show::image(world, image), &etag(world, image)))
    })
}

/// An alias is no fingerprint here: clients resolve aliases themselves.
pub(super) fn by_fingerprint<'a>(
    world: &'a World,
    project: &str,
    fingerprint: &str,
) -> Result<&'a Image, Fault> {
    let image = world.image(project, fingerprint)?;
    if image.facts.fingerprint.as_str().starts_with(fingerprint) {
        Ok(image)
    } else {
        Err(Fault::not_found("Image not found").hint("stapes image list"))
    }
}

pub(in crate::server) async fn put(
    State(api): State<Api>,
    Path(image): Path<String>,
    params: Params,
    caller: Caller,
    headers: HeaderMap,
    bytes: Bytes,
) -> Answer {
    let put: ImagePut = body(&bytes)?;
    let wanted = Describe {
        properties: Some(put.properties),
        public: Some(put.public),
        auto_update: Some(put.auto_update),
        profiles: Some(put.profiles),
        expires_at: Some(put.expires_at.moment()),
    };
    describe(&api, params.project(), image, &caller, &headers, wanted).await
}

pub(in crate::server) async fn patch(
    State(api): State<Api>,
    Path(image): Path<String>,
    params: Params,
    caller: Caller,
    headers: HeaderMap,
    bytes: Bytes,
) -> Answer {
    let given: Value = body(&bytes)?;
    let patch: ImagePut = body(&bytes)?;
    let project = params.project();
    let has = |key: &str| given.get(key).is_some();
    let properties = if has("properties") {
        let mut all = api.look(|world| {
            by_fingerprint(world, &project, &image).map(|it| it.properties.clone())
        })?;
        all.extend(patch.properties);
        Some(all)
    } else {
        None
    };
    let wanted = Describe {
        properties,
        public: has("public").then_some(patch.public),
        auto_update: has("auto_update").then_some(patch.auto_update),
        profiles: has("profiles").then_some(patch.profiles),
        expires_at: has("expires_at").then(|| Time::moment(patch.expires_at)),
    };
    describe(&api, project, image, &caller, &headers, wanted).await
}

async fn describe(
    api: &Api,
    project: String,
    image: String,
    caller: &Caller,
    headers: &HeaderMap,
    wanted: Describe,
) -> Answer {
    let expected = expected(headers)?;
    api.look(|world| {
        let found = by_fingerprint(world, &project, &image)?;
        let stream = StreamId::new(StreamKind::Image, found.id);
        stapes_core::decision::check_revision(world, stream, expected)?;
        Ok::<_, Fault>(())
    })?;
    let command = Command::DescribeImage { project, image, wanted: Box::new(wanted) };
    api.settle(command, caller).await?;
    Ok(answer::done())
}

pub(in crate::server) async fn delete(
    State(api): State<Api>,
    Path(image): Path<String>,
    params: Params,
    caller: Caller,
) -> Answer {
    let project = params.project();
    let image = api.look(|world| {
        by_fingerprint(world, &project, &image).map(|it| it.facts.fingerprint.to_string())
    })?;
    api.begin(Command::DeleteImage { project, image }, &caller).await
}
