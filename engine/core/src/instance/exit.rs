//! Guests that ended by themselves, and what a daemon finds when it starts.

use chrono::TimeDelta;

use super::{
    Event, Instance, Status, Step,
    observe::{advance, started, step_failed},
    request::{append_job, autostarts, is_background, resources},
    transit::Desk,
};
use crate::{
    config,
    decision::{Context, Decision},
    ids::{InstanceId, NodeId},
    operation::{Class, Verb},
    port::guest::{ExitCause, Exited, Running},
    rejection::Rejection,
    task::{Subject, Work},
    world::World,
};

/// How long a guest that died must have lived for `boot.autorestart` to start it again.
const RESTARTED_AFTER: TimeDelta = TimeDelta::seconds(5);

/// A guest ended by itself: shut down or rebooted from inside, or died.
///
/// # Errors
/// When a reboot's start cannot be specified any more.
pub fn observe_exit(
    world: &World,
    context: &Context,
    exited: &Exited,
) -> Result<Decision, Rejection> {
    let mut decision = Decision::for_context(context);
    let Some(instance) = world.instances.get(&exited.instance) else { return Ok(decision) };
    let desk = &mut Desk { world, context, decision: &mut decision };
    if over_before_reported(instance, exited) {
        over(desk, instance, exited)?;
    } else if instance.status.is_up() && exited.incarnation == instance.guest {
        ended(desk, instance, exited)?;
    }
    Ok(decision)
}

/// Whether the guest that ended is the one whose start is under way.
fn over_before_reported(instance: &Instance, exited: &Exited) -> bool {
    let step = instance.job.as_ref().and_then(|job| job.steps.first());
    step == Some(&Step::Start) && exited.incarnation == instance.incarnation
}

/// A daemon that was killed before it noted the start would start it again: that is overtaken too.
fn over(desk: &mut Desk<'_>, instance: &Instance, exited: &Exited) -> Result<(), Rejection> {
    let generation = instance.incarnation.next().generation;
    let facts =
        [Event::Stopped { cause: exited.cause, at: exited.at }, Event::Continued { generation }];
    let mut after = instance.clone();
    for fact in facts {
        after.evolve(&fact, desk.context.time);
        desk.decision.record(instance.id.stream(), fact);
    }
    let operation = instance.job.as_ref().map(|job| job.operation);
    let operation = operation.unwrap_or(desk.decision.answer.operation);
    let work = Work::Stop { force: true, timeout: std::time::Duration::ZERO };
    let subject = Subject::Instance(instance.id);
    desk.decision.order(instance.node, operation, subject, after.incarnation, work);
    let error = format!("the guest ended right after its start: {:?}", exited.cause);
    step_failed(desk, &after, &Step::Start, &error)
}

fn ended(desk: &mut Desk<'_>, instance: &Instance, exited: &Exited) -> Result<(), Rejection> {
    let fact = Event::Stopped { cause: exited.cause, at: exited.at };
    if let Some(job) = instance.job.as_ref().filter(|job| !is_background(job)) {
        return match job.steps.first() {
            // It ended just when it was to be stopped: the same to whoever asked.
            Some(Step::Stop { .. }) => advance(desk, instance, vec![fact]),
            // The step under way finds no guest and says so in its own report.
            _ => {
                desk.decision.record(instance.id.stream(), fact);
                Ok(())
            }
        };
    }
    let (verb, steps) = if instance.ephemeral && exited.cause != ExitCause::GuestReboot {
        (Verb::DeleteInstance, vec![Step::Delete])
    } else if restarts(desk.world, instance, exited) {
        (Verb::StartInstance, vec![Step::Start])
    } else {
        desk.decision.record(instance.id.stream(), fact);
        return Ok(());
    };
    desk.decision.accept(instance.project, verb, Class::Task, resources(instance));
    append_job(desk.world, desk.context, desk.decision, instance, verb, steps, vec![fact])
}

/// Whether it is started again without anybody asking. What dies right after its start would die
/// again, and each time the log would grow: it stays stopped.
fn restarts(world: &World, instance: &Instance, exited: &Exited) -> bool {
    match exited.cause {
        ExitCause::GuestReboot => true,
        // Nobody has taken it over, and its node is back.
        ExitCause::LeaseExpired => true,
        ExitCause::HostReboot => autostarts(world, instance),
        ExitCause::OutOfMemory | ExitCause::Status(_) | ExitCause::Signal(_) => {
            let lived = match instance.status {
                Status::Running { since, .. } | Status::Frozen { since, .. } => exited.at - since,
                Status::Creating | Status::Stopped => TimeDelta::zero(),
            };
            if lived < RESTARTED_AFTER {
                return false;
            }
            let expanded = instance.expanded(world).unwrap_or_default();
            config::is_true(&expanded.config, "boot.autorestart")
        }
        ExitCause::GuestShutdown | ExitCause::Forced | ExitCause::Lost => false,
    }
}

/// What a node found when its daemon started, about one instance: `running` if it runs there, else
/// how it ended if that is known.
///
/// # Errors
/// As [`observe_exit`].
pub fn observe_adopted(
    world: &World,
    context: &Context,
    (node, id): (NodeId, InstanceId),
    running: Option<&Running>,
    exited: Option<&Exited>,
) -> Result<Decision, Rejection> {
    let mut decision = Decision::for_context(context);
    let Some(instance) = world.instances.get(&id) else { return Ok(decision) };
    let desk = &mut Desk { world, context, decision: &mut decision };
    if instance.node != node {
        if let Some(running) = running {
            stray(desk, instance, node, running);
        }
        return Ok(decision);
    }
    match (instance.status, running) {
        (Status::Running { .. } | Status::Frozen { .. }, None) => {
            let lost = Exited {
                instance: id,
                incarnation: instance.incarnation,
                cause: ExitCause::Lost,
                at: context.time,
            };
            ended(desk, instance, exited.unwrap_or(&lost))?;
        }
        (Status::Stopped | Status::Creating, None)
            if exited.is_some_and(|exited| over_before_reported(instance, exited)) =>
        {
            let Some(exited) = exited else { return Ok(decision) };
            over(desk, instance, exited)?;
        }
        // It runs though nobody wants it to, and nothing is under way that would explain it.
        (Status::Stopped | Status::Creating, Some(running)) if instance.job.is_none() => {
            let fact = started(running);
            let stop = Step::Stop { force: true, timeout: std::time::Duration::ZERO };
            let (verb, steps) = (Verb::StopInstance, vec![stop]);
            decision.accept(instance.project, verb, Class::Task, resources(instance));
            append_job(world, context, &mut decision, instance, verb, steps, vec![fact])?;
        }
        (Status::Running { .. } | Status::Frozen { .. }, Some(_))
        | (Status::Stopped | Status::Creating, _) => {}
    }
    Ok(decision)
}

/// A guest runs on a node that does not own it: what came back from the past, or what arrives just
/// now. The past is ordered away, at an incarnation that overtakes all that its owners ordered.
fn stray(desk: &mut Desk<'_>, instance: &Instance, node: NodeId, running: &Running) {
    let arrives = instance.moves().is_some_and(|(_, journey)| journey.to == node);
    if arrives || running.incarnation.epoch >= instance.epoch() {
        return;
    }
    let replica = instance.replica.is_some_and(|replica| replica.node == node);
    let work = if replica {
        Work::Stop { force: true, timeout: std::time::Duration::ZERO }
    } else {
        Work::DeleteInstance { pool: instance.pool }
    };
    // As new as can be without getting in the way of the job under way.
    let (operation, incarnation) = (desk.decision.answer.operation, instance.incarnation);
    desk.decision.order(node, operation, Subject::Instance(instance.id), incarnation, work);
}
