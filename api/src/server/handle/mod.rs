//! The handlers, one file a noun: from the request to a look or a command, and to the answer.

pub(super) mod aliases;
pub(super) mod cluster;
pub(super) mod console;
pub(super) mod create;
pub(super) mod events;
pub(super) mod exec;
pub(super) mod export;
pub(super) mod groups;
pub(super) mod images;
pub(super) mod instances;
pub(super) mod internal;
pub(super) mod log;
pub(super) mod logs;
pub(super) mod members;
pub(super) mod metrics;
pub(super) mod networks;
pub(super) mod operations;
pub(super) mod pools;
pub(super) mod profiles;
pub(super) mod projects;
pub(super) mod resources;
pub(super) mod server;
pub(super) mod snapshots;
pub(super) mod state;
pub(super) mod upload;
pub(super) mod volumes;

use bytes::Bytes;
use serde::{Serialize, de::DeserializeOwned};
use stapes_core::{
    ids::ProjectId,
    instance::Target,
    project::Project,
    world::{World, missing},
};

use super::{
    Api,
    answer::{self, Answer},
    fault::Fault,
    params::{Params, Projects, Recursion},
};
use crate::wire;

/// A request's JSON, read leniently.
pub(super) fn body<T: DeserializeOwned>(bytes: &Bytes) -> Result<T, Fault> {
    wire::decode(bytes).map_err(|error| {
        Fault::bad_request(error.to_string()).hint("the body is JSON; see the API's reference")
    })
}

fn target(params: &Params, name: String) -> Target {
    Target { project: params.project(), name }
}

/// A list as URLs or as objects. Each item says its URL and how it looks; nothing is built that
/// is not shown.
fn listed<T: Serialize>(
    params: &Params,
    items: impl Iterator<Item = (String, impl FnOnce() -> T)>,
) -> Answer {
    let filter = params.filter()?;
    let objects = params.recursion() != Recursion::Urls;
    let (mut urls, mut things) = (Vec::new(), Vec::new());
    for (url, thing) in items {
        if filter.is_none() && !objects {
            urls.push(url);
            continue;
        }
        let thing = serde_json::to_value(thing())?;
        if filter.as_ref().is_some_and(|filter| !filter.matches(&thing)) {
            continue;
        }
        if objects { things.push(thing) } else { urls.push(url) }
    }
    Ok(if objects { answer::sync(things) } else { answer::sync(urls) })
}

/// The projects that a list is of; those that keep a noun elsewhere are seen there.
fn projects<'a>(
    world: &'a World,
    wanted: &Projects,
    keeps: impl Fn(&Project) -> ProjectId,
) -> Result<Vec<(ProjectId, &'a Project)>, Fault> {
    match wanted {
        Projects::One(name) => {
            let project = world.project(name)?;
            Ok(vec![(keeps(project), project)])
        }
        Projects::All => {
            let own = world.projects.values().filter(|project| keeps(project) == project.id);
            Ok(own.map(|project| (project.id, project)).collect())
        }
    }
}

/// The new name that a `POST` asks for.
fn new_name(bytes: &Bytes) -> Result<String, Fault> {
    let rename: wire::profile::Rename = body(bytes)?;
    if rename.name.is_empty() {
        return Err(Fault::bad_request("No name provided"));
    }
    Ok(rename.name)
}

pub(super) fn not_found(noun: stapes_core::rejection::Noun, name: &str) -> Fault {
    missing(noun, name).into()
}
