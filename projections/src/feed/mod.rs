//! Records in words: who did what to which thing, when and why, and from what to what.
//!
//! [`entries`] is a function of a record and the world before it, so entries can be made again from
//! the log at any time and are always the same. Secret values are never shown.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use stapes_core::{
    event::Event,
    ids::{OperationId, Sequence, StreamId, StreamKind},
    name,
    record::{Actor, Recorded},
    world::World,
};
use uuid::Uuid;

use crate::subject::Subject;

mod change;
mod instance;
mod operation;
mod resource;

pub use change::{Change, HIDDEN};

/// One event, as a timeline shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    pub sequence: Sequence,
    /// The event's place in its record.
    pub index: u16,
    /// The record's.
    pub id: Uuid,
    pub time: DateTime<Utc>,
    pub actor: Actor,
    pub operation: OperationId,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub caused_by: Option<Uuid>,
    /// The user's own words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The event's type, e.g. `instance-started`.
    #[serde(rename = "type")]
    pub kind: String,
    pub subject: Subject,
    /// What happened, in one line.
    pub summary: String,
    /// From what to what.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub changes: Vec<Change>,
    /// Further timelines that it belongs to.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub also: Vec<StreamId>,
}

/// What an event says, apart from its envelope.
#[derive(Debug, Default)]
struct Said {
    summary: String,
    changes: Vec<Change>,
    also: Vec<StreamId>,
}

impl Said {
    fn plain(summary: impl Into<String>) -> Self {
        Self { summary: summary.into(), ..Self::default() }
    }

    fn changed(changes: Vec<Change>) -> Self {
        let lines: Vec<_> = changes.iter().map(ToString::to_string).collect();
        let summary =
            if lines.is_empty() { "nothing changed".to_owned() } else { lines.join(", ") };
        Self { summary, changes, also: Vec::new() }
    }
}

/// One entry for each event of the record. None for a task, and none for what only keeps decisions
/// apart: whoever reads a timeline has no use for it.
pub(crate) fn entries(recorded: &Recorded, subject: &Subject, before: &World) -> Vec<Entry> {
    let record = &recorded.record;
    let entry = |(index, event): (usize, &Event)| {
        let Said { summary, changes, also } = said(recorded, event, before)?;
        Some(Entry {
            sequence: recorded.sequence,
            index: u16::try_from(index).unwrap_or(u16::MAX),
            id: record.id,
            time: record.time,
            actor: record.actor.clone(),
            operation: record.operation,
            caused_by: record.caused_by,
            reason: record.reason.clone(),
            kind: event.type_name(),
            subject: subject.clone(),
            summary,
            changes,
            also,
        })
    };
    record.events().iter().enumerate().filter_map(entry).collect()
}

fn said(recorded: &Recorded, event: &Event, before: &World) -> Option<Said> {
    let id = recorded.stream.id;
    Some(match event {
        Event::Instance(event) => instance::said(id, event, recorded.record.events(), before),
        Event::Operation(event) => operation::said(id, event, before),
        Event::Server(event) => return resource::server(event, before),
        Event::Node(event) => resource::node(id, event, before),
        Event::Project(event) => resource::project(id, event, before),
        Event::Profile(event) => resource::profile(id, event, before),
        Event::Network(event) => resource::network(id, event, before),
        Event::Pool(event) => resource::pool(id, event, before),
        Event::Volume(event) => resource::volume(id, event, before),
        Event::Image(event) => resource::image(id, event, before),
        Event::Name(event) => named(event, before),
    })
}

/// An alias belongs to its image's timeline; other names are part of what holds them.
fn named(event: &name::Event, before: &World) -> Said {
    let (name, word, holder) = match event {
        name::Event::Reserved { name, holder, .. } => (name, "reserved", Some(*holder)),
        name::Event::Released { name } => {
            (name, "released", before.names.get(name).map(|held| held.holder))
        }
    };
    let what = match name.kind {
        name::NameKind::Project => "project name",
        name::NameKind::Profile => "profile name",
        name::NameKind::Network => "network name",
        name::NameKind::Pool => "pool name",
        name::NameKind::Volume => "volume name",
        name::NameKind::Instance => "instance name",
        name::NameKind::ImageAlias => "alias",
        name::NameKind::Address => "address",
        name::NameKind::IdMap => "id range",
        name::NameKind::Node => "member name",
    };
    let mut said = Said::plain(format!("{what} {} {word}", name.name));
    if name.kind == name::NameKind::ImageAlias {
        said.also.extend(holder.map(|holder| StreamId::new(StreamKind::Image, holder)));
    }
    said
}
