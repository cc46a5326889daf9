//! What the events of an operation say.

use stapes_core::{
    ids::{OperationId, StreamId},
    operation::{Class, Event, Gain, Operation, Resource, ResourceKind},
    world::World,
};
use uuid::Uuid;

use super::Said;

pub(super) fn said(id: Uuid, event: &Event, before: &World) -> Said {
    let running = before.operations.get(&OperationId(id));
    let was = |word: &str| match running {
        Some(operation) => format!("{} {word}", asked(operation)),
        None => word.to_owned(),
    };
    match event {
        Event::Accepted { .. } => {
            // The time is not said, so any will do.
            let begun = Operation::begin(event, chrono::DateTime::UNIX_EPOCH);
            let summary = begun.as_ref().map(asked).unwrap_or_default();
            Said { also: sessions(begun.as_ref(), before), ..Said::plain(summary) }
        }
        Event::Succeeded { gain } => {
            let summary = match gain {
                Gain::Nothing => was("succeeded"),
                Gain::Exit { status } => was(&format!("ended with status {status}")),
                Gain::Moved { mode, downtime_ms, bytes } => {
                    let mode = super::instance::mobility(*mode);
                    let brought = super::instance::mib(*bytes);
                    was(&format!("succeeded ({mode}, away for {downtime_ms} ms, {brought})"))
                }
                Gain::Image { fingerprint, .. } => was(&format!("gave image {fingerprint}")),
            };
            Said { also: sessions(running, before), ..Said::plain(summary) }
        }
        Event::Failed { error } => {
            let summary = was(&format!("failed: {error}"));
            Said { also: sessions(running, before), ..Said::plain(summary) }
        }
        Event::Cancelled => {
            Said { also: sessions(running, before), ..Said::plain(was("was cancelled")) }
        }
    }
}

fn asked(operation: &Operation) -> String {
    let mut words = vec![operation.verb.action()];
    words.extend(operation.resources.iter().map(|resource| resource.name.as_str()));
    let mut line = words.join(" ");
    if !operation.command.is_empty() {
        line = format!("{line}: {}", operation.command.join(" "));
    }
    line
}

/// A session has no events but its operation's, so they belong to its instance's timeline.
fn sessions(operation: Option<&Operation>, world: &World) -> Vec<StreamId> {
    let Some(operation) = operation.filter(|operation| operation.class == Class::Websocket) else {
        return Vec::new();
    };
    let Some(project) = world.projects.get(&operation.project) else { return Vec::new() };
    let instance = |resource: &Resource| {
        let is_one = resource.kind == ResourceKind::Instance;
        let found = is_one.then(|| world.instance(&project.name, &resource.name).ok()).flatten();
        found.map(|instance| instance.id.stream())
    };
    operation.resources.iter().filter_map(instance).collect()
}
