//! A member leaves for good.

use super::{Event, Node};
use crate::{
    decision::{Context, Decision},
    instance::{self, Instance},
    name,
    rejection::Rejection,
    volume::{self, Volume},
    world::World,
};

/// What is forgotten with a node in one decision at most, so that it fits in one commit.
const FORGOTTEN_MAX: usize = 100;
/// Names that a refusal lists.
const NAMED_MAX: usize = 10;

/// With `force`, what lies on it is forgotten: for a machine that will not come back.
///
/// # Errors
/// When something lies on it, or it is the last one.
pub fn remove(
    world: &World,
    context: &Context,
    name: &str,
    force: bool,
) -> Result<Decision, Rejection> {
    world.cluster()?;
    let node = world.node(name)?;
    if world.nodes.len() == 1 {
        return Err(Rejection::NotAllowed {
            message: "Cannot remove the last member of the cluster".to_owned(),
            hint: "stop the daemon instead".to_owned(),
        });
    }
    let instances: Vec<_> = world.instances_on(node.id).collect();
    let volumes: Vec<_> = world.volumes.values().filter(|it| it.node == node.id).collect();
    if !force {
        refuse_used(node, &instances, &volumes)?;
    }
    if instances.len() + volumes.len() > FORGOTTEN_MAX {
        return Err(Rejection::NotAllowed {
            message: format!(
                "{} instances and {} volumes lie on cluster member {name:?}; at most {FORGOTTEN_MAX} are forgotten with it",
                instances.len(),
                volumes.len()
            ),
            hint: "move or delete some first: stapes move, stapes delete --force".to_owned(),
        });
    }
    let mut decision = Decision::for_context(context);
    for instance in instances {
        instance::forget(world, &mut decision, instance, "its cluster member was removed");
    }
    instance::node_gone(world, context, &mut decision, node.id, instance::Gone::Removed)?;
    for volume in volumes {
        volume::forget(world, &mut decision, volume);
    }
    let held = Node::held(name);
    if world.names.contains_key(&held) {
        decision.record(held.stream(), name::Event::Released { name: held });
    }
    if let super::Duty::Evacuating { operation, .. } | super::Duty::Restoring { operation } =
        node.duty
        && world.operations.contains_key(&operation)
    {
        decision.fail(operation, "The cluster member was removed");
    }
    decision.record(Node::stream(node.id), Event::Removed);
    crate::resource::settle_without(world, &mut decision, node.id);
    Ok(decision)
}

fn refuse_used(node: &Node, instances: &[&Instance], volumes: &[&Volume]) -> Result<(), Rejection> {
    let (what, names): (_, Vec<&str>) = if instances.is_empty() {
        ("custom volumes", volumes.iter().map(|it| it.name.as_str()).collect())
    } else {
        ("instances", instances.iter().map(|it| it.name.as_str()).collect())
    };
    if names.is_empty() {
        return Ok(());
    }
    let more = if names.len() > NAMED_MAX { ", ..." } else { "" };
    let listed = names[..names.len().min(NAMED_MAX)].join(", ");
    Err(Rejection::NotAllowed {
        message: format!("Cluster member still has the following {what}: {listed}{more}"),
        hint: format!("move them away first: stapes cluster evacuate {}", node.name),
    })
}
