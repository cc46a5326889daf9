//! A profile: configuration and devices that instances share.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::{
    config::{self, Changes, Config, Device, Devices},
    decision::{Context, Decision},
    ids::{ProfileId, ProjectId, Revision, StreamId, StreamKind},
    instance::root_device,
    name::{self, Name, NameKind},
    rejection::{Noun, Rejection},
    table::Table,
    world::World,
};

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Profile {
    pub id: ProfileId,
    pub project: ProjectId,
    pub name: String,
    pub description: String,
    pub config: Config,
    pub devices: Devices,
    pub created_at: DateTime<Utc>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Event {
    Created {
        project: ProjectId,
        name: String,
        description: String,
        config: Config,
        devices: Devices,
    },
    Configured {
        changes: Changes,
        devices: BTreeMap<String, Option<Device>>,
        description: Option<String>,
    },
    Renamed {
        from: String,
        to: String,
    },
    Deleted,
}

impl Event {
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Created { .. } => "created",
            Self::Configured { .. } => "configured",
            Self::Renamed { .. } => "renamed",
            Self::Deleted => "deleted",
        }
    }
}

pub(crate) fn evolve(
    profiles: &mut Table<ProfileId, Profile>,
    id: ProfileId,
    event: &Event,
    at: DateTime<Utc>,
) {
    match event {
        Event::Created { project, name, description, config, devices } => {
            let profile = Profile {
                id,
                project: *project,
                name: name.clone(),
                description: description.clone(),
                config: config.clone(),
                devices: devices.clone(),
                created_at: at,
            };
            profiles.insert(id, profile);
        }
        Event::Configured { changes, devices, description } => {
            let Some(profile) = profiles.get_mut(&id) else { return };
            config::apply(&mut profile.config, changes);
            config::apply_devices(&mut profile.devices, devices);
            if let Some(description) = description {
                profile.description.clone_from(description);
            }
        }
        Event::Renamed { to, .. } => {
            if let Some(profile) = profiles.get_mut(&id) {
                profile.name.clone_from(to);
            }
        }
        Event::Deleted => {
            profiles.remove(&id);
        }
    }
}

fn stream(id: ProfileId) -> StreamId {
    StreamId::new(StreamKind::Profile, id)
}

/// What a profile is to be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// `None` stays, or is empty for a new one.
    pub description: Option<String>,
    pub config: Config,
    pub devices: Devices,
}

fn check(wanted: &Wanted) -> Result<(), Rejection> {
    config::check(config::Scope::Profile, &wanted.config)?;
    config::check_devices(&wanted.devices)
}

fn check_name(name: &str) -> Result<(), Rejection> {
    if name.is_empty()
        || name.len() > 63
        || name.chars().any(|c| c.is_whitespace() || c.is_control() || c == '/')
        || name == "."
        || name == ".."
    {
        return Err(Rejection::Invalid(format!(
            "Invalid profile name {name:?}: 1 to 63 characters without spaces and '/'"
        )));
    }
    Ok(())
}

/// # Errors
/// When the name is taken or wrong, or what is in it is.
pub fn create(
    world: &World,
    context: &Context,
    project: &str,
    name: &str,
    wanted: &Wanted,
) -> Result<Decision, Rejection> {
    check_name(name)?;
    check(wanted)?;
    let scope = world.project(project)?.profiles_in();
    if world.holder(NameKind::Profile, scope, name).is_some() {
        return Err(Rejection::AlreadyExists { noun: Noun::Profile, name: name.to_owned() });
    }
    let id = ProfileId::derive(&[&context.operation.to_string()]);
    let mut decision = Decision::for_context(context);
    record_created(&mut decision, id, scope, name, wanted);
    Ok(decision)
}

fn record_created(
    decision: &mut Decision,
    id: ProfileId,
    project: ProjectId,
    name: &str,
    wanted: &Wanted,
) {
    let held = Name::new(NameKind::Profile, project, name);
    decision.record(
        held.stream(),
        name::Event::Reserved { name: held, holder: id.0, description: String::new() },
    );
    let created = Event::Created {
        project,
        name: name.to_owned(),
        description: wanted.description.clone().unwrap_or_default(),
        config: wanted.config.clone(),
        devices: wanted.devices.clone(),
    };
    decision.record(stream(id), created);
}

/// A new project's first profile.
pub(crate) fn record_default(
    decision: &mut Decision,
    id: ProfileId,
    project: ProjectId,
    project_name: &str,
) {
    let description = Some(format!("Default profile for project {project_name}"));
    record_created(decision, id, project, "default", &Wanted { description, ..Wanted::default() });
}

pub(crate) fn record_deleted(decision: &mut Decision, profile: &Profile) {
    let held = Name::new(NameKind::Profile, profile.project, &profile.name);
    decision.record(held.stream(), name::Event::Released { name: held });
    decision.record(stream(profile.id), Event::Deleted);
}

/// The whole profile becomes what is wanted. Instances follow at their next start; limits of running
/// ones at once would be a surprise.
///
/// # Errors
/// When there is no such profile, it changed meanwhile, or what is wanted is wrong.
pub fn configure(
    world: &World,
    context: &Context,
    (project, name): (&str, &str),
    wanted: &Wanted,
    expected: Option<Revision>,
) -> Result<Decision, Rejection> {
    let profile = world.profile(project, name)?;
    crate::decision::check_revision(world, stream(profile.id), expected)?;
    check(wanted)?;
    let changes = config::diff(&profile.config, &wanted.config);
    let devices = config::device_changes(&profile.devices, &wanted.devices);
    if !devices.is_empty() {
        refuse_uprooting(world, profile, wanted)?;
    }
    let description = wanted.description.clone().filter(|text| *text != profile.description);
    let mut decision = Decision::for_context(context);
    if !changes.is_empty() || !devices.is_empty() || description.is_some() {
        decision.record(stream(profile.id), Event::Configured { changes, devices, description });
    }
    Ok(decision)
}

/// Refuses a change that would leave an instance without its root disk, or with another pool's.
fn refuse_uprooting(world: &World, profile: &Profile, wanted: &Wanted) -> Result<(), Rejection> {
    let mut after = world.clone();
    if let Some(profile) = after.profiles.get_mut(&profile.id) {
        profile.devices.clone_from(&wanted.devices);
    }
    for instance in users(world, profile) {
        let expanded = instance.expanded(&after)?;
        let pool = root_device(&expanded.devices).ok().and_then(|(_, root)| root.get("pool"));
        let stays =
            pool.is_some_and(|name| world.pool(name).is_ok_and(|pool| pool.id == instance.pool));
        if !stays {
            let message = "At least one instance relies on this profile's root disk device";
            let hint = format!(
                "give it one of its own: stapes config device override {} root",
                instance.name
            );
            return Err(Rejection::NotAllowed { message: message.to_owned(), hint });
        }
    }
    Ok(())
}

/// # Errors
/// When it is a default profile, is in use, or the new name is taken or wrong.
pub fn rename(
    world: &World,
    context: &Context,
    project: &str,
    name: &str,
    to: &str,
) -> Result<Decision, Rejection> {
    let profile = world.profile(project, name)?;
    check_name(to)?;
    refuse_default(name, "renamed")?;
    refuse_used(world, profile)?;
    if world.holder(NameKind::Profile, profile.project, to).is_some() {
        return Err(Rejection::AlreadyExists { noun: Noun::Profile, name: to.to_owned() });
    }
    let mut decision = Decision::for_context(context);
    let (old, new) = (
        Name::new(NameKind::Profile, profile.project, name),
        Name::new(NameKind::Profile, profile.project, to),
    );
    decision.record(old.stream(), name::Event::Released { name: old });
    let holder = profile.id.0;
    decision.record(
        new.stream(),
        name::Event::Reserved { name: new, holder, description: String::new() },
    );
    decision
        .record(stream(profile.id), Event::Renamed { from: name.to_owned(), to: to.to_owned() });
    Ok(decision)
}

/// # Errors
/// When it is a default profile or in use.
pub fn delete(
    world: &World,
    context: &Context,
    project: &str,
    name: &str,
) -> Result<Decision, Rejection> {
    let profile = world.profile(project, name)?;
    refuse_default(name, "deleted")?;
    refuse_used(world, profile)?;
    let mut decision = Decision::for_context(context);
    record_deleted(&mut decision, profile);
    Ok(decision)
}

fn refuse_default(name: &str, verb: &str) -> Result<(), Rejection> {
    if name == "default" {
        let message = format!("The 'default' profile cannot be {verb}");
        return Err(Rejection::NotAllowed { message, hint: "stapes profile list".to_owned() });
    }
    Ok(())
}

fn refuse_used(world: &World, profile: &Profile) -> Result<(), Rejection> {
    let by: Vec<_> = users(world, profile).map(|instance| instance.name.clone()).collect();
    if by.is_empty() { Ok(()) } else { Err(Rejection::InUse { noun: Noun::Profile, by }) }
}

/// The instances that have the profile.
pub fn users<'a>(
    world: &'a World,
    profile: &'a Profile,
) -> impl Iterator<Item = &'a crate::instance::Instance> {
    world.instances.values().filter(|instance| {
        let scope = world.projects.get(&instance.project).map(crate::project::Project::profiles_in);
        scope == Some(profile.project) && instance.profiles.contains(&profile.name)
    })
}

#[cfg(test)]
mod tests {
    use crate::{
        command::Command,
        testing::{Asked, check, stopped},
    };

    #[test]
    fn profiles_come_and_go() {
        let project = || "default".to_owned();
        let create = |name: &str| Command::CreateProfile {
            project: project(),
            name: name.to_owned(),
            wanted: Box::default(),
        };
        let delete =
            |name: &str| Command::DeleteProfile { project: project(), name: name.to_owned() };
        let extra = [Asked(create("extra"))];
        check(&[], create("extra"), "profile-created");
        check(&extra, create("extra"), "Profile \"extra\" already exists");
        check(&extra, delete("extra"), "profile-deleted");
        check(&stopped("web", &[]), delete("default"), "The 'default' profile cannot be deleted");
        check(&[], delete("extra"), "Profile not found");
        let rule = "1 to 63 characters without spaces and '/'";
        for name in ["", ".", "..", "a b", "a/b", "a\u{7}"] {
            check(&[], create(name), &format!("Invalid profile name {name:?}: {rule}"));
        }
    }
}
