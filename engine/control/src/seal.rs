//! Secrets are sealed here, at the edge of the write path, so that nothing behind it ever holds one
//! in clear: not the decision, not the log, not the world.
//!
//! A client may send back what it was shown. What was shown opened is sealed to the same text again,
//! so nothing has changed; what was shown as erased, or as unreadable, stays what it is.

use stapes_core::{
    command::Command,
    config::{self, Config, Scope},
    decision::Decision,
    event::Event,
    ids::ProjectId,
    instance::{self, Source},
    port::secret::{ERASED, Sealed, Sealer, SecretError, UNREADABLE, looks_sealed},
    rejection::Rejection,
    world::World,
};

use crate::control::SubmitError;

/// A configuration that a command brings, and what it is sealed for.
pub(crate) struct Brought<'a> {
    scope: Scope,
    config: &'a mut Config,
    project: ProjectId,
    /// What the object has now.
    current: Config,
}

/// The configuration with secrets that the command brings, if it brings any.
///
/// # Errors
/// When what it is for is not there: then there is no key either.
#[allow(
    clippy::wildcard_enum_match_arm,
    reason = "of fifty commands these four bring what `config::is_secret` names"
)]
pub(crate) fn brought<'a>(
    world: &World,
    command: &'a mut Command,
) -> Result<Option<Brought<'a>>, Rejection> {
    let brought = match command {
        Command::CreateInstance(wanted) => {
            let project = world.project(&wanted.project)?.id;
            let current = copied(world, &wanted.source);
            Brought { scope: Scope::Instance, config: &mut wanted.config, project, current }
        }
        Command::ReconfigureInstance { target, wanted } => {
            let instance = world.instance(&target.project, &target.name)?;
            let Some(config) = &mut wanted.config else { return Ok(None) };
            let (project, current) = (instance.project, instance.config.clone());
            Brought { scope: Scope::Instance, config, project, current }
        }
        Command::CreateProfile { project, wanted, .. } => {
            let project = world.project(project)?.profiles_in();
            let (config, current) = (&mut wanted.config, Config::new());
            Brought { scope: Scope::Profile, config, project, current }
        }
        Command::ConfigureProfile { project, name, wanted, .. } => {
            let profile = world.profile(project, name)?;
            let (project, current) = (profile.project, profile.config.clone());
            Brought { scope: Scope::Profile, config: &mut wanted.config, project, current }
        }
        _ => return Ok(None),
    };
    let has_secrets = |config: &Config| config.keys().any(|key| config::is_secret(key));
    let matters = has_secrets(brought.config) || has_secrets(&brought.current);
    Ok(matters.then_some(brought))
}

/// What an instance has that is to be copied.
fn copied(world: &World, source: &Source) -> Config {
    match source {
        Source::Copy { project, name, .. } => {
            world.instance(project, name).map_or_else(|_| Config::new(), |it| it.config.clone())
        }
        Source::Image(_) | Source::Empty => Config::new(),
    }
}

impl Brought<'_> {
    /// The project whose key is needed. A copy may need it for what it brings.
    pub(crate) fn seals_for(&self) -> ProjectId {
        self.project
    }

    /// What is sealed already: of the object, and what the client pasted.
    pub(crate) fn sealed(&self) -> Vec<String> {
        let values = self.config.values().chain(self.current.values());
        values.filter(|value| looks_sealed(value)).cloned().collect()
    }

    /// Seals the secrets. They are checked before: afterwards nobody can.
    ///
    /// # Errors
    /// Names the first key whose value is wrong.
    pub(crate) fn seal(self, sealer: &dyn Sealer) -> Result<(), SubmitError> {
        config::check(self.scope, self.config)?;
        for (key, value) in secrets(self.config) {
            let current = self.current.get(key).filter(|current| looks_sealed(current));
            if let Some(current) = current.filter(|current| is_shown_as(sealer, current, value)) {
                value.clone_from(current);
            } else {
                *value = sealer.seal(self.project, value).map_err(|error| refused(key, error))?;
            }
        }
        Ok(())
    }
}

/// Whether a client that was shown `current` sends back `value` when it changes nothing.
fn is_shown_as(sealer: &dyn Sealer, current: &str, value: &str) -> bool {
    match value {
        ERASED => matches!(sealer.open(current), Err(SecretError::Erased(_))),
        UNREADABLE => true,
        value => value == current,
    }
}

fn secrets(config: &mut Config) -> impl Iterator<Item = (&str, &mut String)> {
    let set = config.iter_mut().filter(|(_, value)| !value.is_empty());
    set.filter(|(key, _)| config::is_secret(key)).map(|(key, value)| (key.as_str(), value))
}

fn refused(key: &str, error: SecretError) -> SubmitError {
    match error {
        SecretError::Erased(_) | SecretError::NotSealed => {
            Rejection::Invalid(format!("Invalid config: {key:?}: {error}")).into()
        }
        SecretError::Failed(why) => SubmitError::Secrets(why),
    }
}

/// What a copy brings from another project is sealed anew with its own project's key: deleting the
/// other one must not erase it. What is erased already stays so.
///
/// # Errors
/// When a key cannot be used.
pub(crate) fn reseal_copies(
    sealer: &dyn Sealer,
    decision: &mut Decision,
) -> Result<(), SubmitError> {
    let events = decision.events.iter_mut().flat_map(|(_, events)| events);
    for event in events {
        let Event::Instance(instance::Event::Created(created)) = event else { continue };
        let project = created.project;
        let snapshots = created.snapshots.values_mut().map(|snapshot| &mut snapshot.config);
        for config in snapshots.chain([&mut created.config]) {
            for (key, value) in secrets(config) {
                reseal(sealer, project, value).map_err(|error| refused(key, error))?;
            }
        }
    }
    Ok(())
}

fn reseal(sealer: &dyn Sealer, project: ProjectId, value: &mut String) -> Result<(), SecretError> {
    if value.parse::<Sealed>().is_ok_and(|sealed| sealed.project == project) {
        return Ok(());
    }
    let plain = match stapes_core::port::secret::reveal(sealer, value) {
        Ok(plain) => plain,
        Err(SecretError::Erased(_) | SecretError::NotSealed) => return Ok(()),
        Err(error @ SecretError::Failed(_)) => return Err(error),
    };
    *value = sealer.seal(project, &plain)?;
    Ok(())
}
