//! A member is emptied for maintenance, and gets back what it had.
//!
//! The decisions here begin and end it. The moves between are commands of their own, asked for one
//! after another by the member itself (see [`crate::cluster::evacuation`]).

use serde::{Deserialize, Serialize};

use super::{Duty, Event, Node};
use crate::{
    decision::{Context, Decision},
    operation::{Class, Gain, Resource, ResourceKind, Verb},
    project::Project,
    rejection::Rejection,
    world::World,
};

/// What becomes of the instances, where their own `cluster.evacuate` does not say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Evacuation {
    /// As each instance says; what says nothing moves, alive if it can.
    #[default]
    Auto,
    LiveMigrate,
    /// Stopped, moved, started.
    Migrate,
    Stop,
    ForceStop,
}

impl Evacuation {
    /// From the words that users write. There is no state to keep of a container that is stopped.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Some(match text {
            "" | "auto" => Self::Auto,
            "live-migrate" => Self::LiveMigrate,
            "migrate" => Self::Migrate,
            "stop" | "stateful-stop" => Self::Stop,
            "force-stop" => Self::ForceStop,
            _ => return None,
        })
    }
}

fn resources(node: &Node) -> Vec<Resource> {
    vec![Resource { kind: ResourceKind::Node, name: node.name.clone() }]
}

/// # Errors
/// When it is unreachable, evacuated already, or being restored.
pub fn evacuate(
    world: &World,
    context: &Context,
    name: &str,
    mode: Evacuation,
) -> Result<Decision, Rejection> {
    world.cluster()?;
    let node = world.node(name)?;
    match node.duty {
        Duty::Evacuating { operation, .. } => {
            return Ok(Decision::join(context, operation, resources(node)));
        }
        Duty::Evacuated => {
            return Err(refused(
                format!("Cluster member {name:?} is evacuated already"),
                format!("stapes cluster restore {name}"),
            ));
        }
        Duty::Restoring { .. } => return Err(being_restored(name)),
        Duty::Serving => {}
    }
    node.reachable()?;
    let mut decision = Decision::for_context(context);
    decision.accept(Project::default_id(), Verb::EvacuateNode, Class::Task, resources(node));
    let operation = context.operation;
    decision.record(Node::stream(node.id), Event::EvacuationRequested { operation, mode });
    Ok(decision)
}

/// # Errors
/// When it is not evacuated, or unreachable.
pub fn restore(world: &World, context: &Context, name: &str) -> Result<Decision, Rejection> {
    world.cluster()?;
    let node = world.node(name)?;
    match node.duty {
        Duty::Restoring { operation } => {
            return Ok(Decision::join(context, operation, resources(node)));
        }
        Duty::Serving => {
            return Err(refused(
                format!("Cluster member {name:?} is not evacuated"),
                "see: stapes cluster list".to_owned(),
            ));
        }
        Duty::Evacuating { .. } => {
            return Err(refused(
                format!("Cluster member {name:?} is being evacuated"),
                "wait for it: stapes op list".to_owned(),
            ));
        }
        Duty::Evacuated => {}
    }
    node.reachable()?;
    let mut decision = Decision::for_context(context);
    decision.accept(Project::default_id(), Verb::RestoreNode, Class::Task, resources(node));
    let operation = context.operation;
    decision.record(Node::stream(node.id), Event::RestoreRequested { operation });
    Ok(decision)
}

/// Nothing is left to move; `failed` is what stayed, and why.
///
/// # Errors
/// When there is no such member.
pub fn finish_evacuation(
    world: &World,
    context: &Context,
    name: &str,
    failed: &[String],
) -> Result<Decision, Rejection> {
    let node = world.node(name)?;
    let mut decision = Decision::for_context(context);
    let Duty::Evacuating { operation, .. } = node.duty else { return Ok(decision) };
    decision.answer.operation = operation;
    if failed.is_empty() {
        decision.record(Node::stream(node.id), Event::Evacuated);
    } else {
        let error = list("Not evacuated, it takes instances again", failed);
        decision.record(Node::stream(node.id), Event::EvacuationFailed { error });
    }
    end(world, &mut decision, operation, "These instances stayed", failed);
    Ok(decision)
}

/// Everything is back that came back; `failed` is what did not, and why.
///
/// # Errors
/// When there is no such member.
pub fn finish_restore(
    world: &World,
    context: &Context,
    name: &str,
    failed: &[String],
) -> Result<Decision, Rejection> {
    let node = world.node(name)?;
    let mut decision = Decision::for_context(context);
    let Duty::Restoring { operation } = node.duty else { return Ok(decision) };
    decision.answer.operation = operation;
    decision.record(Node::stream(node.id), Event::Restored);
    end(world, &mut decision, operation, "These instances did not come back", failed);
    Ok(decision)
}

fn end(
    world: &World,
    decision: &mut Decision,
    operation: crate::ids::OperationId,
    what: &str,
    failed: &[String],
) {
    if !world.operations.contains_key(&operation) {
        return;
    }
    if failed.is_empty() {
        decision.succeed(operation, Gain::Nothing);
    } else {
        decision.fail(operation, list(what, failed));
    }
}

/// Failures that one text lists at most.
const LISTED_MAX: usize = 50;

fn list(what: &str, failed: &[String]) -> String {
    let listed = failed.iter().take(LISTED_MAX).map(String::as_str).collect::<Vec<_>>();
    let more = failed.len().saturating_sub(LISTED_MAX);
    let more = if more > 0 { format!("; and {more} more") } else { String::new() };
    format!("{what}: {}{more}", listed.join("; "))
}

fn being_restored(name: &str) -> Rejection {
    refused(
        format!("Cluster member {name:?} is being restored"),
        "wait for it: stapes op list".to_owned(),
    )
}

const fn refused(message: String, hint: String) -> Rejection {
    Rejection::NotAllowed { message, hint }
}
