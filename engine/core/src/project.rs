//! A project: the scope of names, and the limits of what is in it.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{
    config::{self, Changes, Config},
    decision::{Context, Decision},
    ids::{ProfileId, ProjectId, Revision, StreamId, StreamKind},
    name::{self, Name, NameKind},
    profile,
    rejection::{Noun, Rejection},
    table::Table,
    world::World,
};

/// The project that is always there.
pub const DEFAULT: &str = "default";

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Project {
    pub id: ProjectId,
    pub name: String,
    pub description: String,
    pub config: Config,
    pub created_at: DateTime<Utc>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Event {
    Created { name: String, description: String, config: Config },
    Configured { changes: Changes, description: Option<String> },
    Renamed { from: String, to: String },
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
    projects: &mut Table<ProjectId, Project>,
    id: ProjectId,
    event: &Event,
    at: DateTime<Utc>,
) {
    match event {
        Event::Created { name, description, config } => {
            let (name, description, config) = (name.clone(), description.clone(), config.clone());
            projects.insert(id, Project { id, name, description, config, created_at: at });
        }
        Event::Configured { changes, description } => {
            if let Some(project) = projects.get_mut(&id) {
                config::apply(&mut project.config, changes);
                project.description =
                    description.clone().unwrap_or_else(|| std::mem::take(&mut project.description));
            }
        }
        Event::Renamed { to, .. } => {
            if let Some(project) = projects.get_mut(&id) {
                project.name.clone_from(to);
            }
        }
        Event::Deleted => {
            projects.remove(&id);
        }
    }
}

impl Project {
    /// The default project, whose id is known to all.
    #[must_use]
    pub fn default_id() -> ProjectId {
        ProjectId::derive(&[DEFAULT])
    }

    fn own_or_default(&self, feature: &str) -> ProjectId {
        if config::is_true(&self.config, feature) { self.id } else { Self::default_id() }
    }

    /// The project that holds this one's profiles.
    #[must_use]
    pub fn profiles_in(&self) -> ProjectId {
        self.own_or_default("features.profiles")
    }

    #[must_use]
    pub fn images_in(&self) -> ProjectId {
        self.own_or_default("features.images")
    }

    #[must_use]
    pub fn networks_in(&self) -> ProjectId {
        self.own_or_default("features.networks")
    }
}

fn stream(id: ProjectId) -> StreamId {
    StreamId::new(StreamKind::Project, id)
}

fn check_name(name: &str) -> Result<(), Rejection> {
    let plain = |c: char| {
        !c.is_whitespace()
            && !c.is_control()
            && !matches!(c, '/' | '*' | ',' | '_' | '\'' | '"' | '`')
    };
    if name.is_empty() || name.len() > 63 || !name.chars().all(plain) || name == "." || name == ".."
    {
        return Err(Rejection::Invalid(format!(
            "Invalid project name {name:?}: 1 to 63 characters without spaces, '/' and '_'"
        )));
    }
    Ok(())
}

/// A project comes with a profile `default`.
///
/// # Errors
/// When the name is taken or wrong, or the configuration is.
pub fn create(
    world: &World,
    context: &Context,
    name: &str,
    description: &str,
    config: &Config,
) -> Result<Decision, Rejection> {
    check_name(name)?;
    config::check(config::Scope::Project, config)?;
    if world.holder(NameKind::Project, Uuid::nil(), name).is_some() {
        return Err(Rejection::AlreadyExists { noun: Noun::Project, name: name.to_owned() });
    }
    let is_default = name == DEFAULT;
    let id = if is_default {
        Project::default_id()
    } else {
        ProjectId::derive(&[&context.operation.to_string()])
    };
    let mut config = config.clone();
    let features: &[&str] = if is_default {
        &["features.images", "features.networks", "features.networks.zones", "features.profiles"]
    } else {
        &["features.images", "features.profiles"]
    };
    for feature in features.iter().chain(&["features.storage.volumes", "features.storage.buckets"])
    {
        config.entry((*feature).to_owned()).or_insert_with(|| "true".to_owned());
    }
    let with_profiles = config::is_true(&config, "features.profiles");
    let mut decision = Decision::for_context(context);
    let reserved = Name::new(NameKind::Project, Uuid::nil(), name);
    let holder = id.0;
    decision.record(
        reserved.stream(),
        name::Event::Reserved { name: reserved, holder, description: String::new() },
    );
    let (name, description) = (name.to_owned(), description.to_owned());
    decision.record(stream(id), Event::Created { name: name.clone(), description, config });
    if with_profiles {
        let profile = ProfileId::derive(&[&id.to_string(), "default"]);
        profile::record_default(&mut decision, profile, id, &name);
    }
    Ok(decision)
}

/// The whole configuration becomes `config`.
///
/// # Errors
/// When there is no such project, it changed meanwhile, or the configuration is wrong.
pub fn configure(
    world: &World,
    context: &Context,
    name: &str,
    description: Option<&str>,
    config: &Config,
    expected: Option<Revision>,
) -> Result<Decision, Rejection> {
    let project = world.project(name)?;
    crate::decision::check_revision(world, stream(project.id), expected)?;
    config::check(config::Scope::Project, config)?;
    let changes = config::diff(&project.config, config);
    let features = changes.keys().any(|key| key.starts_with("features."));
    if features && (name == DEFAULT || !users(world, project).is_empty()) {
        let message = "Features can only be changed on empty projects".to_owned();
        return Err(Rejection::NotAllowed {
            message,
            hint: "make a new project with them".to_owned(),
        });
    }
    let description = description.filter(|text| *text != project.description).map(str::to_owned);
    let mut decision = Decision::for_context(context);
    if !changes.is_empty() || description.is_some() {
        decision.record(stream(project.id), Event::Configured { changes, description });
    }
    Ok(decision)
}

/// # Errors
/// When it is the default project, or the new name is taken or wrong.
pub fn rename(
    world: &World,
    context: &Context,
    name: &str,
    to: &str,
) -> Result<Decision, Rejection> {
    let project = world.project(name)?;
    refuse_default(name, "renamed")?;
    check_name(to)?;
    if world.holder(NameKind::Project, Uuid::nil(), to).is_some() {
        return Err(Rejection::AlreadyExists { noun: Noun::Project, name: to.to_owned() });
    }
    let mut decision = Decision::for_context(context);
    let (old, new) = (
        Name::new(NameKind::Project, Uuid::nil(), name),
        Name::new(NameKind::Project, Uuid::nil(), to),
    );
    let holder = project.id.0;
    decision.record(old.stream(), name::Event::Released { name: old });
    decision.record(
        new.stream(),
        name::Event::Reserved { name: new, holder, description: String::new() },
    );
    decision
        .record(stream(project.id), Event::Renamed { from: name.to_owned(), to: to.to_owned() });
    Ok(decision)
}

/// # Errors
/// When it is the default project, or something is in it.
pub fn delete(world: &World, context: &Context, name: &str) -> Result<Decision, Rejection> {
    let project = world.project(name)?;
    refuse_default(name, "deleted")?;
    let by = users(world, project);
    if !by.is_empty() {
        return Err(Rejection::InUse { noun: Noun::Project, by });
    }
    let mut decision = Decision::for_context(context);
    for profile in world.profiles.values().filter(|profile| profile.project == project.id) {
        profile::record_deleted(&mut decision, profile);
    }
    let held = Name::new(NameKind::Project, Uuid::nil(), name);
    decision.record(held.stream(), name::Event::Released { name: held });
    decision.record(stream(project.id), Event::Deleted);
    Ok(decision)
}

fn refuse_default(name: &str, verb: &str) -> Result<(), Rejection> {
    if name == DEFAULT {
        let message = format!("The 'default' project cannot be {verb}");
        return Err(Rejection::NotAllowed { message, hint: "stapes project list".to_owned() });
    }
    Ok(())
}

/// What is in the project, as paths; its profile `default` does not count.
#[must_use]
pub fn users(world: &World, project: &Project) -> Vec<String> {
    let instances = world.instances.values().filter(|instance| instance.project == project.id);
    let images = world.images.values().filter(|image| image.project == project.id);
    let networks = world.networks.values().filter(|network| network.project == project.id);
    let profiles = world
        .profiles
        .values()
        .filter(|profile| profile.project == project.id && profile.name != "default");
    let mut users: Vec<_> =
        instances.map(|instance| format!("instance {}", instance.name)).collect();
    users.extend(images.map(|image| format!("image {}", image.facts.fingerprint)));
    users.extend(networks.map(|network| format!("network {}", network.name)));
    users.extend(profiles.map(|profile| format!("profile {}", profile.name)));
    users
}

#[cfg(test)]
mod tests {
    use super::Config;
    use crate::{
        command::Command,
        testing::{Asked, check, stopped},
    };

    fn create(name: &str) -> Command {
        let (name, description, config) = (name.to_owned(), String::new(), Config::new());
        Command::CreateProject { name, description, config }
    }

    fn rename(name: &str, to: &str) -> Command {
        Command::RenameProject { name: name.to_owned(), to: to.to_owned() }
    }

    fn delete(name: &str) -> Command {
        Command::DeleteProject { name: name.to_owned() }
    }

    #[test]
    fn projects_come_and_go() {
        let blue = [Asked(create("blue"))];
        check(&[], create("blue"), "project-created, profile-created");
        check(&blue, create("blue"), "Project \"blue\" already exists");
        check(&blue, delete("blue"), "profile-deleted, project-deleted");
        check(&blue, rename("blue", "red"), "project-renamed");
        check(&blue, rename("blue", "default"), "Project \"default\" already exists");
        check(&[], delete("default"), "The 'default' project cannot be deleted");
        check(
            &stopped("web", &[]),
            rename("default", "x"),
            "The 'default' project cannot be renamed",
        );
        check(&[], delete("blue"), "Project not found");
        for name in ["", ".", "..", "a b", "a/b", "a_b", "a\n", "a*"] {
            let rule = "1 to 63 characters without spaces, '/' and '_'";
            check(&[], create(name), &format!("Invalid project name {name:?}: {rule}"));
        }
    }
}
