//! `rename` and `move`: another name, pool, project or node for the same instance.

use stapes_api::{
    client::{Method, escape},
    wire::instance::{Instance, InstancePost},
};

use crate::{
    args::instance::{MoveArgs, RenameArgs},
    commands::object::{Object, rename as rename_object},
    exit::ExitStatus,
    failure::{Failure, Result},
    name::{self, instance_or_snapshot},
    operation::{Outcome, submit},
    pairs,
    session::Session,
    units,
};

pub(crate) async fn rename(session: &Session, args: RenameArgs) -> Result<ExitStatus> {
    let new_name = name::local(&args.new_name)?;
    let source = instance_or_snapshot(&args.name)?;
    match source.snapshot {
        None => rename_object(session, &Object::instance(&source.instance)?, new_name).await,
        Some(snapshot) => {
            let new_name = new_name.rsplit('/').next().unwrap_or(new_name);
            rename_object(session, &Object::snapshot(&source.instance, &snapshot), new_name).await
        }
    }
}

pub(crate) async fn run(session: &Session, args: MoveArgs) -> Result<ExitStatus> {
    let elsewhere = args.config.target.is_some()
        || args.config.storage.is_some()
        || args.target_project.is_some();
    let new_name = args.name.as_deref().map(name::local).transpose()?;
    if !elsewhere {
        let new_name = new_name.ok_or_else(|| {
            Failure::usage("say where to: a new name, --storage, --target or --target-project")
        })?;
        let args = RenameArgs { name: args.source, new_name: new_name.to_owned() };
        return rename(session, args).await;
    }
    let object = Object::instance(&args.source)?;
    let post = InstancePost {
        name: new_name.unwrap_or(&object.name).to_owned(),
        migration: true,
        live: !args.stateless,
        instance_only: args.instance_only,
        pool: args.config.storage.clone().unwrap_or_default(),
        project: args.target_project.clone().unwrap_or_default(),
        allow_inconsistent: args.allow_inconsistent,
        config: given(pairs::flags(&args.config.config)?),
        devices: given(pairs::devices(&args.config.device)?),
        profiles: (args.config.no_profiles || !args.config.profile.is_empty())
            .then(|| args.config.profile.clone()),
        ..InstancePost::default()
    };
    let path = match (&args.config.target, &args.live) {
        (Some(node), Some(live)) => format!("{}?target={}&live={live}", object.path, escape(node)),
        (Some(node), None) => format!("{}?target={}", object.path, escape(node)),
        (None, _) => object.path.clone(),
    };
    let what = format!("moving {}", object.name);
    let moved = submit(session, Method::POST, &path, &post, &what).await;
    let moved = object.explain(session, moved).await?;
    if moved.finished() {
        let now: Instance = session.get(&object.path).await?;
        let how = how(&moved).unwrap_or_default();
        session.printer.say(&format!("{} is on {}{how}", object.name, now.location));
    }
    Ok(ExitStatus::Done)
}

/// How it moved and for how long nobody could reach it, as far as the operation tells.
fn how(moved: &Outcome) -> Option<String> {
    let Outcome::Finished(operation) = moved else { return None };
    let gain = operation.metadata.as_ref()?;
    let text = |key: &str| gain.get(key).and_then(serde_json::Value::as_str);
    let bytes = units::size::show(text("bytes")?.parse().ok()?);
    Some(match (text("mode")?, text("downtime_ms")?) {
        ("stop-copy", _) => format!(" (stopped, {bytes} sent)"),
        (mode, away) => format!(" ({mode}, away for {away} ms, {bytes} sent)"),
    })
}

fn given<V>(
    map: std::collections::BTreeMap<String, V>,
) -> Option<std::collections::BTreeMap<String, V>> {
    (!map.is_empty()).then_some(map)
}
