//! Snapshots of an instance.

use chrono::{DateTime, Utc};

use super::{
    Event, Step, Target,
    request::{append_job, idle, snapshot_resources},
};
use crate::{
    decision::{Context, Decision},
    ids::SnapshotId,
    operation::{Class, Gain, Verb},
    rejection::{Noun, Rejection},
    world::{World, missing},
};

fn check_name(name: &str) -> Result<(), Rejection> {
    let plain = |c: char| !c.is_whitespace() && !c.is_control() && c != '/';
    if name.is_empty()
        || name.len() > 128
        || !name.chars().all(plain)
        || name == "."
        || name == ".."
    {
        let rule = "1 to 128 characters without spaces and '/'";
        return Err(Rejection::Invalid(format!(
            "Invalid snapshot name {name:?}: a name is {rule}"
        )));
    }
    Ok(())
}

/// Without a name it is called `snap0`, `snap1` ...
///
/// # Errors
/// When the name is taken or wrong, or the instance is busy.
pub fn create_snapshot(
    world: &World,
    context: &Context,
    target: &Target,
    name: Option<&str>,
    expires_at: Option<DateTime<Utc>>,
) -> Result<Decision, Rejection> {
    let instance = target.find(world)?;
    idle(instance)?;
    let numbered =
        || (0..).map(|n| format!("snap{n}")).find(|name| !instance.snapshots.contains_key(name));
    let name = name.map(str::to_owned).or_else(numbered).unwrap_or_default();
    check_name(&name)?;
    if instance.snapshots.contains_key(&name) {
        return Err(Rejection::AlreadyExists { noun: Noun::Snapshot, name });
    }
    let snapshot = SnapshotId::derive(&[&context.operation.to_string()]);
    let mut decision = Decision::for_context(context);
    decision.accept(
        instance.project,
        Verb::CreateSnapshot,
        Class::Task,
        snapshot_resources(instance, &name),
    );
    let step = Step::TakeSnapshot { name, snapshot, expires_at };
    append_job(
        world,
        context,
        &mut decision,
        instance,
        Verb::CreateSnapshot,
        vec![step],
        Vec::new(),
    )?;
    Ok(decision)
}

/// # Errors
/// When there is none, or the instance is busy.
pub fn delete_snapshot(
    world: &World,
    context: &Context,
    target: &Target,
    name: &str,
) -> Result<Decision, Rejection> {
    let instance = target.find(world)?;
    idle(instance)?;
    let snapshot = instance.snapshots.get(name).ok_or_else(|| missing(Noun::Snapshot, name))?.id;
    let mut decision = Decision::for_context(context);
    decision.accept(
        instance.project,
        Verb::DeleteSnapshot,
        Class::Task,
        snapshot_resources(instance, name),
    );
    let step = Step::DeleteSnapshot { name: name.to_owned(), snapshot };
    append_job(
        world,
        context,
        &mut decision,
        instance,
        Verb::DeleteSnapshot,
        vec![step],
        Vec::new(),
    )?;
    Ok(decision)
}

/// # Errors
/// When there is none, the new name is taken or wrong, or the instance is busy.
pub fn rename_snapshot(
    world: &World,
    context: &Context,
    target: &Target,
    from: &str,
    to: &str,
) -> Result<Decision, Rejection> {
    let instance = target.find(world)?;
    idle(instance)?;
    check_name(to)?;
    if !instance.snapshots.contains_key(from) {
        return Err(missing(Noun::Snapshot, from));
    }
    if instance.snapshots.contains_key(to) {
        return Err(Rejection::AlreadyExists { noun: Noun::Snapshot, name: to.to_owned() });
    }
    let event = Event::SnapshotRenamed { from: from.to_owned(), to: to.to_owned() };
    let mut decision = Decision::for_context(context);
    decision.accept(
        instance.project,
        Verb::RenameSnapshot,
        Class::Task,
        snapshot_resources(instance, to),
    );
    decision.record(instance.id.stream(), event);
    decision.succeed(context.operation, Gain::Nothing);
    Ok(decision)
}

/// # Errors
/// When there is none.
pub fn set_snapshot_expiry(
    world: &World,
    context: &Context,
    target: &Target,
    name: &str,
    expires_at: Option<DateTime<Utc>>,
) -> Result<Decision, Rejection> {
    let instance = target.find(world)?;
    let snapshot = instance.snapshots.get(name).ok_or_else(|| missing(Noun::Snapshot, name))?;
    let mut decision = Decision::for_context(context);
    decision.accept(
        instance.project,
        Verb::UpdateSnapshot,
        Class::Task,
        snapshot_resources(instance, name),
    );
    if snapshot.expires_at != expires_at {
        decision.record(
            instance.id.stream(),
            Event::SnapshotExpirySet { name: name.to_owned(), expires_at },
        );
    }
    decision.succeed(context.operation, Gain::Nothing);
    Ok(decision)
}
