//! What people say of a member: its name, its groups, where it stands, whether it takes instances.

use std::collections::BTreeSet;

use super::{Event, Node};
use crate::{
    cluster,
    config::{self, Config},
    decision::{Context, Decision, check_revision},
    ids::Revision,
    rejection::{Noun, Rejection},
    world::{World, missing},
};

/// # Errors
/// Says what a name may be.
pub(crate) fn check_name(name: &str) -> Result<(), Rejection> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if name.is_empty()
        || name.len() > 63
        || !name.chars().all(plain)
        || name.starts_with(['.', '-'])
    {
        let rule = "1 to 63 letters, digits, '-', '_' and '.'";
        return Err(Rejection::Invalid(format!("Invalid cluster member name {name:?}: {rule}")));
    }
    Ok(())
}

/// What is `None` stays.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Configure {
    pub description: Option<String>,
    /// The whole configuration becomes this.
    pub config: Option<Config>,
    pub groups: Option<BTreeSet<String>>,
    pub failure_domain: Option<String>,
}

/// # Errors
/// When there is no such member or group, it changed meanwhile, or the configuration is wrong.
pub fn configure(
    world: &World,
    context: &Context,
    name: &str,
    wanted: &Configure,
    expected: Option<Revision>,
) -> Result<Decision, Rejection> {
    let cluster = world.cluster()?;
    let node = world.node(name)?;
    check_revision(world, Node::stream(node.id), expected)?;
    if let Some(config) = &wanted.config {
        config::check(config::Scope::Node, config)?;
    }
    if let Some(groups) = &wanted.groups {
        if let Some(unknown) = groups.iter().find(|group| !cluster.groups.contains_key(*group)) {
            return Err(missing(Noun::ClusterGroup, unknown));
        }
        if groups.is_empty() {
            let message = "A cluster member must be in at least one group".to_owned();
            return Err(Rejection::Invalid(message));
        }
    }
    let changes =
        wanted.config.as_ref().map(|config| config::diff(&node.config, config)).unwrap_or_default();
    let description = wanted.description.clone().filter(|text| *text != node.description);
    let groups = wanted.groups.clone().filter(|groups| *groups != node.groups);
    let failure_domain = wanted.failure_domain.clone().filter(|text| *text != node.failure_domain);
    let nothing =
        description.is_none() && groups.is_none() && failure_domain.is_none() && changes.is_empty();
    let mut decision = Decision::for_context(context);
    if !nothing {
        let event = Event::Configured { changes, description, groups, failure_domain };
        decision.record(Node::stream(node.id), event);
    }
    Ok(decision)
}

/// # Errors
/// When there is no such member, or the new name is taken or wrong.
pub fn rename(
    world: &World,
    context: &Context,
    name: &str,
    to: &str,
) -> Result<Decision, Rejection> {
    world.cluster()?;
    let node = world.node(name)?;
    check_name(to)?;
    let mut decision = Decision::for_context(context);
    if node.name == to {
        return Ok(decision);
    }
    if world.node(to).is_ok() {
        return Err(cluster::taken(to));
    }
    cluster::rename_in(world, &mut decision, node, to);
    Ok(decision)
}
