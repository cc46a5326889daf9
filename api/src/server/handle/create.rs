//! New instances, and old ones made anew.

use axum::{
    extract::{Path, State},
    http::{HeaderMap, header},
};
use bytes::Bytes;
use stapes_core::{
    command::Command,
    config::Config,
    instance::{Create, Source},
    port::image::ImageKind,
    world::World,
};

use super::{Answer, Api, Fault, body, target};
use crate::{
    server::{params::Params, peer::Caller, words},
    wire::instance::{InstanceRebuildPost, InstanceSource, InstancesPost},
};

pub(in crate::server) async fn post(
    State(api): State<Api>,
    params: Params,
    caller: Caller,
    headers: HeaderMap,
    bytes: Bytes,
) -> Answer {
    let target = api.look(|world| params.target(world))?;
    let kind = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    if kind == Some("application/octet-stream") {
        return Err(Fault::not_implemented("Importing instance backups is not supported"));
    }
    let post: InstancesPost = body(&bytes)?;
    let project = params.project();
    let mut config = super::instances::without_volatile(post.instance.config.unwrap_or_default());
    config.extend(size(&post.instance_type)?);
    let source = api.look(|world| source(world, &project, &post.source))?;
    let name =
        if post.name.is_empty() { api.look(|world| free_name(world, &project)) } else { post.name };
    let create = Create {
        project,
        name,
        kind: kind_of(&post.kind)?,
        ephemeral: post.instance.ephemeral.unwrap_or_default(),
        description: post.instance.description.unwrap_or_default(),
        config,
        devices: post.instance.devices.unwrap_or_default(),
        profiles: post.instance.profiles,
        source,
        start: post.start,
        target,
    };
    api.begin(Command::CreateInstance(Box::new(create)), &caller).await
}

fn kind_of(kind: &str) -> Result<ImageKind, Fault> {
    match kind {
        "" | "container" => Ok(ImageKind::Container),
        "virtual-machine" => Ok(ImageKind::VirtualMachine),
        other => Err(Fault::bad_request(format!("Invalid instance type {other:?}"))),
    }
}

fn source(world: &World, project: &str, source: &InstanceSource) -> Result<Source, Fault> {
    match source.kind.as_str() {
        "none" => Ok(Source::Empty),
        "image" => image(world, project, source).map(Source::Image),
        "copy" => {
            if source.refresh {
                return Err(Fault::not_implemented("Refreshing a copy is not supported"));
            }
            let (name, snapshot) = match source.source.split_once('/') {
                Some((name, snapshot)) => (name, Some(snapshot.to_owned())),
                None => (source.source.as_str(), None),
            };
            if name.is_empty() {
                return Err(Fault::bad_request("Must specify a source instance"));
            }
            let other = Some(&source.project).filter(|project| !project.is_empty());
            Ok(Source::Copy {
                project: other.map_or_else(|| project.to_owned(), String::clone),
                name: name.to_owned(),
                snapshot,
                instance_only: source.instance_only,
            })
        }
        "migration" => Err(Fault::not_implemented("Migration between servers is not supported")),
        "" => Err(Fault::bad_request("No source type given")),
        other => Err(Fault::bad_request(format!("Unknown source type {other}"))),
    }
}

/// The image by alias, fingerprint or properties. It must be here: the server fetches none.
fn image(world: &World, project: &str, source: &InstanceSource) -> Result<String, Fault> {
    let named = [&source.fingerprint, &source.alias].into_iter().find(|name| !name.is_empty());
    if let Some(name) = named {
        let there = world.image(project, name);
        return match there {
            Ok(image) => Ok(image.facts.fingerprint.to_string()),
            Err(_) if !source.server.is_empty() => Err(remote(source, name)),
            Err(rejection) => Err(rejection.into()),
        };
    }
    if source.properties.is_empty() {
        return Err(Fault::bad_request(
            "Must specify one of alias, fingerprint or properties for init from image",
        ));
    }
    let scope = world.project(project)?.images_in();
    let wanted = |image: &&stapes_core::image::Image| {
        let mut wanted = source.properties.iter();
        image.project == scope
            && wanted.all(|(key, value)| image.properties.get(key) == Some(value))
    };
    let newest = world.images.values().filter(wanted).max_by_key(|image| image.facts.created_at);
    let missing = || Fault::not_found("Image not found");
    newest.map(|image| image.facts.fingerprint.to_string()).ok_or_else(missing)
}

fn remote(source: &InstanceSource, name: &str) -> Fault {
    Fault::not_implemented(format!(
        "Image {name:?} is not here and is not fetched from {}",
        source.server
    ))
    .hint("import it first: stapes image import FILE --alias NAME")
    .fact("server", source.server.as_str())
}

/// `c2-m4`: two CPUs and four gigabytes.
fn size(name: &str) -> Result<Config, Fault> {
    let mut config = Config::new();
    for part in name.split('-').filter(|part| !part.is_empty()) {
        let number = part.get(1..).filter(|number| number.parse::<f64>().is_ok());
        match (part.chars().next(), number) {
            (Some('c'), Some(number)) => config.insert("limits.cpu".into(), number.into()),
            (Some('m'), Some(number)) => {
                config.insert("limits.memory".into(), format!("{number}GiB"))
            }
            _ => {
                return Err(Fault::bad_request(format!("Unknown instance type {name:?}"))
                    .hint("write it as c2-m4: two CPUs and 4 GiB"));
            }
        };
    }
    Ok(config)
}

/// A name that nobody in the project has.
fn free_name(world: &World, project: &str) -> String {
    let drawn = std::iter::repeat_with(|| words::name(uuid::Uuid::new_v4()));
    // Two thousand names and ten tries; then a number makes it certain.
    let mut tried = drawn.take(10).filter(|name| world.instance(project, name).is_err());
    tried.next().unwrap_or_else(|| {
        let id = uuid::Uuid::new_v4();
        format!("{}-{}", words::name(id), &id.simple().to_string()[..8])
    })
}

pub(in crate::server) async fn rebuild(
    State(api): State<Api>,
    Path(name): Path<String>,
    params: Params,
    caller: Caller,
    bytes: Bytes,
) -> Answer {
    let post: InstanceRebuildPost = body(&bytes)?;
    let project = params.project();
    let image = match post.source.kind.as_str() {
        "none" => None,
        "image" => Some(api.look(|world| image(world, &project, &post.source))?),
        other => return Err(Fault::bad_request(format!("Unknown source type {other:?}"))),
    };
    let command = Command::RebuildInstance { target: target(&params, name), image };
    api.begin(command, &caller).await
}

#[cfg(test)]
mod tests {
    use super::size;

    #[test]
    fn sizes_are_cpus_and_gigabytes() {
        let config = size("c2-m1.5").unwrap();
        assert_eq!(config["limits.cpu"], "2");
        assert_eq!(config["limits.memory"], "1.5GiB");
        assert!(size("").unwrap().is_empty());
        assert_eq!(size("t2.micro").unwrap_err().status, 400);
    }
}
