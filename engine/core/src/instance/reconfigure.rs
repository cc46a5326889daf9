//! Changing what an instance is told to be: configuration, devices, profiles, name.

use super::{
    Event, Instance, Reconfigured, Step, Target,
    create::check_name,
    request::{append_job, idle, name_of, resources, wrong_state},
    specify::{self, Lessee},
};
use crate::{
    config::{self, Config, Device, Devices},
    decision::{Context, Decision, check_revision},
    ids::Revision,
    name::{self, Name, NameKind},
    operation::{Class, Gain, Verb},
    rejection::{Noun, Rejection},
    world::World,
};

/// The whole that the instance is to become; what is `None` stays.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reconfigure {
    pub config: Option<Config>,
    pub devices: Option<Devices>,
    pub profiles: Option<Vec<String>>,
    pub description: Option<String>,
    pub ephemeral: Option<bool>,
    /// Refuse if it is not at this revision any more.
    pub expected: Option<Revision>,
}

/// # Errors
/// Whatever is wrong with it, or cannot be changed while the instance runs.
pub fn reconfigure(
    world: &World,
    context: &Context,
    target: &Target,
    wanted: &Reconfigure,
) -> Result<Decision, Rejection> {
    let instance = target.find(world)?;
    idle(instance)?;
    check_revision(world, instance.id.stream(), wanted.expected)?;
    let mut change = changes(instance, wanted)?;
    let mut after = instance.clone();
    after.evolve(&Event::Reconfigured(Box::new(change.clone())), context.time);
    let expanded = after.expanded(world)?;
    config::check_devices(&expanded.devices)?;
    let (_, root) = specify::root_device(&expanded.devices)?;
    if world.pool(root.get("pool").map_or("", String::as_str))?.id != instance.pool {
        let message = "The root disk cannot be moved to another storage pool".to_owned();
        return Err(Rejection::NotAllowed {
            message,
            hint: "keep the root device's pool".to_owned(),
        });
    }
    let before = instance.expanded(world)?;
    if instance.status.is_up() {
        refuse_cold_changes(&before, &expanded, target)?;
    }
    let lessee =
        Lessee { id: instance.id, project: instance.project_of(world)?, held: &instance.leases };
    let (leases, names) = specify::lease_changes(world, lessee, &expanded.devices)?;
    change.leases = leases;
    after.evolve(&Event::Reconfigured(Box::new(change.clone())), context.time);

    let mut decision = Decision::for_context(context);
    decision.accept(instance.project, Verb::UpdateInstance, Class::Task, resources(instance));
    for event in names {
        decision.record(name_of(&event).stream(), event);
    }
    let mut steps = Vec::new();
    if specify::limits(world, instance, &before)? != specify::limits(world, &after, &expanded)? {
        steps.push(Step::ApplyLimits);
    }
    if !change.leases.is_empty() {
        steps.push(Step::ApplyReservations);
    }
    let facts = if change == Reconfigured::default() {
        Vec::new()
    } else {
        vec![Event::Reconfigured(Box::new(change))]
    };
    let ends_here = steps.is_empty();
    append_job(world, context, &mut decision, instance, Verb::UpdateInstance, steps, facts)?;
    if ends_here {
        decision.succeed(context.operation, Gain::Nothing);
    }
    Ok(decision)
}

fn changes(instance: &Instance, wanted: &Reconfigure) -> Result<Reconfigured, Rejection> {
    let mut change = Reconfigured::default();
    if let Some(config) = &wanted.config {
        config::check(config::Scope::Instance, config)?;
        // Clients send back what they were shown; what stapes sets itself is not theirs to set.
        let own = config.iter().filter(|(key, _)| !key.starts_with("volatile."));
        let own: Config = own.map(|(key, value)| (key.clone(), value.clone())).collect();
        change.config = config::diff(&instance.config, &own);
    }
    if let Some(devices) = &wanted.devices {
        config::check_devices(devices)?;
        change.devices = config::device_changes(&instance.devices, devices);
    }
    specify::check_profiles(wanted.profiles.as_deref().unwrap_or_default())?;
    let differs = |profiles: &&Vec<String>| **profiles != instance.profiles;
    change.profiles = wanted.profiles.as_ref().filter(differs).cloned();
    change.description =
        wanted.description.as_ref().filter(|text| **text != instance.description).cloned();
    change.ephemeral = wanted.ephemeral.filter(|ephemeral| *ephemeral != instance.ephemeral);
    Ok(change)
}

/// What a running guest cannot be given: the change is refused rather than pretended.
fn refuse_cold_changes(
    before: &specify::Expanded,
    after: &specify::Expanded,
    target: &Target,
) -> Result<(), Rejection> {
    let hint = || format!("stapes stop {0}, change it, stapes start {0}", target.name);
    for key in ["security.privileged", "security.nesting"] {
        if before.config.get(key) != after.config.get(key) {
            return Err(wrong_state(
                "This key cannot be changed while the instance is running",
                hint(),
            ));
        }
    }
    let hot = |device: &Device| {
        let mut fixed = device.clone();
        if fixed.get("path").is_some_and(|path| path == "/") {
            fixed.remove("size");
        }
        fixed
    };
    let plugged = |devices: &Devices| -> Devices {
        devices.iter().map(|(name, device)| (name.clone(), hot(device))).collect()
    };
    if plugged(&before.devices) != plugged(&after.devices) {
        return Err(wrong_state("Devices cannot be changed while the instance is running", hint()));
    }
    Ok(())
}

/// # Errors
/// When it runs or is busy, or the new name is taken or wrong.
pub fn rename(
    world: &World,
    context: &Context,
    target: &Target,
    to: &str,
) -> Result<Decision, Rejection> {
    let instance = target.find(world)?;
    idle(instance)?;
    check_name(to)?;
    if world.holder(NameKind::Instance, instance.project, to).is_some() {
        return Err(Rejection::AlreadyExists { noun: Noun::Instance, name: to.to_owned() });
    }
    if instance.status.is_up() {
        let hint = format!("stapes stop {}", target.name);
        return Err(wrong_state("Renaming of running instance not allowed", hint));
    }
    let mut decision = Decision::for_context(context);
    decision.accept(instance.project, Verb::RenameInstance, Class::Task, resources(instance));
    let old = Name::new(NameKind::Instance, instance.project, &instance.name);
    let new = Name::new(NameKind::Instance, instance.project, to);
    decision.record(old.stream(), name::Event::Released { name: old });
    let reserved = name::Event::Reserved {
        name: new.clone(),
        holder: instance.id.0,
        description: String::new(),
    };
    decision.record(new.stream(), reserved);
    let renamed = Event::Renamed { from: instance.name.clone(), to: to.to_owned() };
    let steps = vec![Step::ApplyReservations];
    append_job(
        world,
        context,
        &mut decision,
        instance,
        Verb::RenameInstance,
        steps,
        vec![renamed],
    )?;
    Ok(decision)
}
