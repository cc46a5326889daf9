//! From a node's reports to facts. A report of another incarnation, or for which nothing is under
//! way, is old news: it changes nothing.

use chrono::TimeDelta;

use super::{
    Event, Instance, Status, Step,
    request::{append_job, autostarts, resources},
    specify,
};
use crate::{
    config,
    decision::{Context, Decision},
    ids::InstanceId,
    name::{self, Name, NameKind},
    operation::{Class, Gain, Verb},
    port::guest::{ExitCause, Exited, Running},
    rejection::Rejection,
    task::{Outcome, Report, Subject},
    world::World,
};

/// How long a guest that died must have lived for `boot.autorestart` to start it again.
const RESTARTED_AFTER: TimeDelta = TimeDelta::seconds(5);

/// What a node made of a task on an instance.
///
/// # Errors
/// When the job's next step cannot be specified any more, e.g. because a profile is gone.
pub fn report(
    world: &World,
    context: &Context,
    id: InstanceId,
    report: &Report,
) -> Result<Decision, Rejection> {
    let mut decision = Decision::for_context(context);
    let Some(instance) = world.instances.get(&id) else { return Ok(decision) };
    let Some(job) = instance.job.as_ref().filter(|_| instance.incarnation == report.incarnation)
    else {
        return Ok(decision);
    };
    let Some(step) = job.steps.first() else { return Ok(decision) };
    decision.answer.operation = job.operation;
    let fact = match (&report.outcome, step) {
        (Outcome::Failed(failure), _) => {
            fail(world, context, &mut decision, instance, &failure.message)?;
            return Ok(decision);
        }
        (Outcome::Started(running), Step::Start) => started(running),
        (Outcome::Stopped { cause, at }, Step::Stop { .. }) => {
            Event::Stopped { cause: *cause, at: *at }
        }
        (Outcome::Done, step) => match done(instance, step) {
            Some(fact) => fact,
            None => return Ok(decision),
        },
        (
            Outcome::Started(_)
            | Outcome::Stopped { .. }
            | Outcome::Assessed(_)
            | Outcome::Received { .. }
            | Outcome::Checkpointed { .. }
            | Outcome::Restored { .. },
            _,
        ) => return Ok(decision),
    };
    advance(world, context, &mut decision, instance, vec![fact])?;
    Ok(decision)
}

const fn started(running: &Running) -> Event {
    Event::Started { pid: running.pid, at: running.started_at, guest: running.incarnation }
}

fn done(instance: &Instance, step: &Step) -> Option<Event> {
    Some(match step {
        Step::CreateRoot { .. } => Event::RootCreated,
        Step::ReplaceRoot { source } => Event::RootReplaced { image: image_of(source, instance) },
        Step::Freeze => Event::Frozen,
        Step::Unfreeze => Event::Unfrozen,
        Step::ApplyLimits => Event::LimitsApplied,
        Step::ApplyReservations => Event::ReservationsApplied,
        Step::TakeSnapshot { name, snapshot, expires_at } => Event::SnapshotTaken {
            name: name.clone(),
            snapshot: *snapshot,
            expires_at: *expires_at,
        },
        Step::DeleteSnapshot { name, .. } => Event::SnapshotDeleted { name: name.clone() },
        Step::RestoreSnapshot { name, .. } => Event::SnapshotRestored { name: name.clone() },
        Step::Delete => Event::Deleted,
        Step::Resume => Event::Resumed,
        Step::DropRounds { .. } => Event::RoundsDropped,
        // These are answered with more than "done".
        Step::Start
        | Step::Stop { .. }
        | Step::Assess
        | Step::Receive { .. }
        | Step::Checkpoint
        | Step::RestoreLive { .. }
        | Step::Activate
        | Step::Fetch { .. } => return None,
    })
}

fn image_of(
    source: &crate::spec::RootSource,
    instance: &Instance,
) -> Option<crate::ids::Fingerprint> {
    match source {
        crate::spec::RootSource::Image(fingerprint) => Some(fingerprint.clone()),
        crate::spec::RootSource::Volume { .. } => instance.image.clone(),
        crate::spec::RootSource::Empty => None,
    }
}

/// Records the facts, then orders the job's next step or ends its operations.
fn advance(
    world: &World,
    context: &Context,
    decision: &mut Decision,
    instance: &Instance,
    facts: Vec<Event>,
) -> Result<(), Rejection> {
    let Some(job) = &instance.job else { return Ok(()) };
    if facts.contains(&Event::Deleted) {
        delete(decision, instance);
        end(decision, instance, Ok(()));
        return Ok(());
    }
    let mut after = instance.clone();
    for fact in facts {
        after.evolve(&fact, context.time);
        decision.record(instance.id.stream(), fact);
    }
    let Some(step) = after.job.as_ref().and_then(|job| job.steps.first()) else {
        end(decision, instance, Ok(()));
        return Ok(());
    };
    let generation = instance.next_generation();
    let incarnation = crate::spec::Incarnation { epoch: instance.epoch(), generation };
    match specify::work(world, &after, step, generation, job.operation) {
        Ok(work) => {
            decision.record(instance.id.stream(), Event::Continued { generation });
            decision.order(
                after.performer(step),
                job.operation,
                Subject::Instance(instance.id),
                incarnation,
                work,
            );
        }
        Err(rejection) => fail(world, context, decision, &after, &rejection.to_string())?,
    }
    Ok(())
}

/// Ends the job's operations, well or badly.
fn end(decision: &mut Decision, instance: &Instance, how: Result<(), &str>) {
    let Some(job) = &instance.job else { return };
    for operation in job.overtaken.iter().chain([&job.operation]) {
        match how {
            Ok(()) => decision.succeed(*operation, Gain::Nothing),
            Err(error) => decision.fail(*operation, error),
        }
    }
}

/// The job ends badly. An instance that never had a root is undone with all that it reserved.
fn fail(
    world: &World,
    _context: &Context,
    decision: &mut Decision,
    instance: &Instance,
    error: &str,
) -> Result<(), Rejection> {
    let Some(job) = &instance.job else { return Ok(()) };
    let half_made = job.verb == Verb::CreateInstance && job.steps.iter().any(makes_content);
    decision
        .record(instance.id.stream(), Event::Failed { verb: job.verb, error: error.to_owned() });
    if half_made {
        let generation = instance.next_generation();
        let incarnation = crate::spec::Incarnation { epoch: instance.epoch(), generation };
        let work = specify::work(world, instance, &Step::Delete, generation, job.operation)?;
        decision.order(
            instance.node,
            job.operation,
            Subject::Instance(instance.id),
            incarnation,
            work,
        );
        delete(decision, instance);
    }
    end(decision, instance, Err(error));
    Ok(())
}

/// Whether the instance's content is not whole before this step is done.
fn makes_content(step: &Step) -> bool {
    matches!(step, Step::CreateRoot { .. } | Step::ReplaceRoot { .. } | Step::TakeSnapshot { .. })
}

/// The instance is gone; what it held is free.
fn delete(decision: &mut Decision, instance: &Instance) {
    decision.record(instance.id.stream(), Event::Deleted);
    let slot = (instance.idmap.base.saturating_sub(1_000_000)) / instance.idmap.size.max(1);
    let names = [
        Name::new(NameKind::Instance, instance.project, &instance.name),
        Name::new(NameKind::IdMap, instance.node, slot.to_string()),
    ];
    let released = names.into_iter().map(|name| name::Event::Released { name });
    for event in released.chain(specify::release_all(&instance.leases)) {
        decision.record(super::request::name_of(&event).stream(), event);
    }
}

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
    if over_before_reported(instance, exited) {
        over(world, context, &mut decision, instance, exited)?;
        return Ok(decision);
    }
    if !instance.status.is_up() || exited.incarnation != instance.guest {
        return Ok(decision);
    }
    ended(world, context, &mut decision, instance, exited)?;
    Ok(decision)
}

/// Whether the guest that ended is the one whose start is under way.
fn over_before_reported(instance: &Instance, exited: &Exited) -> bool {
    let step = instance.job.as_ref().and_then(|job| job.steps.first());
    step == Some(&Step::Start) && exited.incarnation == instance.incarnation
}

fn over(
    world: &World,
    context: &Context,
    decision: &mut Decision,
    instance: &Instance,
    exited: &Exited,
) -> Result<(), Rejection> {
    decision.record(instance.id.stream(), Event::Stopped { cause: exited.cause, at: exited.at });
    let error = format!("the guest ended right after its start: {:?}", exited.cause);
    fail(world, context, decision, instance, &error)
}

fn ended(
    world: &World,
    context: &Context,
    decision: &mut Decision,
    instance: &Instance,
    exited: &Exited,
) -> Result<(), Rejection> {
    let fact = Event::Stopped { cause: exited.cause, at: exited.at };
    if let Some(job) = &instance.job {
        return match job.steps.first() {
            // It ended just when it was to be stopped: the same to whoever asked.
            Some(Step::Stop { .. }) => advance(world, context, decision, instance, vec![fact]),
            // The step under way finds no guest and says so in its own report.
            _ => {
                decision.record(instance.id.stream(), fact);
                Ok(())
            }
        };
    }
    let (verb, steps) = if instance.ephemeral && exited.cause != ExitCause::GuestReboot {
        (Verb::DeleteInstance, vec![Step::Delete])
    } else if restarts(world, instance, exited) {
        (Verb::StartInstance, vec![Step::Start])
    } else {
        decision.record(instance.id.stream(), fact);
        return Ok(());
    };
    decision.accept(instance.project, verb, Class::Task, resources(instance));
    append_job(world, context, decision, instance, verb, steps, vec![fact])
}

/// Whether it is started again without anybody asking. What dies right after its start would die
/// again, and each time the log would grow: it stays stopped.
fn restarts(world: &World, instance: &Instance, exited: &Exited) -> bool {
    match exited.cause {
        ExitCause::GuestReboot => true,
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

/// What a node found when its daemon started, about one instance: `running` if it runs, else how it
/// ended if that is known.
///
/// # Errors
/// As [`observe_exit`].
pub fn observe_adopted(
    world: &World,
    context: &Context,
    id: InstanceId,
    running: Option<&Running>,
    exited: Option<&Exited>,
) -> Result<Decision, Rejection> {
    let mut decision = Decision::for_context(context);
    let Some(instance) = world.instances.get(&id) else { return Ok(decision) };
    match (instance.status, running) {
        (Status::Running { .. } | Status::Frozen { .. }, None) => {
            let lost = Exited {
                instance: id,
                incarnation: instance.incarnation,
                cause: ExitCause::Lost,
                at: context.time,
            };
            ended(world, context, &mut decision, instance, exited.unwrap_or(&lost))?;
        }
        (Status::Stopped | Status::Creating, None)
            if exited.is_some_and(|exited| over_before_reported(instance, exited)) =>
        {
            let Some(exited) = exited else { return Ok(decision) };
            over(world, context, &mut decision, instance, exited)?;
        }
        // It runs though nobody wants it to, and nothing is under way that would explain it.
        (Status::Stopped | Status::Creating, Some(running)) if instance.job.is_none() => {
            let fact = started(running);
            let stop = Step::Stop { force: true, timeout: std::time::Duration::ZERO };
            decision.accept(instance.project, Verb::StopInstance, Class::Task, resources(instance));
            append_job(
                world,
                context,
                &mut decision,
                instance,
                Verb::StopInstance,
                vec![stop],
                vec![fact],
            )?;
        }
        (Status::Running { .. } | Status::Frozen { .. }, Some(_))
        | (Status::Stopped | Status::Creating, _) => {}
    }
    Ok(decision)
}
