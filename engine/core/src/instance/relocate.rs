//! Asking for an instance to live on another node.

use super::{
    Considered, Instance, Journey, LivePolicy, Status, Step, Target, away,
    create::reserve,
    request::{Request, append, idle, resources, wrong_state},
    transit::{self, Desk},
    work,
};
use crate::{
    config::Devices,
    decision::{Context, Decision},
    ids::NodeId,
    node::Node,
    operation::{Class, Verb},
    placement,
    port::{guest::Mobility, image::ImageKind},
    rejection::{Noun, Rejection},
    spec::IdMap,
    world::{World, missing},
};

/// Moves an instance to a node, to one of a `@group`, or to any other node. What is highly available
/// and on a node that is fenced is taken over by the one that has its copy.
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
    if let Some(taken_over) = away::move_away(world, context, instance, to) {
        return taken_over;
    }
    idle(instance)?;
    check_movable(world, instance)?;
    let (to, placement) = destination(world, instance, to)?;
    let to = world.nodes.get(&to).ok_or_else(|| missing(Noun::Node, &to.to_string()))?;
    let running = instance.status.is_up();
    let idmap = work::free_slot(world, to.id, instance.id, Some(instance.idmap))?;
    let mut journey = Journey { placement, ..Journey::new(to.id, live, running, idmap) };
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
    let slot = work::slot(to.id, idmap);
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
    if instance.unmade().is_some() {
        let hint = format!("stapes start {} makes it of its copy", instance.name);
        return Err(wrong_state("The instance was taken over and is not whole yet", hint));
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

/// The node that it goes to, and what was weighed.
///
/// # Errors
/// When there is no such node or group, or none that can take the instance.
fn destination(
    world: &World,
    instance: &Instance,
    to: Option<&str>,
) -> Result<(NodeId, Vec<Considered>), Rejection> {
    world.cluster()?;
    if let Some(name) = to
        && world.nodes.get(&instance.node).is_some_and(|node| node.name == name)
    {
        return Err(Rejection::Invalid(format!("Instance is already on cluster member {name:?}")));
    }
    let expanded = instance.expanded(world)?;
    let project = instance.project_of(world)?;
    let wanted = placement::Wanted {
        target: to,
        architecture: Some(&instance.architecture),
        pool: instance.pool,
        project,
        config: &expanded.config,
        devices: &expanded.devices,
        networks: instance.leases.values().map(|lease| lease.network).collect(),
        holders: work::holders(world, project, instance.image.as_ref(), Some(instance.node)),
        leaves: Some(instance.node),
        instance: Some(instance.id),
        bound_to: None,
    };
    placement::choose(world, &wanted)
}
