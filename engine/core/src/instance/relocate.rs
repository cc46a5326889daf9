//! Asking for an instance to live on another node.

use super::{
    Instance, Journey, LivePolicy, Status, Step, Target,
    create::reserve,
    request::{Request, append, idle, resources, wrong_state},
    transit::{self, Desk},
};
use crate::{
    config::Devices,
    decision::{Context, Decision},
    ids::NodeId,
    node::{Duty, Node},
    operation::{Class, Verb},
    port::{guest::Mobility, image::ImageKind},
    rejection::{Noun, Rejection},
    spec::IdMap,
    world::{World, missing},
};

/// Moves an instance to a node, to one of a `@group`, or to any other node.
///
/// # Errors
/// When it is busy or frozen, is there already, has what cannot move, or no node can take it; with
/// [`LivePolicy::Required`] also when it is known already that it cannot move while it runs.
pub fn move_to(
    world: &World,
    context: &Context,
    target: &Target,
    to: Option<&str>,
    live: LivePolicy,
) -> Result<Decision, Rejection> {
    let instance = target.find(world)?;
    idle(instance)?;
    check_movable(world, instance)?;
    let to = destination(world, instance, to)?;
    let running = instance.status.is_up();
    let idmap = super::work::free_slot(world, to.id, Some(instance.idmap))?;
    let mut journey = Journey::new(to.id, live, running, idmap);
    journey.base =
        instance.replica.filter(|replica| replica.node == to.id).map(|replica| replica.snapshot);
    let expanded = instance.expanded(world)?;
    let timeout = expanded.config.get("boot.host_shutdown_timeout");
    if let Some(seconds) = timeout.and_then(|text| text.parse().ok()) {
        journey.stop_timeout_s = seconds;
    }
    let steps = first_steps(context, instance, to, &mut journey)?;

    let mut decision = Decision::for_context(context);
    decision.accept(instance.project, Verb::MoveInstance, Class::Task, resources(instance));
    let slot = super::work::slot(to.id, idmap);
    decision.record(slot.stream(), reserve(slot, instance.id));
    let desk = &mut Desk { world, context, decision: &mut decision };
    let journey = Some(Box::new(journey));
    append(desk, instance, Request { verb: Verb::MoveInstance, steps, journey }, Vec::new())?;
    Ok(decision)
}

/// What is known before anybody looked at the guest.
fn first_steps(
    context: &Context,
    instance: &Instance,
    to: &Node,
    journey: &mut Journey,
) -> Result<Vec<Step>, Rejection> {
    if !journey.running {
        if journey.live == LivePolicy::Required {
            let hint =
                format!("stapes start {0}, or move it without asking for live", instance.name);
            return Err(wrong_state("The instance is not running", hint));
        }
        return Ok(journey.ahead(context.operation, instance.status, false));
    }
    let obstacles = live_obstacles(instance, to, journey.idmap);
    match (journey.live, obstacles.is_empty()) {
        (LivePolicy::Never, _) => Ok(journey.ahead(context.operation, instance.status, true)),
        (LivePolicy::Required, false) => Err(Rejection::NotAllowed {
            message: transit::not_live(&obstacles),
            hint: format!("stapes move {} --target {} --stateless", instance.name, to.name),
        }),
        (LivePolicy::Preferred, false) => {
            journey.reasons = obstacles;
            Ok(journey.ahead(context.operation, instance.status, true))
        }
        (LivePolicy::Required | LivePolicy::Preferred, true) => {
            journey.mode = Mobility::Live;
            Ok(vec![Step::Assess])
        }
    }
}

/// Why it cannot move while it runs, as far as no look at the guest is needed to know it.
fn live_obstacles(instance: &Instance, to: &Node, idmap: IdMap) -> Vec<String> {
    let mut obstacles = Vec::new();
    if idmap != instance.idmap {
        let base = instance.idmap.base;
        obstacles.push(format!("its host ids from {base} on are in use on {}", to.name));
    }
    if instance.kind == ImageKind::VirtualMachine {
        obstacles.push("it is a virtual machine".to_owned());
    }
    obstacles
}

/// # Errors
/// Says what of the instance another node could not give it.
fn check_movable(world: &World, instance: &Instance) -> Result<(), Rejection> {
    if let Status::Frozen { .. } = instance.status {
        let hint = format!("stapes resume {}", instance.name);
        return Err(wrong_state("The instance is frozen", hint));
    }
    let expanded = instance.expanded(world)?;
    match stationary(&expanded.devices) {
        Some((device, why)) => Err(Rejection::NotAllowed {
            message: format!("Instance cannot move: its device {device:?} is {why}"),
            hint: format!("stapes config device remove {} {device}", instance.name),
        }),
        None => Ok(()),
    }
}

/// The first device that exists on one node only.
pub(super) fn stationary(devices: &Devices) -> Option<(&str, &'static str)> {
    devices.iter().find_map(|(name, device)| {
        let is = |key: &str, value: &str| device.get(key).is_some_and(|found| found == value);
        let filled = |key: &str| device.get(key).is_some_and(|value| !value.is_empty());
        if !is("type", "disk") || is("path", "/") {
            return None;
        }
        let why = if filled("pool") {
            "a custom volume, which only its node has"
        } else {
            "a directory of its host"
        };
        Some((name.as_str(), why))
    })
}

/// # Errors
/// When there is no such node or group, or none that can take the instance.
fn destination<'a>(
    world: &'a World,
    instance: &Instance,
    to: Option<&str>,
) -> Result<&'a Node, Rejection> {
    if let Some(name) = to.filter(|name| !name.starts_with('@')) {
        let node = world.nodes.values().find(|node| node.name == name);
        let node = node.ok_or_else(|| missing(Noun::Node, name))?;
        check_node(instance, node)?;
        return Ok(node);
    }
    let group = to.map(|name| name.trim_start_matches('@'));
    let in_group = |node: &&Node| group.is_none_or(|group| node.groups.contains(group));
    let load = |node: NodeId| world.ledger.load(node).instances;
    let fits = world.nodes.values().filter(in_group);
    let fits = fits.filter(|node| check_node(instance, node).is_ok());
    fits.min_by_key(|node| (load(node.id), node.name.clone())).ok_or_else(|| {
        let among = group.map_or(String::new(), |group| format!(" of group {group:?}"));
        Rejection::NotAllowed {
            message: format!("No other cluster member{among} can take the instance now"),
            hint: "see: stapes cluster list".to_owned(),
        }
    })
}

fn check_node(instance: &Instance, node: &Node) -> Result<(), Rejection> {
    let refused = |message: String| {
        Err(Rejection::NotAllowed { message, hint: "see: stapes cluster list".to_owned() })
    };
    let name = &node.name;
    if node.id == instance.node {
        return Err(Rejection::Invalid(format!("Instance is already on cluster member {name:?}")));
    }
    if !node.is_online() {
        return refused(format!("Cluster member {name:?} is offline"));
    }
    match node.duty {
        Duty::Evacuating { .. } | Duty::Evacuated => {
            return refused(format!("Cluster member {name:?} is evacuated"));
        }
        Duty::Serving | Duty::Restoring { .. } => {}
    }
    if node.architecture != instance.architecture {
        let (has, wants) = (&node.architecture, &instance.architecture);
        return refused(format!("Cluster member {name:?} is {has}, the instance {wants}"));
    }
    Ok(())
}
