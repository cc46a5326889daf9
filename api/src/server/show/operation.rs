//! Operations, under way and ended.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};
use stapes_core::{
    instance::Step,
    operation::{Class, Gain, Operation, Resource, ResourceKind, Status, Verb},
    world::World,
};

use super::{NO_MEMBER, project_name};
use crate::{
    server::params::url,
    wire::{StatusCode, operation},
};

/// `live` is what only this process knows of it: secrets, the environment of a program.
pub(in crate::server) fn operation(
    world: &World,
    it: &Operation,
    live: Option<Map<String, Value>>,
) -> operation::Operation {
    let status = match &it.status {
        Status::Running => StatusCode::RUNNING,
        Status::Succeeded(_) => StatusCode::SUCCESS,
        Status::Failed(_) => StatusCode::FAILURE,
        Status::Cancelled => StatusCode::CANCELLED,
    };
    let project = project_name(world, it.project);
    let live = with_progress(live, progress(world, it));
    let mut resources: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for resource in &it.resources {
        let urls = resources.entry(group(resource.kind).to_owned()).or_default();
        urls.push(resource_url(resource, &project));
    }
    operation::Operation {
        id: it.id.to_string(),
        class: match it.class {
            Class::Task => "task",
            Class::Websocket => "websocket",
        }
        .to_owned(),
        description: it.verb.description().to_owned(),
        created_at: it.accepted_at.into(),
        updated_at: it.ended_at.unwrap_or(it.accepted_at).into(),
        status: status.name().to_owned(),
        status_code: status,
        resources,
        metadata: metadata_of(it, live),
        may_cancel: false,
        err: match &it.status {
            Status::Failed(error) => error.clone(),
            Status::Cancelled => "Operation cancelled".to_owned(),
            Status::Running | Status::Succeeded(_) => String::new(),
        },
        location: NO_MEMBER.to_owned(),
    }
}

fn with_progress(
    live: Option<Map<String, Value>>,
    progress: Option<String>,
) -> Option<Map<String, Value>> {
    let Some(progress) = progress else { return live };
    let mut live = live.unwrap_or_default();
    // Clients of the dialect show what ends so.
    live.insert("move_progress".to_owned(), json!(progress));
    Some(live)
}

/// How far a move is. It is in the log, so that every member can tell.
fn progress(world: &World, it: &Operation) -> Option<String> {
    if it.status != Status::Running || it.verb != Verb::MoveInstance {
        return None;
    }
    let resource = it.resources.iter().find(|one| one.kind == ResourceKind::Instance)?;
    let instance = world.instance(&project_name(world, it.project), &resource.name).ok()?;
    let job = instance.job.as_ref().filter(|job| job.operation == it.id)?;
    let journey = job.journey.as_ref()?;
    #[allow(clippy::wildcard_enum_match_arm, reason = "no other step is part of a move")]
    let doing = match job.steps.first()? {
        Step::Assess => "looking how it can move".to_owned(),
        Step::Receive { last: false, .. } => {
            format!("sending while it runs, round {}", journey.rounds.len() + 1)
        }
        Step::Stop { .. } => "stopping it".to_owned(),
        Step::Receive { last: true, .. } => "sending the rest".to_owned(),
        Step::Checkpoint => "freezing it and writing it down".to_owned(),
        Step::RestoreLive { .. } => "bringing it to life there".to_owned(),
        Step::Activate => "connecting it".to_owned(),
        Step::Start => "starting it".to_owned(),
        Step::Resume => "going on where it was".to_owned(),
        _ => return None,
    };
    Some(format!("{doing} ({} MiB sent)", journey.bytes >> 20))
}

fn metadata_of(it: &Operation, live: Option<Map<String, Value>>) -> Option<Map<String, Value>> {
    let mut metadata = live.unwrap_or_default();
    if !it.command.is_empty() && !metadata.contains_key("command") {
        metadata.insert("command".to_owned(), json!(it.command));
    }
    match &it.status {
        Status::Succeeded(Gain::Exit { status }) => {
            metadata.insert("return".to_owned(), json!(status));
        }
        Status::Succeeded(Gain::Image { fingerprint, size_bytes }) => {
            metadata.insert("fingerprint".to_owned(), json!(fingerprint.as_str()));
            // A string, as every value that clients may print.
            metadata.insert("size".to_owned(), json!(size_bytes.to_string()));
        }
        Status::Succeeded(Gain::Moved { mode, downtime_ms, bytes }) => {
            metadata.insert("mode".to_owned(), json!(mode));
            metadata.insert("downtime_ms".to_owned(), json!(downtime_ms.to_string()));
            metadata.insert("bytes".to_owned(), json!(bytes.to_string()));
        }
        Status::Succeeded(Gain::Nothing)
        | Status::Running
        | Status::Failed(_)
        | Status::Cancelled => {}
    }
    (!metadata.is_empty()).then_some(metadata)
}

/// The key of a kind of things in `resources`.
const fn group(kind: ResourceKind) -> &'static str {
    match kind {
        ResourceKind::Instance => "instances",
        ResourceKind::Snapshot => "instances_snapshots",
        ResourceKind::Image => "images",
        ResourceKind::Pool => "storage_pools",
        ResourceKind::Network => "networks",
        ResourceKind::Volume => "storage_volumes",
        ResourceKind::Node => "cluster_members",
    }
}

fn resource_url(resource: &Resource, project: &str) -> String {
    let (first, second) = resource.name.split_once('/').unwrap_or((&resource.name, ""));
    match resource.kind {
        ResourceKind::Instance => url(&["instances", &resource.name], Some(project)),
        ResourceKind::Snapshot => url(&["instances", first, "snapshots", second], Some(project)),
        ResourceKind::Image => url(&["images", &resource.name], Some(project)),
        ResourceKind::Pool => url(&["storage-pools", &resource.name], None),
        ResourceKind::Network => url(&["networks", &resource.name], Some(project)),
        ResourceKind::Node => url(&["cluster", "members", &resource.name], None),
        ResourceKind::Volume => {
            url(&["storage-pools", first, "volumes", "custom", second], Some(project))
        }
    }
}
