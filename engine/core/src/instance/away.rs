//! An instance whose node nobody hears: what its node would have to do is refused at once, and what
//! needs no node is done.
//!
//! | asked for | the answer |
//! |---|---|
//! | start, stop, restart, freeze, reconfigure, rename, rebuild, snapshots, exec | refused: who is missing, and what to type |
//! | delete without force | refused |
//! | delete with force | forgotten; its node removes it when it returns |
//! | move | taken over by the node that has its copy, if its node is fenced and it is highly available; else refused |
//! | what changes nothing on a node (snapshot names and expiries) | done |

use super::{Instance, Target, observe, replicate, request::resources, work};
use crate::{
    config,
    decision::{Context, Decision},
    node::{Node, Reach},
    operation::{Class, Gain, Verb},
    rejection::Rejection,
    world::World,
};

/// # Errors
/// When nobody hears the node that would have to do something.
pub(crate) fn check_reach(world: &World, target: &Target) -> Result<(), Rejection> {
    let instance = target.find(world)?;
    refuse(world, instance).map_or(Ok(()), Err)
}

/// Why nothing can be asked of the instance's node now.
fn refuse(world: &World, instance: &Instance) -> Option<Rejection> {
    let node = world.nodes.get(&instance.node)?;
    let Err(Rejection::NotAllowed { message, hint }) = node.reachable() else { return None };
    let hint = match (node.reach, heir(world, instance)) {
        (Reach::Fenced { .. }, Some(heir)) => {
            format!("{} has its copy: stapes move {} --target {0}", heir.name, instance.name)
        }
        (Reach::Online | Reach::Unreachable { .. }, Some(heir)) => format!(
            "{} has its copy and takes it over when {1} is known to be gone; if you know that it \
             is off: stapes cluster fence {1}",
            heir.name, node.name
        ),
        (_, None) => hint,
    };
    Some(Rejection::NotAllowed { message, hint })
}

/// A move of what is on a node that nobody hears; none: its node is heard.
pub(super) fn move_away(
    world: &World,
    context: &Context,
    instance: &Instance,
    to: Option<&str>,
) -> Option<Result<Decision, Rejection>> {
    let refused = refuse(world, instance)?;
    let node = world.nodes.get(&instance.node)?;
    let is_fenced = matches!(node.reach, Reach::Fenced { .. });
    let heir = heir(world, instance).filter(|heir| is_fenced && is_meant(heir, to));
    Some(match heir {
        Some(_) => replicate::take_over(world, context, instance.id),
        None => Err(refused),
    })
}

/// The node that takes the instance over when its own is known to be gone.
fn heir<'a>(world: &'a World, instance: &Instance) -> Option<&'a Node> {
    let replica = instance.replica.filter(|_| instance.is_ha(world))?;
    world.nodes.get(&replica.node)
}

fn is_meant(node: &Node, to: Option<&str>) -> bool {
    to.is_none_or(|to| match to.strip_prefix('@') {
        Some(group) => node.groups.contains(group),
        None => node.name == to,
    })
}

/// The instance is gone from now on, whatever was under way. Its node removes what it has of it as
/// soon as it reads that; until then a guest may run there that nobody can reach.
///
/// # Errors
/// When it is protected.
pub(super) fn forget(
    world: &World,
    context: &Context,
    instance: &Instance,
) -> Result<Decision, Rejection> {
    if config::is_true(&instance.expanded(world)?.config, "security.protection.delete") {
        let hint = format!("stapes config unset {} security.protection.delete", instance.name);
        return Err(Rejection::WrongState { message: "Instance is protected", hint });
    }
    let mut decision = Decision::for_context(context);
    decision.accept(instance.project, Verb::DeleteInstance, Class::Task, resources(instance));
    let next = instance.incarnation.next();
    work::remove(&mut decision, instance, instance.node, context.operation, next);
    observe::forget(world, &mut decision, instance, "It was deleted while its node was away");
    decision.succeed(context.operation, Gain::Nothing);
    Ok(decision)
}
