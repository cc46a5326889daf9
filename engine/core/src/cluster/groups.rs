//! Groups of members: instances may be asked for on one of a group (`--target @NAME`).

use std::collections::BTreeSet;

use super::GROUP_DEFAULT;
use crate::{
    decision::{Context, Decision},
    node::{self, Node},
    rejection::{Noun, Rejection},
    server::{self, Server},
    world::{World, missing},
};

/// Members whose groups one decision changes at most.
const CHANGED_MAX: usize = 900;

fn check_name(name: &str) -> Result<(), Rejection> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if name.is_empty() || name.len() > 63 || !name.chars().all(plain) {
        let rule = "1 to 63 letters, digits, '-', '_' and '.'";
        return Err(Rejection::Invalid(format!("Invalid cluster group name {name:?}: {rule}")));
    }
    Ok(())
}

fn find<'a>(world: &'a World, name: &str) -> Result<&'a super::Group, Rejection> {
    world.cluster()?.groups.get(name).ok_or_else(|| missing(Noun::ClusterGroup, name))
}

fn refuse_default(name: &str, verb: &str) -> Result<(), Rejection> {
    if name != GROUP_DEFAULT {
        return Ok(());
    }
    let message = format!("The {GROUP_DEFAULT:?} group cannot be {verb}");
    Err(Rejection::NotAllowed { message, hint: "stapes cluster group list".to_owned() })
}

/// # Errors
/// When this is no cluster, the name is taken or wrong, or there is no such member.
pub fn create_group(
    world: &World,
    context: &Context,
    name: &str,
    description: &str,
    members: &BTreeSet<String>,
) -> Result<Decision, Rejection> {
    let cluster = world.cluster()?;
    check_name(name)?;
    if cluster.groups.contains_key(name) {
        return Err(Rejection::AlreadyExists { noun: Noun::ClusterGroup, name: name.to_owned() });
    }
    let mut decision = Decision::for_context(context);
    let (event_name, description) = (name.to_owned(), description.to_owned());
    decision
        .record(Server::stream(), server::Event::GroupCreated { name: event_name, description });
    regroup(world, &mut decision, name, members)?;
    Ok(decision)
}

/// What is `None` stays.
///
/// # Errors
/// When there is no such group or member, or a member would be in no group.
pub fn describe_group(
    world: &World,
    context: &Context,
    name: &str,
    description: Option<&str>,
    members: Option<&BTreeSet<String>>,
) -> Result<Decision, Rejection> {
    let group = find(world, name)?;
    let mut decision = Decision::for_context(context);
    if let Some(description) = description.filter(|text| *text != group.description) {
        let (name, description) = (name.to_owned(), description.to_owned());
        decision.record(Server::stream(), server::Event::GroupDescribed { name, description });
    }
    if let Some(members) = members {
        regroup(world, &mut decision, name, members)?;
    }
    Ok(decision)
}

/// Exactly these members are in the group.
fn regroup(
    world: &World,
    decision: &mut Decision,
    group: &str,
    members: &BTreeSet<String>,
) -> Result<(), Rejection> {
    for name in members {
        world.node(name)?;
    }
    let mut changed = 0;
    for node in world.nodes.values() {
        let wanted = members.contains(&node.name);
        if wanted == node.groups.contains(group) {
            continue;
        }
        let mut groups = node.groups.clone();
        if wanted {
            groups.insert(group.to_owned());
        } else {
            groups.remove(group);
        }
        if groups.is_empty() {
            return Err(Rejection::NotAllowed {
                message: format!("Cluster member {:?} would be in no group", node.name),
                hint: format!("stapes cluster group assign {} {GROUP_DEFAULT}", node.name),
            });
        }
        changed += 1;
        if changed > CHANGED_MAX {
            return Err(Rejection::Invalid(format!("More than {CHANGED_MAX} members at once")));
        }
        let event = node::Event::Configured {
            changes: crate::config::Changes::new(),
            description: None,
            groups: Some(groups),
            failure_domain: None,
        };
        decision.record(Node::stream(node.id), event);
    }
    Ok(())
}

/// Its members follow.
///
/// # Errors
/// When there is no such group, it is the default one, or the new name is taken or wrong.
pub fn rename_group(
    world: &World,
    context: &Context,
    name: &str,
    to: &str,
) -> Result<Decision, Rejection> {
    find(world, name)?;
    refuse_default(name, "renamed")?;
    check_name(to)?;
    if find(world, to).is_ok() {
        return Err(Rejection::AlreadyExists { noun: Noun::ClusterGroup, name: to.to_owned() });
    }
    let mut decision = Decision::for_context(context);
    let (from, to) = (name.to_owned(), to.to_owned());
    decision.record(Server::stream(), server::Event::GroupRenamed { from, to });
    Ok(decision)
}

/// # Errors
/// When there is no such group, it is the default one, or a member is in it.
pub fn delete_group(world: &World, context: &Context, name: &str) -> Result<Decision, Rejection> {
    find(world, name)?;
    refuse_default(name, "deleted")?;
    if let Some(member) = world.members_of(name).next() {
        return Err(Rejection::NotAllowed {
            message: "Only empty cluster groups can be removed".to_owned(),
            hint: format!("stapes cluster group remove {} {name}", member.name),
        });
    }
    let mut decision = Decision::for_context(context);
    decision.record(Server::stream(), server::Event::GroupDeleted { name: name.to_owned() });
    Ok(decision)
}
