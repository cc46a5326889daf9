//! Facts in the dialect's words: which `lifecycle` action a record's event is, if it is one.
//!
//! The dialect names results, not requests: what only says that something was ordered has no
//! action, and neither have the log's own bookkeeping events.

use serde_json::{Map, Value, json};
use stapes_core::{
    event::Event,
    image, instance,
    name::{self, NameKind},
    network, pool,
    port::guest::ExitCause,
    profile, project, server, volume,
};

use super::params::url;
use crate::backend::Subject;

/// What happened, to what, with what beside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Happened {
    pub(super) action: &'static str,
    pub(super) source: String,
    pub(super) name: String,
    pub(super) context: Map<String, Value>,
}

pub(super) fn happened(subject: &Subject, event: &Event) -> Option<Happened> {
    match event {
        Event::Instance(event) => instance_event(subject, event),
        Event::Image(event) => {
            let action = match event {
                image::Event::Imported { .. } => "image-created",
                image::Event::Described { .. } | image::Event::Fetched { .. } => "image-updated",
                image::Event::Deleted { .. } => "image-deleted",
            };
            Some(plain(action, "images", subject))
        }
        Event::Name(event) => alias_event(subject, event),
        Event::Profile(event) => {
            let action = match event {
                profile::Event::Created { .. } => "profile-created",
                profile::Event::Configured { .. } => "profile-updated",
                profile::Event::Renamed { from, .. } => {
                    return Some(renamed("profile-renamed", "profiles", subject, from));
                }
                profile::Event::Deleted => "profile-deleted",
            };
            Some(plain(action, "profiles", subject))
        }
        Event::Project(event) => {
            let action = match event {
                project::Event::Created { .. } => "project-created",
                project::Event::Configured { .. } => "project-updated",
                project::Event::Renamed { from, .. } => {
                    return Some(renamed("project-renamed", "projects", subject, from));
                }
                project::Event::Deleted => "project-deleted",
            };
            Some(plain(action, "projects", subject))
        }
        Event::Network(event) => {
            let action = match event {
                network::Event::Created { .. } => "network-created",
                network::Event::Configured { .. } => "network-updated",
                network::Event::Deleted => "network-deleted",
                network::Event::Ready
                | network::Event::DeleteRequested { .. }
                | network::Event::Failed { .. }
                | network::Event::NodeAsked { .. }
                | network::Event::NodeReady { .. }
                | network::Event::NodeFailed { .. }
                | network::Event::NodeGone { .. } => return None,
            };
            Some(plain(action, "networks", subject))
        }
        Event::Pool(event) => {
            let action = match event {
                pool::Event::Created { .. } => "storage-pool-created",
                pool::Event::Configured { .. } => "storage-pool-updated",
                pool::Event::Deleted => "storage-pool-deleted",
                pool::Event::Ready
                | pool::Event::DeleteRequested { .. }
                | pool::Event::Failed { .. }
                | pool::Event::NodeAsked { .. }
                | pool::Event::NodeReady { .. }
                | pool::Event::NodeFailed { .. }
                | pool::Event::NodeGone { .. } => return None,
            };
            Some(plain(action, "storage-pools", subject))
        }
        Event::Volume(event) => volume_event(subject, event),
        Event::Server(event) => server_event(event),
        Event::Node(_) | Event::Operation(_) => None,
    }
}

fn server_event(event: &server::Event) -> Option<Happened> {
    let (action, source, name) = match event {
        server::Event::Configured { .. } => ("config-updated", "/1.0".to_owned(), ""),
        server::Event::ClusterEnabled { .. } => ("cluster-enabled", "/1.0/cluster".to_owned(), ""),
        server::Event::TokenCreated { name, .. } => {
            ("cluster-token-created", "/1.0/cluster/members".to_owned(), name.as_str())
        }
        server::Event::GroupCreated { name, .. } => {
            ("cluster-group-created", url(&["cluster", "groups", name], None), name.as_str())
        }
        server::Event::GroupDescribed { name, .. } => {
            ("cluster-group-updated", url(&["cluster", "groups", name], None), name.as_str())
        }
        server::Event::GroupRenamed { to, .. } => {
            ("cluster-group-renamed", url(&["cluster", "groups", to], None), to.as_str())
        }
        server::Event::GroupDeleted { name } => {
            ("cluster-group-deleted", url(&["cluster", "groups", name], None), name.as_str())
        }
        server::Event::TokenRevoked { .. }
        | server::Event::TokenUsed { .. }
        | server::Event::CatalogGuarded => return None,
    };
    Some(Happened { action, source, name: name.to_owned(), context: Map::new() })
}

fn plain(action: &'static str, collection: &str, subject: &Subject) -> Happened {
    Happened {
        action,
        source: url(&[collection, &subject.name], subject.project.as_deref()),
        name: subject.name.clone(),
        context: Map::new(),
    }
}

fn renamed(action: &'static str, collection: &str, subject: &Subject, from: &str) -> Happened {
    let context = Map::from_iter([("old_name".to_owned(), json!(from))]);
    Happened { context, ..plain(action, collection, subject) }
}

fn instance_event(subject: &Subject, event: &instance::Event) -> Option<Happened> {
    use instance::Event as It;
    let action = match event {
        It::RootCreated => "instance-created",
        It::RootReplaced { .. } => "instance-rebuilt",
        It::Started { .. } => "instance-started",
        It::Stopped { cause, .. } => match cause {
            ExitCause::GuestShutdown => "instance-shutdown",
            ExitCause::GuestReboot => "instance-restarted",
            ExitCause::Forced
            | ExitCause::OutOfMemory
            | ExitCause::Status(_)
            | ExitCause::Signal(_)
            | ExitCause::HostReboot
            | ExitCause::LeaseExpired
            | ExitCause::Lost => "instance-stopped",
        },
        It::Frozen => "instance-paused",
        It::Unfrozen => "instance-resumed",
        It::Reconfigured(_) => "instance-updated",
        It::Renamed { from, .. } => {
            return Some(renamed("instance-renamed", "instances", subject, from));
        }
        It::Deleted => "instance-deleted",
        It::SnapshotRestored { name } => {
            let context = Map::from_iter([("snapshot".to_owned(), json!(name))]);
            return Some(Happened { context, ..plain("instance-restored", "instances", subject) });
        }
        It::SnapshotTaken { name, .. } => {
            return Some(of_snapshot("instance-snapshot-created", subject, name));
        }
        It::SnapshotDeleted { name } => {
            return Some(of_snapshot("instance-snapshot-deleted", subject, name));
        }
        It::SnapshotRenamed { from, to } => {
            let context = Map::from_iter([("old_name".to_owned(), json!(from))]);
            let it = of_snapshot("instance-snapshot-renamed", subject, to);
            return Some(Happened { context, ..it });
        }
        It::SnapshotExpirySet { name, .. } => {
            return Some(of_snapshot("instance-snapshot-updated", subject, name));
        }
        It::Moved { .. } => "instance-migrated",
        It::MoveAssessed { .. }
        | It::MoveDegraded { .. }
        | It::RoundReceived { .. }
        | It::Checkpointed { .. }
        | It::MoveAborted { .. }
        | It::Activated { .. }
        | It::Resumed
        | It::RoundsDropped
        | It::Fetched { .. }
        | It::Replicated { .. }
        | It::Created(_)
        | It::Requested { .. }
        | It::Continued { .. }
        | It::Failed { .. }
        | It::LimitsApplied
        | It::ReservationsApplied => return None,
    };
    Some(plain(action, "instances", subject))
}

fn of_snapshot(action: &'static str, subject: &Subject, snapshot: &str) -> Happened {
    let path = ["instances", &subject.name, "snapshots", snapshot];
    Happened {
        action,
        source: url(&path, subject.project.as_deref()),
        name: format!("{}/{snapshot}", subject.name),
        context: Map::new(),
    }
}

fn alias_event(subject: &Subject, event: &name::Event) -> Option<Happened> {
    let (action, name) = match event {
        name::Event::Reserved { name, .. } => ("image-alias-created", name),
        name::Event::Released { name } => ("image-alias-deleted", name),
    };
    (name.kind == NameKind::ImageAlias).then(|| Happened {
        action,
        source: url(&["images", "aliases", &name.name], subject.project.as_deref()),
        name: name.name.clone(),
        context: Map::new(),
    })
}

fn volume_event(subject: &Subject, event: &volume::Event) -> Option<Happened> {
    let action = match event {
        volume::Event::Created { .. } => "storage-volume-created",
        volume::Event::Configured { .. } => "storage-volume-updated",
        volume::Event::Renamed { .. } => "storage-volume-renamed",
        volume::Event::Deleted => "storage-volume-deleted",
        volume::Event::Ready
        | volume::Event::DeleteRequested { .. }
        | volume::Event::Failed { .. } => return None,
    };
    let (pool, name) = subject.name.split_once('/').unwrap_or(("", &subject.name));
    let path = ["storage-pools", pool, "volumes", "custom", name];
    Some(Happened {
        action,
        source: url(&path, subject.project.as_deref()),
        name: name.to_owned(),
        context: Map::new(),
    })
}
