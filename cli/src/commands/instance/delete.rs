//! `stapes delete`

use stapes_api::{
    client::escape,
    wire::{StatusCode, instance::Instance, instance_state::InstanceStatePut},
};

use super::{
    each,
    state::{Action, change},
};
use crate::{
    args::instance::DeleteArgs,
    commands::object::{Object, delete as delete_object},
    exit::ExitStatus,
    failure::{Failure, Result},
    input,
    name::{InstanceOrSnapshot, instance_or_snapshot},
    session::Session,
};

/// All names are looked up before anything is deleted.
pub(crate) async fn run(session: &Session, args: DeleteArgs) -> Result<ExitStatus> {
    let mut targets = Vec::new();
    for name in &args.names {
        let target = instance_or_snapshot(name)?;
        check(session, &target, args.force).await?;
        targets.push((name.clone(), target));
    }
    if args.interactive {
        targets = ask(session, targets)?;
    }
    let names = targets.into_iter().map(|(name, _)| name).collect();
    each(session, names, |name| async move {
        let target = instance_or_snapshot(&name)?;
        if args.force && target.snapshot.is_none() {
            stop(session, &target.instance).await?;
        }
        delete_object(session, &object(&target)?).await.map(drop)
    })
    .await
}

fn object(target: &InstanceOrSnapshot) -> Result<Object> {
    match &target.snapshot {
        Some(snapshot) => Ok(Object::snapshot(&target.instance, snapshot)),
        None => Object::instance(&target.instance),
    }
}

async fn check(session: &Session, target: &InstanceOrSnapshot, force: bool) -> Result<()> {
    let object = object(target)?;
    let found = object.read(session).await?;
    let instance: Instance = serde_json::from_value(found).unwrap_or_default();
    if target.snapshot.is_none() && !force && alive(&instance) {
        return Err(Failure::new(
            ExitStatus::Failed,
            "instance-running",
            format!("{} is running", target.instance),
        )
        .hint(format!("stapes stop {}", target.instance))
        .hint(format!("stapes delete -f {}", target.instance))
        .effect("Nothing was deleted."));
    }
    Ok(())
}

fn alive(instance: &Instance) -> bool {
    !matches!(instance.status_code, StatusCode::STOPPED | StatusCode::ERROR | StatusCode(0))
}

async fn stop(session: &Session, name: &str) -> Result<()> {
    let instance: Instance = session.get(&format!("/1.0/instances/{}", escape(name))).await?;
    if !alive(&instance) {
        return Ok(());
    }
    let put = InstanceStatePut { timeout: -1, force: true, ..Default::default() };
    change(session, Action::Stop, name, put).await
}

fn ask(
    session: &Session,
    targets: Vec<(String, InstanceOrSnapshot)>,
) -> Result<Vec<(String, InstanceOrSnapshot)>> {
    let mut kept = Vec::new();
    for (name, target) in targets {
        if input::confirm(session, &format!("Delete {name}?"), &format!("stapes delete {name}"))? {
            kept.push((name, target));
        }
    }
    Ok(kept)
}
