//! What may be asked of an instance that takes a node's work.

use std::time::Duration;

use super::{
    Event, Instance, Job, Journey, Lease, Reconfigured, Snapshot, Status, Step, away, replicate,
    specify, transit::Desk,
};
use crate::{
    config,
    decision::{Context, Decision},
    ids::{Fingerprint, InstanceId},
    operation::{Class, Resource, ResourceKind, Verb},
    port::image::ImageKind,
    rejection::{Noun, Rejection},
    spec::RootSource,
    task::Subject,
    world::{World, missing},
};

/// Which instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    pub project: String,
    pub name: String,
}

impl Target {
    pub(super) fn find<'a>(&self, world: &'a World) -> Result<&'a Instance, Rejection> {
        world.instance(&self.project, &self.name)
    }
}

pub(super) fn resources(instance: &Instance) -> Vec<Resource> {
    vec![Resource { kind: ResourceKind::Instance, name: instance.name.clone() }]
}

pub(super) fn snapshot_resources(instance: &Instance, snapshot: &str) -> Vec<Resource> {
    let name = format!("{}/{snapshot}", instance.name);
    vec![
        Resource { kind: ResourceKind::Instance, name: instance.name.clone() },
        Resource { kind: ResourceKind::Snapshot, name },
    ]
}

/// Begins a job: the operation, the request, and the first step's task. `before` are facts that hold
/// from now on.
pub(super) fn begin(
    world: &World,
    context: &Context,
    instance: &Instance,
    verb: Verb,
    steps: Vec<Step>,
    before: Vec<Event>,
) -> Result<Decision, Rejection> {
    let mut decision = Decision::for_context(context);
    decision.accept(instance.project, verb, Class::Task, resources(instance));
    append_job(world, context, &mut decision, instance, verb, steps, before)?;
    Ok(decision)
}

/// The same for a decision that has its operation already.
pub(super) fn append_job(
    world: &World,
    context: &Context,
    decision: &mut Decision,
    instance: &Instance,
    verb: Verb,
    steps: Vec<Step>,
    before: Vec<Event>,
) -> Result<(), Rejection> {
    let desk = &mut Desk { world, context, decision };
    append(desk, instance, Request { verb, steps, journey: None }, before)
}

/// What a job is to be.
pub(super) struct Request {
    pub verb: Verb,
    pub steps: Vec<Step>,
    pub journey: Option<Box<Journey>>,
}

/// The same for a job that may go to another node. Its first step is ordered.
pub(super) fn append(
    desk: &mut Desk<'_>,
    instance: &Instance,
    request: Request,
    before: Vec<Event>,
) -> Result<(), Rejection> {
    let operation = desk.decision.answer.operation;
    let mut after = instance.clone();
    let mut happened = before;
    if !request.steps.is_empty() {
        happened.extend(replicate::overtaken(desk, instance));
    }
    for event in happened {
        after.evolve(&event, desk.context.time);
        desk.decision.record(instance.id.stream(), event);
    }
    let Request { verb, steps, journey } = request;
    let Some(first) = steps.first().cloned() else { return Ok(()) };
    let generation = after.incarnation.next().generation;
    let requested = Event::Requested { verb, operation, generation, steps, journey };
    after.evolve(&requested, desk.context.time);
    desk.decision.record(instance.id.stream(), requested);
    let work = super::work::work(desk.world, &after, &first, operation)?;
    let node = after.performer(&first);
    let subject = Subject::Instance(instance.id);
    desk.decision.order(node, operation, subject, after.incarnation, work);
    Ok(())
}

/// Whether the job is nobody's wish of now: it makes way for any that is.
pub(super) fn is_background(job: &Job) -> bool {
    job.verb == Verb::ReplicateInstance
}

/// Refuses while another job is under way; the same verb joins it.
fn idle_or_join(
    context: &Context,
    instance: &Instance,
    verb: Verb,
) -> Result<Option<Decision>, Rejection> {
    match &instance.job {
        None => Ok(None),
        Some(job) if is_background(job) => Ok(None),
        Some(job) if job.verb == verb => {
            Ok(Some(Decision::join(context, job.operation, resources(instance))))
        }
        Some(job) => Err(Rejection::Busy { verb: job.verb }),
    }
}

/// Refuses while any job is under way.
pub(super) fn idle(instance: &Instance) -> Result<(), Rejection> {
    match instance.job.as_ref().filter(|job| !is_background(job)) {
        Some(job) => Err(Rejection::Busy { verb: job.verb }),
        None => Ok(()),
    }
}

pub(super) fn wrong_state(message: &'static str, hint: String) -> Rejection {
    Rejection::WrongState { message, hint }
}

/// # Errors
/// When it runs, or is busy with something else.
pub fn start(world: &World, context: &Context, target: &Target) -> Result<Decision, Rejection> {
    let instance = target.find(world)?;
    if let Some(join) = idle_or_join(context, instance, Verb::StartInstance)? {
        return Ok(join);
    }
    match instance.status {
        Status::Running { .. } => Err(wrong_state(
            "The instance is already running",
            format!("stapes exec {} -- sh", target.name),
        )),
        Status::Frozen { .. } => {
            Err(wrong_state("The instance is frozen", format!("stapes resume {}", target.name)))
        }
        Status::Creating | Status::Stopped => start_stopped(world, context, instance),
    }
}

fn start_stopped(
    world: &World,
    context: &Context,
    instance: &Instance,
) -> Result<Decision, Rejection> {
    let mut decision = Decision::for_context(context);
    decision.accept(instance.project, Verb::StartInstance, Class::Task, resources(instance));
    let before = renewed_leases(world, &mut decision, instance)?;
    let steps = match instance.unmade() {
        Some(replica) => replicate::making(instance, &replica, true),
        None => vec![Step::Start],
    };
    append_job(world, context, &mut decision, instance, Verb::StartInstance, steps, before)?;
    Ok(decision)
}

/// Profiles may have changed since the last start: the address plan follows now.
fn renewed_leases(
    world: &World,
    decision: &mut Decision,
    instance: &Instance,
) -> Result<Vec<Event>, Rejection> {
    let expanded = instance.expanded(world)?;
    let project = instance.project_of(world)?;
    let lessee = specify::Lessee { id: instance.id, project, held: &instance.leases };
    let (leases, names) = specify::lease_changes(world, lessee, &expanded.devices)?;
    for event in names {
        decision.record(name_of(&event).stream(), event);
    }
    if leases.is_empty() {
        return Ok(Vec::new());
    }
    Ok(vec![Event::Reconfigured(Box::new(Reconfigured { leases, ..Reconfigured::default() }))])
}

pub(super) const fn name_of(event: &crate::name::Event) -> &crate::name::Name {
    match event {
        crate::name::Event::Reserved { name, .. } | crate::name::Event::Released { name } => name,
    }
}

/// A forced stop overtakes a clean one that is under way.
///
/// # Errors
/// When it does not run, or is busy with something else.
pub fn stop(
    world: &World,
    context: &Context,
    target: &Target,
    force: bool,
    timeout: Duration,
) -> Result<Decision, Rejection> {
    let instance = target.find(world)?;
    if let Some(job) = &instance.job {
        let overtakes = force && job.verb == Verb::StopInstance && !stops_by_force(instance);
        if !overtakes && let Some(join) = idle_or_join(context, instance, Verb::StopInstance)? {
            return Ok(join);
        }
    }
    let stop = Step::Stop { force, timeout };
    let mut steps = match instance.status {
        Status::Running { .. } => vec![stop],
        Status::Frozen { .. } if force => vec![stop],
        Status::Frozen { .. } => vec![Step::Unfreeze, stop],
        Status::Creating | Status::Stopped => {
            return Err(wrong_state(
                "The instance is already stopped",
                format!("stapes start {}", target.name),
            ));
        }
    };
    if instance.ephemeral {
        steps.push(Step::Delete);
    }
    begin(world, context, instance, Verb::StopInstance, steps, Vec::new())
}

fn stops_by_force(instance: &Instance) -> bool {
    let step = instance.job.as_ref().and_then(|job| job.steps.first());
    matches!(step, Some(Step::Stop { force: true, .. } | Step::Delete))
}

/// # Errors
/// When it does not run, or is busy with something else.
pub fn restart(
    world: &World,
    context: &Context,
    target: &Target,
    force: bool,
    timeout: Duration,
) -> Result<Decision, Rejection> {
    let instance = target.find(world)?;
    if let Some(join) = idle_or_join(context, instance, Verb::RestartInstance)? {
        return Ok(join);
    }
    let stop = Step::Stop { force, timeout };
    let steps = match instance.status {
        Status::Running { .. } => vec![stop, Step::Start],
        Status::Frozen { .. } if force => vec![stop, Step::Start],
        Status::Frozen { .. } => vec![Step::Unfreeze, stop, Step::Start],
        Status::Creating | Status::Stopped => {
            return Err(wrong_state(
                "The instance is not running",
                format!("stapes start {}", target.name),
            ));
        }
    };
    begin(world, context, instance, Verb::RestartInstance, steps, Vec::new())
}

/// # Errors
/// When it does not run, or is busy with something else.
pub fn freeze(world: &World, context: &Context, target: &Target) -> Result<Decision, Rejection> {
    let instance = target.find(world)?;
    if let Some(join) = idle_or_join(context, instance, Verb::FreezeInstance)? {
        return Ok(join);
    }
    match instance.status {
        Status::Running { .. } => {
            begin(world, context, instance, Verb::FreezeInstance, vec![Step::Freeze], Vec::new())
        }
        Status::Frozen { .. } => Err(wrong_state(
            "The instance is already frozen",
            format!("stapes resume {}", target.name),
        )),
        Status::Creating | Status::Stopped => {
            Err(wrong_state("The instance is not running", format!("stapes start {}", target.name)))
        }
    }
}

/// # Errors
/// When it is not frozen, or is busy with something else.
pub fn unfreeze(world: &World, context: &Context, target: &Target) -> Result<Decision, Rejection> {
    let instance = target.find(world)?;
    if let Some(join) = idle_or_join(context, instance, Verb::UnfreezeInstance)? {
        return Ok(join);
    }
    match instance.status {
        Status::Frozen { .. } => begin(
            world,
            context,
            instance,
            Verb::UnfreezeInstance,
            vec![Step::Unfreeze],
            Vec::new(),
        ),
        Status::Running { .. } => Err(wrong_state(
            "The instance is already running",
            format!("stapes pause {}", target.name),
        )),
        Status::Creating | Status::Stopped => {
            Err(wrong_state("The instance is not running", format!("stapes start {}", target.name)))
        }
    }
}

/// With `force` a running instance is stopped first, and one whose node nobody hears is forgotten.
///
/// # Errors
/// When it runs and `force` is not given, is protected, or busy.
pub fn delete(
    world: &World,
    context: &Context,
    target: &Target,
    force: bool,
) -> Result<Decision, Rejection> {
    let instance = target.find(world)?;
    if force && away::check_reach(world, target).is_err() {
        return away::forget(world, context, instance);
    }
    if let Some(join) = idle_or_join(context, instance, Verb::DeleteInstance)? {
        return Ok(join);
    }
    if config::is_true(&instance.expanded(world)?.config, "security.protection.delete") {
        let hint = format!("stapes config unset {} security.protection.delete", target.name);
        return Err(wrong_state("Instance is protected", hint));
    }
    if instance.status.is_up() && !force {
        return Err(wrong_state(
            "Instance is running",
            format!("stapes delete --force {}", target.name),
        ));
    }
    begin(world, context, instance, Verb::DeleteInstance, vec![Step::Delete], Vec::new())
}

/// A running instance is stopped before and started after.
///
/// # Errors
/// When there is no such snapshot, or it is busy.
pub fn restore(
    world: &World,
    context: &Context,
    target: &Target,
    name: &str,
) -> Result<Decision, Rejection> {
    let instance = target.find(world)?;
    idle(instance)?;
    let snapshot = instance.snapshots.get(name).ok_or_else(|| missing(Noun::Snapshot, name))?;
    // A profile that the snapshot names may be gone: an instance without one of its profiles could
    // neither be started nor changed any more.
    let project = instance.project_of(world)?;
    let Snapshot { profiles, config, devices, .. } = snapshot;
    specify::root_device(&specify::expand(world, project, profiles, config, devices)?.devices)?;
    let restore = Step::RestoreSnapshot { name: name.to_owned(), snapshot: snapshot.id };
    let steps = if instance.status.is_up() {
        let stop = Step::Stop { force: true, timeout: Duration::ZERO };
        vec![stop, restore, Step::Start]
    } else {
        vec![restore]
    };
    let mut decision = Decision::for_context(context);
    decision.accept(
        instance.project,
        Verb::RestoreSnapshot,
        Class::Task,
        snapshot_resources(instance, name),
    );
    append_job(world, context, &mut decision, instance, Verb::RestoreSnapshot, steps, Vec::new())?;
    Ok(decision)
}

/// # Errors
/// When it runs, is busy, or there is no such image of its kind.
pub fn rebuild(
    world: &World,
    context: &Context,
    target: &Target,
    image: Option<&str>,
) -> Result<Decision, Rejection> {
    let instance = target.find(world)?;
    idle(instance)?;
    if instance.status.is_up() {
        return Err(wrong_state(
            "Instance must be stopped to be rebuilt",
            format!("stapes stop {}", target.name),
        ));
    }
    let source = match image {
        None => RootSource::Empty,
        Some(reference) => {
            RootSource::Image(image_of(world, &target.project, reference, instance.kind)?)
        }
    };
    begin(
        world,
        context,
        instance,
        Verb::RebuildInstance,
        vec![Step::ReplaceRoot { source }],
        Vec::new(),
    )
}

pub(super) fn image_of(
    world: &World,
    project: &str,
    reference: &str,
    kind: ImageKind,
) -> Result<Fingerprint, Rejection> {
    let image = world.image(project, reference)?;
    if image.facts.kind != kind {
        let message = "Image type doesn't match the instance's: one is a container's, the other a virtual machine's";
        return Err(Rejection::Invalid(message.to_owned()));
    }
    Ok(image.facts.fingerprint.clone())
}

/// After its host was started: the start that `boot.autostart` asks for, or nothing.
///
/// # Errors
/// As [`start`].
pub fn autostart(world: &World, context: &Context, id: InstanceId) -> Result<Decision, Rejection> {
    let Some(instance) = world.instances.get(&id) else {
        return Ok(Decision::for_context(context));
    };
    let wanted = config::is_true(&instance.expanded(world)?.config, "boot.autostart");
    if !wanted || instance.job.is_some() || instance.status != Status::Stopped {
        return Ok(Decision::for_context(context));
    }
    start_stopped(world, context, instance)
}

/// Whether the policy starts an instance that ran when its host went down.
pub(super) fn autostarts(world: &World, instance: &Instance) -> bool {
    let expanded = instance.expanded(world).unwrap_or_default();
    match expanded.config.get("boot.autostart").filter(|value| !value.is_empty()) {
        Some(_) => config::is_true(&expanded.config, "boot.autostart"),
        None => true,
    }
}

/// The leases that a decision is about, for [`super::create`].
pub(super) fn assigned(
    changes: std::collections::BTreeMap<String, Option<Lease>>,
) -> std::collections::BTreeMap<String, Lease> {
    changes.into_iter().filter_map(|(name, lease)| Some((name, lease?))).collect()
}
