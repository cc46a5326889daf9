//! From a node's reports to facts. A report of another incarnation, or for which nothing is under
//! way, is old news: it changes nothing.

use super::{
    Event, Instance, Journey, Phase, Step, replicate, specify,
    transit::{self, Desk},
    work,
};
use crate::{
    decision::{Context, Decision},
    ids::InstanceId,
    image,
    name::{self, Name, NameKind},
    operation::{Gain, Verb},
    port::guest::Running,
    rejection::Rejection,
    spec::{Incarnation, RootSource},
    task::{Outcome, Report, Subject, Work},
    world::World,
};

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
    // Another node's report is about what it was ordered to remove.
    let Some(step) = job.steps.first().filter(|step| instance.performer(step) == report.node)
    else {
        return Ok(decision);
    };
    decision.answer.operation = job.operation;
    let desk = &mut Desk { world, context, decision: &mut decision };
    let fact = match (&report.outcome, step) {
        (Outcome::Failed(failure), step) => {
            step_failed(desk, instance, step, &failure.message)?;
            return Ok(decision);
        }
        (Outcome::Assessed(found), Step::Assess) => {
            transit::assessed(desk, instance, found)?;
            return Ok(decision);
        }
        (Outcome::Received { bytes }, Step::Receive { round, .. }) => {
            if job.verb == Verb::ReplicateInstance {
                replicate::received(desk, instance, *round)?;
            } else {
                transit::received(desk, instance, step, *bytes)?;
            }
            return Ok(decision);
        }
        (Outcome::Restored { running, bytes }, Step::RestoreLive { .. }) => {
            transit::moved(desk, instance, Some(running), *bytes)?;
            return Ok(decision);
        }
        (Outcome::Received { bytes }, Step::Fetch { .. }) => {
            drop_fetched(desk, instance, step);
            Event::Fetched { bytes: *bytes }
        }
        (Outcome::Checkpointed { at, bytes }, Step::Checkpoint) => {
            Event::Checkpointed { at: *at, bytes: *bytes }
        }
        (Outcome::Started(running), Step::Start) => started(running),
        (Outcome::Stopped { cause, at }, Step::Stop { .. }) => {
            Event::Stopped { cause: *cause, at: *at }
        }
        (Outcome::Done, Step::Activate) => Event::Activated { at: context.time },
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
    if let Step::CreateRoot { source: RootSource::Image(image) }
    | Step::ReplaceRoot { source: RootSource::Image(image) } = step
    {
        let project = instance.project_of(world)?.images_in();
        image::record_fetched(world, desk.decision, project, image, report.node);
    }
    advance(desk, instance, vec![fact])?;
    Ok(decision)
}

/// The step under way failed: what that means depends on the job.
#[allow(clippy::wildcard_enum_match_arm, reason = "the others fail the job")]
pub(super) fn step_failed(
    desk: &mut Desk<'_>,
    instance: &Instance,
    step: &Step,
    error: &str,
) -> Result<(), Rejection> {
    if instance.moves().is_some() {
        return transit::failed(desk, instance, step, error);
    }
    if instance.job.as_ref().is_some_and(|job| job.verb == Verb::ReplicateInstance) {
        return replicate::failed(desk, instance, error);
    }
    match step {
        // What is left over is no reason to say that the rest was not done.
        Step::DropRounds { .. } => advance(desk, instance, vec![Event::RoundsDropped]),
        Step::Fetch { .. } => {
            drop_fetched(desk, instance, step);
            fail(desk, instance, error)
        }
        _ => fail(desk, instance, error),
    }
}

/// What was made at a copy's source to be sent goes; nobody waits for it.
fn drop_fetched(desk: &mut Desk<'_>, instance: &Instance, step: &Step) {
    let (Step::Fetch { from, volume, made: Some(made), .. }, Some(job)) = (step, &instance.job)
    else {
        return;
    };
    let work = Work::DropRounds { pool: instance.pool, volume: *volume, rounds: vec![*made] };
    let (subject, incarnation) = (Subject::Instance(instance.id), instance.incarnation.next());
    desk.decision.order(*from, job.operation, subject, incarnation, work);
}

pub(super) const fn started(running: &Running) -> Event {
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

fn image_of(source: &RootSource, instance: &Instance) -> Option<crate::ids::Fingerprint> {
    match source {
        RootSource::Image(fingerprint) => Some(fingerprint.clone()),
        RootSource::Volume { .. } => instance.image.clone(),
        RootSource::Empty => None,
    }
}

/// Records the facts, then orders the job's next step or ends its operations.
pub(super) fn advance(
    desk: &mut Desk<'_>,
    instance: &Instance,
    facts: Vec<Event>,
) -> Result<(), Rejection> {
    let Some(job) = &instance.job else { return Ok(()) };
    if facts.contains(&Event::Deleted) {
        delete(desk.decision, instance);
        end(desk.decision, instance, Ok(Gain::Nothing));
        return Ok(());
    }
    let mut after = instance.clone();
    let mut noted = job.journey.clone();
    for fact in facts {
        after.evolve(&fact, desk.context.time);
        noted.iter_mut().for_each(|journey| journey.note(&fact));
        desk.decision.record(instance.id.stream(), fact);
    }
    let Some(step) = after.job.as_ref().and_then(|job| job.steps.first()) else {
        finish(desk, instance, &after, &noted);
        return Ok(());
    };
    if let Some(obstacle) = transit::obstacle(desk.world, &after) {
        return transit::abort(desk, &after, &obstacle);
    }
    let step = step.clone();
    after.incarnation = carry_on(desk.decision, &after);
    order_step(desk, &after, &step)
}

/// The instance's next incarnation, for what is ordered without a new request.
pub(super) fn carry_on(decision: &mut Decision, instance: &Instance) -> Incarnation {
    let next = instance.incarnation.next();
    decision.record(instance.id.stream(), Event::Continued { generation: next.generation });
    next
}

/// Orders a step at the instance's incarnation, which is new.
pub(super) fn order_step(
    desk: &mut Desk<'_>,
    instance: &Instance,
    step: &Step,
) -> Result<(), Rejection> {
    let Some(job) = &instance.job else { return Ok(()) };
    match work::work(desk.world, instance, step, job.operation) {
        Ok(work) => {
            let subject = Subject::Instance(instance.id);
            let node = instance.performer(step);
            desk.decision.order(node, job.operation, subject, instance.incarnation, work);
            Ok(())
        }
        Err(rejection) => step_failed(desk, instance, step, &rejection.to_string()),
    }
}

/// The job is over: its operations end, and what was only made for it goes. `instance` is as it was
/// before the last step was done, the journey as it ended.
fn finish(desk: &mut Desk<'_>, instance: &Instance, after: &Instance, journey: &Option<Journey>) {
    let Some((job, journey)) = instance.moves().map(|(job, _)| job).zip(journey.as_ref()) else {
        end(desk.decision, instance, Ok(Gain::Nothing));
        return;
    };
    transit::sweep(desk.decision, after, job);
    match &journey.error {
        Some(error) => end(desk.decision, instance, Err(error)),
        None => end(desk.decision, instance, Ok(journey.gain())),
    }
}

/// Ends the job's operations, well or badly.
pub(super) fn end(decision: &mut Decision, instance: &Instance, how: Result<Gain, &str>) {
    let Some(job) = &instance.job else { return };
    for operation in job.overtaken.iter().chain([&job.operation]) {
        match &how {
            Ok(gain) => decision.succeed(*operation, gain.clone()),
            Err(error) => decision.fail(*operation, *error),
        }
    }
}

/// The job ends badly. An instance that never had a root is undone with all that it reserved.
pub(super) fn fail(desk: &mut Desk<'_>, instance: &Instance, error: &str) -> Result<(), Rejection> {
    let Some(job) = &instance.job else { return Ok(()) };
    let half_made = job.verb == Verb::CreateInstance && job.steps.iter().any(makes_content);
    let fact = Event::Failed { verb: job.verb, error: error.to_owned() };
    desk.decision.record(instance.id.stream(), fact);
    if half_made {
        let next = instance.incarnation.next();
        work::remove(desk.decision, instance, instance.node, job.operation, next);
        delete(desk.decision, instance);
    }
    end(desk.decision, instance, Err(error));
    Ok(())
}

/// Whether the instance's content is not whole before this step is done.
fn makes_content(step: &Step) -> bool {
    matches!(
        step,
        Step::Fetch { .. }
            | Step::CreateRoot { .. }
            | Step::ReplaceRoot { .. }
            | Step::TakeSnapshot { .. }
    )
}

/// The instance is gone; what it held is free, and its copy on another node goes too.
fn delete(decision: &mut Decision, instance: &Instance) {
    decision.record(instance.id.stream(), Event::Deleted);
    if let Some(replica) = instance.replica.filter(|_| instance.unmade().is_none()) {
        let operation = decision.answer.operation;
        let operation = instance.job.as_ref().map_or(operation, |job| job.operation);
        work::remove(decision, instance, replica.node, operation, instance.incarnation.next());
    }
    let names = [
        Name::new(NameKind::Instance, instance.project, &instance.name),
        work::slot(instance.node, instance.idmap),
    ];
    let released = names.into_iter().map(|name| name::Event::Released { name });
    for event in released.chain(specify::release_all(&instance.leases)) {
        decision.record(super::request::name_of(&event).stream(), event);
    }
}

/// It is gone without its node's help, and whatever waits for it ends.
pub(crate) fn forget(world: &World, decision: &mut Decision, instance: &Instance, why: &str) {
    delete(decision, instance);
    let Some(job) = &instance.job else { return };
    if let Some((_, journey)) =
        instance.moves().filter(|_| instance.phase() == Some(Phase::Leaving))
    {
        let next = instance.incarnation.next();
        work::remove(decision, instance, journey.to, job.operation, next);
        let slot = work::slot(journey.to, journey.idmap);
        decision.record(slot.stream(), name::Event::Released { name: slot });
    }
    for operation in job.overtaken.iter().chain([&job.operation]) {
        if world.operations.contains_key(operation) {
            decision.fail(*operation, why);
        }
    }
}
