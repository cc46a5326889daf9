//! Copies of instances on other nodes, and what becomes of them when the instance's node is lost.
//!
//! A replica is the newest snapshot that both nodes have; the next one is sent as the difference to
//! it. Nobody waits for a replica: the job makes way for any other.

use std::time::Duration;

use super::{
    Event, Instance, Journey, LivePolicy, Replica, Status, Step,
    create::reserve,
    journey::round,
    observe::{advance, carry_on, end},
    relocate,
    request::{Request, append, is_background, resources},
    transit::{self, Desk},
    work,
};
use crate::{
    decision::{Context, Decision},
    ids::{InstanceId, NodeId, SnapshotId},
    name,
    node::{Node, Reach},
    operation::{Class, Verb},
    port::guest::{ExitCause, Mobility},
    rejection::{Noun, Rejection},
    spec::{Incarnation, RootSource},
    world::{World, missing},
};

/// Brings the copy on the node that `replication.target` names up to date. Nothing happens when
/// there is no wish for one, or it cannot be done now.
///
/// # Errors
/// When the wish cannot be fulfilled: no such node, or something that no other node can have.
pub fn replicate(world: &World, context: &Context, id: InstanceId) -> Result<Decision, Rejection> {
    let mut decision = Decision::for_context(context);
    let instance =
        world.instances.get(&id).ok_or_else(|| missing(Noun::Instance, &id.to_string()))?;
    let expanded = instance.expanded(world)?;
    let wish = expanded.config.get("replication.target").filter(|name| !name.is_empty());
    let Some(name) = wish else { return Ok(decision) };
    let to = world.nodes.values().find(|node| node.name == *name);
    let to = to.ok_or_else(|| missing(Noun::Node, name))?;
    if let Some((device, why)) = relocate::stationary(&expanded.devices) {
        return Err(Rejection::NotAllowed {
            message: format!("Instance cannot be replicated: its device {device:?} is {why}"),
            hint: format!("stapes config device remove {} {device}", instance.name),
        });
    }
    let whole = instance.status != Status::Creating && instance.unmade().is_none();
    let ready = instance.job.is_none() && whole;
    let here = world.nodes.get(&instance.node).is_some_and(Node::is_online);
    if !ready || !here || !to.is_online() || to.id == instance.node {
        return Ok(decision);
    }
    let mut journey = Journey::new(to.id, LivePolicy::Never, false, instance.idmap);
    journey.base =
        instance.replica.filter(|replica| replica.node == to.id).map(|replica| replica.snapshot);
    let round = round(context.operation, Mobility::StopCopy, 0);
    let steps = vec![Step::Receive { round, last: false }];
    decision.accept(instance.project, Verb::ReplicateInstance, Class::Task, resources(instance));
    let desk = &mut Desk { world, context, decision: &mut decision };
    let journey = Some(Box::new(journey));
    append(desk, instance, Request { verb: Verb::ReplicateInstance, steps, journey }, Vec::new())?;
    Ok(decision)
}

/// The other node has it.
pub(super) fn received(
    desk: &mut Desk<'_>,
    instance: &Instance,
    round: SnapshotId,
) -> Result<(), Rejection> {
    let Some((job, journey)) = replication(instance) else { return Ok(()) };
    // It was made later than it was asked for: what is as old as the request is in it.
    let asked = desk.world.operations.get(&job.operation).map(|operation| operation.accepted_at);
    let at = asked.unwrap_or(desk.context.time);
    let fact = Event::Replicated { node: journey.to, snapshot: round, at };
    advance(desk, instance, vec![fact])?;
    let incarnation = carry_on(desk.decision, instance);
    if let Some(old) = instance.replica {
        forsake(desk, instance, incarnation, (old.node, old.snapshot), Some(journey.to));
    }
    Ok(())
}

/// It stays as old as it is.
pub(super) fn failed(
    desk: &mut Desk<'_>,
    instance: &Instance,
    error: &str,
) -> Result<(), Rejection> {
    let Some(round) = round_under_way(instance) else { return Ok(()) };
    let fact = Event::Failed { verb: Verb::ReplicateInstance, error: error.to_owned() };
    desk.decision.record(instance.id.stream(), fact);
    let incarnation = carry_on(desk.decision, instance);
    forsake(desk, instance, incarnation, round, instance.replica.map(|replica| replica.node));
    end(desk.decision, instance, Err(error));
    Ok(())
}

/// What happens to a replication for which something else cannot wait.
pub(super) fn overtaken(desk: &mut Desk<'_>, instance: &Instance) -> Vec<Event> {
    let Some(round) = round_under_way(instance) else { return Vec::new() };
    let error = "Something else was asked of the instance meanwhile";
    let next = instance.incarnation.next();
    forsake(desk, instance, next, round, instance.replica.map(|replica| replica.node));
    end(desk.decision, instance, Err(error));
    let failed = Event::Failed { verb: Verb::ReplicateInstance, error: error.to_owned() };
    vec![failed, Event::Continued { generation: next.generation }]
}

/// A snapshot that is the copy no more, or never was, goes on both nodes; with it goes all that the
/// other one has of the instance, unless the copy is there.
fn forsake(
    desk: &mut Desk<'_>,
    instance: &Instance,
    incarnation: Incarnation,
    (node, snapshot): (NodeId, SnapshotId),
    copy_at: Option<NodeId>,
) {
    let Some(operation) = instance.job.as_ref().map(|job| job.operation) else { return };
    let mut drop_at = |node| {
        let rounds = vec![snapshot];
        work::drop_snapshots(desk.decision, instance, node, operation, incarnation, rounds);
    };
    drop_at(instance.node);
    if copy_at == Some(node) {
        drop_at(node);
    } else {
        work::remove(desk.decision, instance, node, operation, incarnation);
    }
}

fn replication(instance: &Instance) -> Option<(&super::Job, &Journey)> {
    let job = instance.job.as_ref().filter(|job| is_background(job))?;
    Some((job, job.journey.as_ref()?))
}

/// Where it is to come, and which it is.
fn round_under_way(instance: &Instance) -> Option<(NodeId, SnapshotId)> {
    let (job, journey) = replication(instance)?;
    match job.steps.first() {
        Some(Step::Receive { round, .. }) => Some((journey.to, *round)),
        _ => None,
    }
}

/// The instance's node is fenced: from now on it belongs to the node that has its copy, and is what
/// it was then. It runs there if it ran.
///
/// # Errors
/// When its node is not fenced, there is no copy, or the node that has it is not there either.
pub fn take_over(world: &World, context: &Context, id: InstanceId) -> Result<Decision, Rejection> {
    let instance =
        world.instances.get(&id).ok_or_else(|| missing(Noun::Instance, &id.to_string()))?;
    let replica = heir(world, instance)?;
    let mut decision = Decision::for_context(context);
    decision.accept(instance.project, Verb::TakeOverInstance, Class::Task, resources(instance));
    let idmap = work::free_slot(world, replica.node, id, Some(instance.idmap))?;
    let (old, new) = (work::slot(instance.node, instance.idmap), work::slot(replica.node, idmap));
    decision.record(old.stream(), name::Event::Released { name: old });
    decision.record(new.stream(), reserve(new, id));
    let overtaking = instance.incarnation.of_next_owner();
    work::remove(&mut decision, instance, instance.node, context.operation, overtaking);

    let mut steps = making(instance, &replica, ran(instance));
    if let Some((_, journey)) = instance.moves() {
        if journey.to == replica.node {
            // Something of it may be held there.
            steps.insert(0, Step::Stop { force: true, timeout: Duration::ZERO });
        } else {
            work::remove(&mut decision, instance, journey.to, context.operation, overtaking);
        }
    }
    let mut before = lost_with_the_node(&mut decision, context, instance, &replica);
    before.push(Event::Moved {
        from: instance.node,
        to: replica.node,
        epoch: overtaking.epoch,
        idmap,
        guest: None,
        bytes: 0,
        as_of: Some(replica.at),
        home: transit::home(world, instance, replica.node),
        steps: Vec::new(),
    });
    let desk = &mut Desk { world, context, decision: &mut decision };
    let request = Request { verb: Verb::TakeOverInstance, steps, journey: None };
    append(desk, instance, request, before)?;
    Ok(decision)
}

/// Makes the instance of its copy, on the node that has that.
pub(super) fn making(instance: &Instance, replica: &Replica, starts: bool) -> Vec<Step> {
    let source = RootSource::Volume {
        volume: instance.id.into(),
        snapshot: Some(replica.snapshot),
        image: instance.image.clone(),
    };
    let mut steps = vec![Step::CreateRoot { source }];
    steps.extend(Some(Step::Start).filter(|_| starts));
    steps.push(Step::DropRounds { rounds: vec![replica.snapshot] });
    steps
}

fn heir(world: &World, instance: &Instance) -> Result<Replica, Rejection> {
    let refused = |message: String| {
        Err(Rejection::NotAllowed { message, hint: "see: stapes cluster list".to_owned() })
    };
    let name = |node: NodeId| world.nodes.get(&node).map_or("?", |node| node.name.as_str());
    match world.nodes.get(&instance.node).map(|node| node.reach) {
        Some(Reach::Fenced { .. }) | None => {}
        Some(Reach::Online | Reach::Unreachable { .. }) => {
            let node = name(instance.node);
            return refused(format!("Cluster member {node:?} is not fenced: it may run there"));
        }
    }
    let Some(replica) = instance.replica else {
        return refused(format!("There is no copy of {:?} on another member", instance.name));
    };
    if !world.nodes.get(&replica.node).is_some_and(Node::is_online) {
        let node = name(replica.node);
        return refused(format!("Cluster member {node:?}, which has the copy, is offline"));
    }
    Ok(replica)
}

/// Whether it is wished to run.
fn ran(instance: &Instance) -> bool {
    let starts = |job: &super::Job| {
        let resumes = job.journey.as_ref().is_some_and(|journey| journey.running);
        resumes || job.steps.contains(&Step::Start)
    };
    let stops = |job: &super::Job| job.verb == Verb::StopInstance;
    match &instance.job {
        Some(job) if stops(job) => false,
        Some(job) => instance.status.is_up() || starts(job),
        None => instance.status.is_up(),
    }
}

/// The job under way, the guest, and the snapshots that are younger than the copy.
fn lost_with_the_node(
    decision: &mut Decision,
    context: &Context,
    instance: &Instance,
    replica: &Replica,
) -> Vec<Event> {
    let mut events = Vec::new();
    if let Some(job) = &instance.job {
        let error = "The cluster member was lost".to_owned();
        for operation in job.overtaken.iter().chain([&job.operation]) {
            decision.fail(*operation, &error);
        }
        if let Some((_, journey)) =
            instance.moves().filter(|_| instance.phase() == Some(super::Phase::Leaving))
        {
            let slot = work::slot(journey.to, journey.idmap);
            decision.record(slot.stream(), name::Event::Released { name: slot });
        }
        events.push(Event::Failed { verb: job.verb, error });
    }
    if instance.status.is_up() {
        events.push(Event::Stopped { cause: ExitCause::Lost, at: context.time });
    }
    let younger = instance.snapshots.iter().filter(|(_, taken)| taken.created_at > replica.at);
    events.extend(younger.map(|(name, _)| Event::SnapshotDeleted { name: name.clone() }));
    events
}
