//! What is decided while an instance is on its way to another node: from the reports of both nodes
//! to the point of no return, or back.
//!
//! A failure before that point brings the instance back to what it was; one after it cannot any
//! more. What either node keeps of the other's is removed by tasks that nobody waits for: their
//! reports are nobody's step.

use std::time::Duration;

use super::{
    Event, Instance, Job, Journey, LivePolicy, Phase, Status, Step,
    observe::{advance, carry_on, end, order_step},
    replicate,
    request::is_background,
    work,
};
use crate::{
    decision::{Context, Decision},
    ids::NodeId,
    name,
    node::Duty,
    port::guest::{Mobility, Preflight, Running},
    rejection::Rejection,
    world::World,
};

type Decided = Result<(), Rejection>;

/// What a decision is made from and written to, together.
pub(super) struct Desk<'a> {
    pub world: &'a World,
    pub context: &'a Context,
    pub decision: &'a mut Decision,
}

/// How it could move, said by the node it is on.
pub(super) fn assessed(desk: &mut Desk<'_>, instance: &Instance, found: &Preflight) -> Decided {
    let Some((job, journey)) = instance.moves() else { return Ok(()) };
    if found.verdict != Mobility::Live && journey.live == LivePolicy::Required {
        return abort(desk, instance, &not_live(&found.reasons));
    }
    let planned = Journey { mode: found.verdict, ..journey.clone() };
    let steps = planned.ahead(job.operation, instance.status, true);
    let fact = Event::MoveAssessed { mode: found.verdict, reasons: found.reasons.clone(), steps };
    advance(desk, instance, vec![fact])
}

pub(super) fn not_live(reasons: &[String]) -> String {
    let reasons =
        if reasons.is_empty() { "no reason given".to_owned() } else { reasons.join("; ") };
    format!("It cannot move while it runs: {reasons}")
}

/// A round came over. With the last one it is the other node's.
pub(super) fn received(
    desk: &mut Desk<'_>,
    instance: &Instance,
    step: &Step,
    bytes: u64,
) -> Decided {
    let (Step::Receive { round, last }, Some((job, journey))) = (step, instance.moves()) else {
        return Ok(());
    };
    if *last {
        return moved(desk, instance, None, bytes);
    }
    let mut planned = journey.clone();
    planned.rounds.push(*round);
    let another = planned.wants_another(bytes);
    let steps = planned.ahead(job.operation, instance.status, another);
    advance(desk, instance, vec![Event::RoundReceived { round: *round, bytes, steps }])
}

/// The point of no return. `alive`: the guest that was restored there.
pub(super) fn moved(
    desk: &mut Desk<'_>,
    instance: &Instance,
    alive: Option<&Running>,
    bytes: u64,
) -> Decided {
    let Some((job, journey)) = instance.moves() else { return Ok(()) };
    let overtaking = instance.incarnation.of_next_owner();
    let steps = match alive {
        Some(_) => vec![Step::Activate],
        None if journey.running => vec![Step::Start],
        // It ended by itself on the way.
        None if instance.ephemeral && journey.away_since.is_some() => vec![Step::Delete],
        None => Vec::new(),
    };
    let (from, to) = (instance.node, journey.to);
    let fact = Event::Moved {
        from,
        to,
        epoch: overtaking.epoch,
        idmap: journey.idmap,
        guest: alive.map(|running| (running.pid, running.incarnation)),
        bytes,
        as_of: None,
        home: home(desk.world, instance, to),
        steps,
    };
    release_slot(desk.decision, from, instance);
    work::remove(desk.decision, instance, from, job.operation, overtaking);
    advance(desk, instance, vec![fact])
}

/// Where it goes back to one day: whoever leaves a node because that is evacuated returns.
pub(super) fn home(world: &World, instance: &Instance, to: NodeId) -> Option<NodeId> {
    let duty = world.nodes.get(&instance.node).map(|node| node.duty);
    match duty {
        Some(Duty::Evacuating { .. } | Duty::Evacuated) => {
            Some(instance.home.unwrap_or(instance.node)).filter(|home| *home != to)
        }
        Some(Duty::Serving | Duty::Restoring { .. }) | None => None,
    }
}

/// The host ids that the instance holds on a node are free.
fn release_slot(decision: &mut Decision, node: NodeId, instance: &Instance) {
    let name = work::slot(node, instance.idmap);
    decision.record(name.stream(), name::Event::Released { name });
}

/// A step of a move failed.
pub(super) fn failed(
    desk: &mut Desk<'_>,
    instance: &Instance,
    step: &Step,
    error: &str,
) -> Decided {
    let Some((job, journey)) = instance.moves() else { return Ok(()) };
    match (instance.phase(), step) {
        (Some(Phase::Leaving), Step::Assess | Step::Checkpoint | Step::RestoreLive { .. })
            if journey.live != LivePolicy::Required =>
        {
            degrade(desk, instance, step, error)
        }
        (Some(Phase::Leaving), _) => abort(desk, instance, error),
        (Some(Phase::Returning), Step::Resume) | (Some(Phase::Arrived), Step::Activate) => {
            start_anew(desk, instance, error)
        }
        (Some(Phase::Returning), _) => {
            let first = journey.error.as_deref().unwrap_or_default();
            let error = format!("{first}; and it could not be brought back: {error}");
            give_up(desk, instance, job, &error)
        }
        (Some(Phase::Arrived) | None, _) => {
            let error = format!("It moved, but does not run there: {error}");
            give_up(desk, instance, job, &error)
        }
    }
}

/// What does not work while it runs is done with a stop.
fn degrade(desk: &mut Desk<'_>, instance: &Instance, step: &Step, error: &str) -> Decided {
    let Some((job, journey)) = instance.moves() else { return Ok(()) };
    let mode = Mobility::NearLive;
    let planned = Journey { mode, ..journey.clone() };
    let mut steps = Vec::new();
    if matches!(step, Step::RestoreLive { .. }) && instance.status.is_up() {
        steps.push(Step::Resume);
    }
    steps.extend(planned.ahead(job.operation, instance.status, planned.rounds.is_empty()));
    advance(desk, instance, vec![Event::MoveDegraded { mode, reason: error.to_owned(), steps }])
}

/// What is held and cannot be let go, where it is to stay, is started instead.
fn start_anew(desk: &mut Desk<'_>, instance: &Instance, error: &str) -> Decided {
    let steps = vec![Step::Stop { force: true, timeout: Duration::ZERO }, Step::Start];
    let (mode, reason) = (Mobility::NearLive, error.to_owned());
    advance(desk, instance, vec![Event::MoveDegraded { mode, reason, steps }])
}

/// It stays where it is, and becomes what it was.
pub(super) fn abort(desk: &mut Desk<'_>, instance: &Instance, error: &str) -> Decided {
    let Some((job, journey)) = instance.moves() else { return Ok(()) };
    let (steps, landed) = (way_back(instance, job, journey), job.has_landed());
    let fact = Event::MoveAborted { error: error.to_owned(), steps };
    let mut after = instance.clone();
    after.evolve(&fact, desk.context.time);
    desk.decision.record(instance.id.stream(), fact);
    let slot = work::slot(journey.to, journey.idmap);
    desk.decision.record(slot.stream(), name::Event::Released { name: slot });

    after.incarnation = carry_on(desk.decision, &after);
    if landed {
        work::remove(desk.decision, instance, journey.to, job.operation, after.incarnation);
    }
    let next = after.job.as_ref().and_then(|job| job.steps.first());
    match next {
        Some(step) => order_step(desk, &after, step),
        None => {
            if landed {
                drop_rounds(desk.decision, &after, job);
            }
            end(desk.decision, instance, Err(error));
            Ok(())
        }
    }
}

/// What brings the instance back to what it was before the move.
fn way_back(instance: &Instance, job: &Job, journey: &Journey) -> Vec<Step> {
    let held = matches!(
        job.steps.first(),
        Some(Step::Checkpoint | Step::RestoreLive { .. } | Step::Resume)
    );
    match instance.status {
        Status::Running { .. } | Status::Frozen { .. } if held => vec![Step::Resume],
        Status::Stopped if journey.running => vec![Step::Start],
        Status::Creating | Status::Stopped | Status::Running { .. } | Status::Frozen { .. } => {
            Vec::new()
        }
    }
}

/// The job ends badly, where the instance is.
fn give_up(desk: &mut Desk<'_>, instance: &Instance, job: &Job, error: &str) -> Decided {
    let fact = Event::Failed { verb: job.verb, error: error.to_owned() };
    desk.decision.record(instance.id.stream(), fact);
    sweep(desk.decision, instance, job);
    end(desk.decision, instance, Err(error));
    Ok(())
}

/// After a journey: the snapshots that were only made for it go.
pub(super) fn sweep(decision: &mut Decision, after: &Instance, job: &Job) {
    let mut swept = after.clone();
    swept.incarnation = carry_on(decision, after);
    drop_rounds(decision, &swept, job);
}

/// Orders the removal of a journey's snapshots from the instance's node, at its incarnation. What a
/// replica builds on stays for as long as there is one.
fn drop_rounds(decision: &mut Decision, instance: &Instance, job: &Job) {
    let kept = instance.replica.map(|replica| replica.snapshot);
    let rounds = job.possible_rounds().into_iter().filter(|round| Some(*round) != kept);
    let Instance { node, incarnation, .. } = *instance;
    work::drop_snapshots(decision, instance, node, job.operation, incarnation, rounds.collect());
}

/// How a node is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Gone {
    Lost,
    /// What was on it is forgotten elsewhere.
    Removed,
}

/// What waits for a node that is gone, and can still be called off, is.
///
/// # Errors
/// When what brings an instance back cannot be specified any more.
pub(crate) fn node_gone(
    world: &World,
    context: &Context,
    decision: &mut Decision,
    node: NodeId,
    gone: Gone,
) -> Decided {
    let desk = &mut Desk { world, context, decision };
    let why = match gone {
        Gone::Lost => "was lost in the middle",
        Gone::Removed => "was removed in the middle",
    };
    let stays = |instance: &&Instance| instance.node != node || gone == Gone::Lost;
    for instance in world.instances.values().filter(stays) {
        call_off(desk, instance, node, why)?;
    }
    Ok(())
}

/// A job that needs the node on its way to another, or from there, is not waited for.
fn call_off(desk: &mut Desk<'_>, instance: &Instance, node: NodeId, why: &str) -> Decided {
    let Some(job) = &instance.job else { return Ok(()) };
    let (Some(journey), Some(step)) = (&job.journey, job.steps.first()) else { return Ok(()) };
    if node != instance.node && node != journey.to {
        return Ok(());
    }
    let name = desk.world.nodes.get(&node).map_or("?", |node| node.name.as_str());
    let error = format!("Cluster member {name:?} {why}");
    if is_background(job) {
        return replicate::failed(desk, instance, &error);
    }
    // A stop that is under way ends somehow, and only then it is known what is to be undone.
    let stops = matches!(step, Step::Stop { .. });
    if instance.phase() == Some(Phase::Leaving) && !stops {
        abort(desk, instance, &error)?;
    }
    Ok(())
}

/// A node holds a guest for which nothing came for too long.
///
/// # Errors
/// As [`node_gone`].
pub fn observe_overheld(
    world: &World,
    context: &Context,
    node: NodeId,
    held: &Running,
) -> Result<Decision, Rejection> {
    let mut decision = Decision::for_context(context);
    let Some(instance) = world.instances.get(&held.instance) else { return Ok(decision) };
    let Some((job, _)) = instance.moves() else { return Ok(decision) };
    let waits = matches!(job.steps.first(), Some(Step::RestoreLive { .. }));
    let is_it = instance.node == node && instance.guest == held.incarnation;
    if is_it && waits && instance.phase() == Some(Phase::Leaving) {
        decision.answer.operation = job.operation;
        let desk = &mut Desk { world, context, decision: &mut decision };
        abort(desk, instance, "The guest was held for too long and the other node is not done")?;
    }
    Ok(decision)
}

/// Why a move cannot go on, if it still can be called off.
pub(super) fn obstacle(world: &World, instance: &Instance) -> Option<String> {
    let (_, journey) = instance.moves()?;
    if instance.phase() != Some(Phase::Leaving) {
        return None;
    }
    [instance.node, journey.to].into_iter().find_map(|node| match world.nodes.get(&node) {
        Some(node) if node.is_online() => None,
        Some(node) => Some(format!("Cluster member {:?} is offline", node.name)),
        None => Some("The cluster member is gone".to_owned()),
    })
}
