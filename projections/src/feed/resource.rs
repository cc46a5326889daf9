//! What the events of nodes, projects, profiles, networks, pools, volumes and images say.

use std::collections::BTreeMap;

use stapes_core::{
    config::{Changes, Config},
    ids::{ImageId, NetworkId, NodeId, PoolId, ProfileId, ProjectId, VolumeId},
    image, network, node,
    operation::Verb,
    pool, profile, project, server, volume,
    world::World,
};
use uuid::Uuid;

use super::{
    Said,
    change::{self, Change},
};

fn created(what: &str, name: &str, config: &Config) -> Said {
    let changes = change::replaced(&Config::new(), config);
    Said { changes, ..Said::plain(format!("{what} {name} created")) }
}

fn configured(
    before: Option<(&Config, &String)>,
    changes: &Changes,
    description: Option<&String>,
) -> Said {
    let mut all = change::config(before.map(|(config, _)| config), changes);
    all.extend(change::description(before.map(|(_, text)| text), description));
    Said::changed(all)
}

fn renamed(from: &str, to: &str) -> Said {
    Said::changed(vec![Change::new("name", Some(from), Some(to))])
}

fn failed(verb: Verb, error: &str) -> Said {
    Said::plain(format!("{} failed: {error}", verb.action()))
}

fn on_node(what: &str, node: NodeId, before: &World) -> Said {
    let name = before.nodes.get(&node).map_or("?", |node| node.name.as_str());
    Said::plain(format!("{what} {name}"))
}

pub(super) fn server(event: &server::Event, before: &World) -> Option<Said> {
    Some(match event {
        server::Event::Configured { changes } => {
            Said::changed(change::config(Some(&before.server.config), changes))
        }
        server::Event::ClusterEnabled { cluster, .. } => {
            Said::plain(format!("cluster {cluster} enabled"))
        }
        server::Event::TokenCreated { name, expires_at, .. } => {
            Said::plain(format!("join token for {name} created, valid until {expires_at}"))
        }
        server::Event::TokenRevoked { name } => {
            Said::plain(format!("join token for {name} revoked"))
        }
        server::Event::TokenUsed { name, .. } => Said::plain(format!("join token for {name} used")),
        server::Event::GroupCreated { name, .. } => Said::plain(format!("group {name} created")),
        server::Event::GroupDescribed { name, description } => {
            Said::plain(format!("group {name} described as {description:?}"))
        }
        server::Event::GroupRenamed { from, to } => {
            Said::plain(format!("group {from} renamed to {to}"))
        }
        server::Event::GroupDeleted { name } => Said::plain(format!("group {name} deleted")),
        server::Event::CatalogGuarded => return None,
    })
}

pub(super) fn node(id: Uuid, event: &node::Event, before: &World) -> Said {
    match event {
        node::Event::Started { name, boot, version, .. } => {
            let known = before.nodes.get(&NodeId(id));
            let rebooted = known.is_some_and(|known| known.boot != *boot);
            let after = if rebooted { " after a reboot" } else { "" };
            Said::plain(format!("node {name} started, version {version}{after}"))
        }
        node::Event::Joined { address, .. } => Said::plain(format!("joined at {address}")),
        node::Event::Lost => Said::plain("not heard any more"),
        node::Event::Returned => Said::plain("heard again"),
        node::Event::Fenced { proof } => Said::plain(match proof {
            node::FencingProof::LeaseExpired => "fenced: its lease has expired",
            node::FencingProof::Operator => "fenced: confirmed dead by an operator",
        }),
        node::Event::EvacuationRequested { .. } => Said::plain("evacuation requested"),
        node::Event::Evacuated => Said::plain("evacuated"),
        node::Event::EvacuationFailed { error } => {
            Said::plain(format!("evacuation failed: {error}"))
        }
        node::Event::RestoreRequested { .. } => Said::plain("restore requested"),
        node::Event::Restored => Said::plain("takes instances again"),
        node::Event::Configured { changes, description, groups, failure_domain } => {
            let known = before.nodes.get(&NodeId(id));
            let was = known.map(|it| (&it.config, &it.description));
            let mut said = configured(was, changes, description.as_ref());
            if let Some(groups) = groups {
                let text = |groups: &std::collections::BTreeSet<String>| {
                    groups.iter().cloned().collect::<Vec<_>>().join(",")
                };
                let from = known.map(|it| text(&it.groups));
                said.changes.push(Change::new("groups", from, Some(text(groups))));
            }
            if let Some(domain) = failure_domain {
                let from = known.map(|it| it.failure_domain.clone());
                said.changes.push(Change::new("failure_domain", from, Some(domain.clone())));
            }
            said
        }
        node::Event::Renamed { from, to } => renamed(from, to),
        node::Event::Removed => Said::plain("removed"),
    }
}

pub(super) fn project(id: Uuid, event: &project::Event, before: &World) -> Said {
    let known = before.projects.get(&ProjectId(id));
    match event {
        project::Event::Created { name, config, .. } => created("project", name, config),
        project::Event::Configured { changes, description } => {
            let before = known.map(|it| (&it.config, &it.description));
            configured(before, changes, description.as_ref())
        }
        project::Event::Renamed { from, to } => renamed(from, to),
        project::Event::Deleted => Said::plain("deleted"),
    }
}

pub(super) fn profile(id: Uuid, event: &profile::Event, before: &World) -> Said {
    let known = before.profiles.get(&ProfileId(id));
    match event {
        profile::Event::Created { name, config, devices, .. } => {
            let mut said = created("profile", name, config);
            let devices = devices.iter().map(|(k, v)| (k.clone(), Some(v.clone()))).collect();
            said.changes.extend(change::devices(None, &devices));
            said
        }
        profile::Event::Configured { changes, devices, description } => {
            let mut all = change::config(known.map(|it| &it.config), changes);
            all.extend(change::devices(known.map(|it| &it.devices), devices));
            let text = known.map(|it| &it.description);
            all.extend(change::description(text, description.as_ref()));
            Said::changed(all)
        }
        profile::Event::Renamed { from, to } => renamed(from, to),
        profile::Event::Deleted => Said::plain("deleted"),
    }
}

pub(super) fn network(id: Uuid, event: &network::Event, before: &World) -> Said {
    match event {
        network::Event::Created { name, config, .. } => created("network", name, config),
        network::Event::Configured { changes, description, .. } => {
            let known = before.networks.get(&NetworkId(id));
            let before = known.map(|it| (&it.config, &it.description));
            configured(before, changes, description.as_ref())
        }
        network::Event::Ready => Said::plain("ready"),
        network::Event::DeleteRequested { .. } => Said::plain("delete requested"),
        network::Event::Failed { verb, error } => failed(*verb, error),
        network::Event::NodeAsked { node, .. } => on_node("asked for on", *node, before),
        network::Event::NodeReady { node } => on_node("ready on", *node, before),
        network::Event::NodeFailed { node, error } => {
            on_node(&format!("failed ({error}) on"), *node, before)
        }
        network::Event::NodeGone { node } => on_node("removed from", *node, before),
        network::Event::Deleted => Said::plain("deleted"),
    }
}

pub(super) fn pool(id: Uuid, event: &pool::Event, before: &World) -> Said {
    match event {
        pool::Event::Created { name, driver, config, .. } => {
            created(&format!("{driver} pool"), name, config)
        }
        pool::Event::Configured { changes, description } => {
            let known = before.pools.get(&PoolId(id));
            let before = known.map(|it| (&it.config, &it.description));
            configured(before, changes, description.as_ref())
        }
        pool::Event::Ready => Said::plain("ready"),
        pool::Event::DeleteRequested { .. } => Said::plain("delete requested"),
        pool::Event::Failed { verb, error } => failed(*verb, error),
        pool::Event::NodeAsked { node, .. } => on_node("asked for on", *node, before),
        pool::Event::NodeReady { node } => on_node("ready on", *node, before),
        pool::Event::NodeFailed { node, error } => {
            on_node(&format!("failed ({error}) on"), *node, before)
        }
        pool::Event::NodeGone { node } => on_node("removed from", *node, before),
        pool::Event::Deleted => Said::plain("deleted"),
    }
}

pub(super) fn volume(id: Uuid, event: &volume::Event, before: &World) -> Said {
    match event {
        volume::Event::Created { name, config, .. } => created("volume", name, config),
        volume::Event::Configured { changes, description } => {
            let known = before.volumes.get(&VolumeId(id));
            let before = known.map(|it| (&it.config, &it.description));
            configured(before, changes, description.as_ref())
        }
        volume::Event::Renamed { from, to } => renamed(from, to),
        volume::Event::Ready => Said::plain("ready"),
        volume::Event::DeleteRequested { .. } => Said::plain("delete requested"),
        volume::Event::Failed { verb, error } => failed(*verb, error),
        volume::Event::Deleted => Said::plain("deleted"),
    }
}

pub(super) fn image(id: Uuid, event: &image::Event, before: &World) -> Said {
    match event {
        image::Event::Imported { facts, .. } => {
            let mib = facts.size_bytes.div_ceil(1 << 20);
            Said::plain(format!("image {} imported, {mib} MiB", &facts.fingerprint.as_str()[..12]))
        }
        image::Event::Described { properties, public, auto_update, profiles, expires_at } => {
            let Some(known) = before.images.get(&ImageId(id)) else {
                return Said::plain("described");
            };
            let mut changes = properties_changed(&known.properties, properties);
            for (what, from, to) in [
                ("public", known.public, *public),
                ("auto_update", known.auto_update, *auto_update),
            ] {
                if from != to {
                    changes.push(Change::new(what, Some(from.to_string()), Some(to.to_string())));
                }
            }
            if known.profiles != *profiles {
                changes.push(change::list("profiles", Some(&known.profiles), profiles));
            }
            if known.expires_at != *expires_at {
                let text = |at: Option<chrono::DateTime<chrono::Utc>>| at.map(|at| at.to_rfc3339());
                changes.push(Change::new("expires_at", text(known.expires_at), text(*expires_at)));
            }
            Said::changed(changes)
        }
        image::Event::Fetched { node } => on_node("fetched by", *node, before),
        image::Event::Deleted { fingerprint } => {
            Said::plain(format!("image {} deleted", &fingerprint.as_str()[..12]))
        }
    }
}

fn properties_changed(
    from: &BTreeMap<String, String>,
    to: &BTreeMap<String, String>,
) -> Vec<Change> {
    let mut changes = change::replaced(from, to);
    for change in &mut changes {
        change.what = format!("properties.{}", change.what);
    }
    changes
}
