//! Nodes as the dialect's members, and where things are.

use stapes_core::{
    ids::NodeId,
    node::{Duty, Node, Reach},
    world::World,
};

use super::NO_MEMBER;
use crate::wire::cluster::ClusterMember;

/// Whether the nodes make a cluster: the first of one has an address.
pub(in crate::server) fn clustered(world: &World) -> bool {
    world.nodes.values().any(|node| !node.address.is_empty())
}

/// The member's name; `none` where there is no cluster.
pub(in crate::server) fn location(world: &World, node: NodeId) -> String {
    let member = world.nodes.get(&node).filter(|_| clustered(world));
    member.map_or_else(|| NO_MEMBER.to_owned(), |node| node.name.clone())
}

/// The names of all members, in order; `none` where there is no cluster.
pub(in crate::server) fn locations(world: &World) -> Vec<String> {
    if !clustered(world) {
        return vec![NO_MEMBER.to_owned()];
    }
    let mut names: Vec<_> = world.nodes.values().map(|node| node.name.clone()).collect();
    names.sort();
    names
}

/// Whether a node can be asked now. One that stands alone always can.
pub(in crate::server) fn is_reachable(world: &World, node: NodeId) -> bool {
    world.nodes.get(&node).is_none_or(Node::is_online)
}

/// Incus' words; `Fenced` is ours.
pub(super) const fn status(node: &Node) -> &'static str {
    match (&node.reach, &node.duty) {
        (Reach::Fenced { .. }, _) => "Fenced",
        (Reach::Unreachable { .. }, _) => "Offline",
        (Reach::Online, Duty::Serving) => "Online",
        (Reach::Online, Duty::Evacuating { .. }) => "Evacuating",
        (Reach::Online, Duty::Evacuated) => "Evacuated",
        (Reach::Online, Duty::Restoring { .. }) => "Restoring",
    }
}

fn message(node: &Node, now: chrono::DateTime<chrono::Utc>) -> String {
    match (&node.reach, &node.duty) {
        (Reach::Fenced { since }, _) => {
            format!("No heartbeat for {}; what may run elsewhere does", since_then(*since, now))
        }
        (Reach::Unreachable { since }, _) => {
            format!("No heartbeat for {}", since_then(*since, now))
        }
        (Reach::Online, Duty::Serving) => "Fully operational".to_owned(),
        (Reach::Online, Duty::Evacuating { .. }) => "Its instances are leaving".to_owned(),
        (Reach::Online, Duty::Evacuated) => "Unavailable due to maintenance".to_owned(),
        (Reach::Online, Duty::Restoring { .. }) => "Its instances are coming back".to_owned(),
    }
}

/// `1m30s`, as Go writes a duration.
fn since_then(since: chrono::DateTime<chrono::Utc>, now: chrono::DateTime<chrono::Utc>) -> String {
    let seconds = (now - since).num_seconds().max(0);
    let (hours, minutes) = (seconds / 3600, seconds / 60 % 60);
    match (hours, minutes) {
        (0, 0) => format!("{seconds}s"),
        (0, _) => format!("{minutes}m{}s", seconds % 60),
        (_, _) => format!("{hours}h{minutes}m{}s", seconds % 60),
    }
}

/// `roles` are what is not on the log: which members keep a copy of it.
pub(in crate::server) fn member(
    it: &Node,
    roles: Vec<String>,
    now: chrono::DateTime<chrono::Utc>,
) -> ClusterMember {
    let failure_domain = Some(&it.failure_domain).filter(|domain| !domain.is_empty());
    ClusterMember {
        database: roles.iter().any(|role| role.starts_with("database")),
        roles,
        failure_domain: failure_domain.map_or_else(|| "default".to_owned(), String::clone),
        description: it.description.clone(),
        config: it.config.clone(),
        groups: it.groups.iter().cloned().collect(),
        server_name: it.name.clone(),
        url: format!("https://{}", it.address),
        status: status(it).to_owned(),
        message: message(it, now),
        architecture: it.architecture.clone(),
        id: it.id.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silence_is_told_as_go_writes_it() {
        let now = chrono::DateTime::UNIX_EPOCH + chrono::Duration::hours(30);
        let after = |seconds| since_then(now - chrono::Duration::seconds(seconds), now);
        assert_eq!(
            (after(9), after(90), after(3661)),
            ("9s".into(), "1m30s".into(), "1h1m1s".into())
        );
        assert_eq!(after(-5), "0s");
    }
}
