//! Who set this: from the newest event that did, and the profiles below it.

use chrono::Local;
use serde_json::Value;

use super::{placement, read, record::Record, unheard_of};
use crate::{
    args::event::WhyArgs,
    commands::{object::Object, text},
    exit::ExitStatus,
    failure::{Failure, Result},
    name::{Kind, Resource},
    session::Session,
    units::moment::show,
};

pub(crate) async fn run(session: &Session, args: WhyArgs) -> Result<ExitStatus> {
    let (resource, key) = split(&args)?;
    if let Some(member) = &args.member {
        if key.as_deref() != Some("on") {
            return Err(Failure::usage("write it as: stapes why INSTANCE on MEMBER"));
        }
        return placement::run(session, &resource, Some(member)).await;
    }
    match key.as_deref() {
        Some("node" | "location") => placement::run(session, &resource, None).await,
        None | Some("state") => state(session, &resource).await,
        Some(key) => value(session, &resource, key).await,
    }
}

/// `web.limits.memory` is a key of web: names have no dots.
fn split(args: &WhyArgs) -> Result<(Resource, Option<String>)> {
    if args.key.is_some() {
        return Ok((Resource::parse(&args.target)?, args.key.clone()));
    }
    match args.target.split_once('.') {
        Some((name, key)) => Ok((Resource::parse(name)?, Some(key.to_owned()))),
        None => Ok((Resource::parse(&args.target)?, None)),
    }
}

/// The newest event of a resource that `wanted` picks.
pub(super) async fn newest(
    session: &Session,
    resource: &Resource,
    wanted: impl Fn(&Record) -> bool,
) -> Result<Option<Record>> {
    let mut found = None;
    read(session, 0, Some(&resource.log_name()), |record| {
        if wanted(&record) {
            found = Some(record);
        }
        true
    })
    .await?;
    Ok(found)
}

async fn state(session: &Session, resource: &Resource) -> Result<ExitStatus> {
    let now = session.value(&resource.path()).await.ok();
    let status = now.as_ref().map(|now| text(now, "status")).unwrap_or_default();
    let record =
        newest(session, resource, |record| !record.kind.ends_with("config-changed")).await?;
    let record = record.ok_or_else(|| unheard_of(resource))?;
    let shown = if status.is_empty() { "not there".to_owned() } else { status };
    session.printer.line(&format!("{}  {shown}", resource.log_name()))?;
    session.printer.line(&format!("  {}", told(&record)))?;
    Ok(ExitStatus::Done)
}

async fn value(session: &Session, resource: &Resource, key: &str) -> Result<ExitStatus> {
    let now = session.value(&resource.path()).await?;
    let own = config(&now, "config", key);
    let effective = config(&now, "expanded_config", key).or_else(|| own.clone());
    let Some(effective) = effective else {
        let event = newest(session, resource, |record| record.sets(key).is_some()).await?;
        session.printer.line(&format!("{key} is not set on {}", resource.log_name()))?;
        if let Some(event) = event {
            session.printer.line(&format!("  last mentioned: {}", told(&event)))?;
        }
        return Ok(ExitStatus::Done);
    };
    session.printer.line(&format!("{key} = {effective}"))?;
    if own.is_some() {
        let event = newest(session, resource, |record| record.sets(key).is_some()).await?;
        let by = event.map_or_else(|| "by an event that is not kept".to_owned(), |e| told(&e));
        session.printer.line(&format!("  set on {} itself: {by}", resource.name))?;
    }
    if resource.kind == Kind::Instance {
        from_profiles(session, &now, key, own.is_some()).await?;
    }
    Ok(ExitStatus::Done)
}

/// The last profile of the list that has the key wins, unless the instance has it itself.
async fn from_profiles(session: &Session, now: &Value, key: &str, hidden: bool) -> Result<()> {
    let profiles = now.get("profiles").and_then(Value::as_array).cloned().unwrap_or_default();
    let mut hidden = hidden;
    for name in profiles.iter().rev().filter_map(Value::as_str) {
        let profile = session.value(&Object::profile(name)?.path).await?;
        let Some(found) = config(&profile, "config", key) else { continue };
        let resource = Resource::parse(&format!("profile/{name}"))?;
        let event = newest(session, &resource, |record| record.sets(key).is_some()).await?;
        let by = event.map(|event| format!(": {}", told(&event))).unwrap_or_default();
        let verb = if hidden { format!("hides {found} from") } else { "from".to_owned() };
        session.printer.line(&format!("  {verb} profile {name}{by}"))?;
        hidden = true;
    }
    Ok(())
}

fn config(value: &Value, field: &str, key: &str) -> Option<String> {
    value.get(field)?.get(key)?.as_str().map(str::to_owned)
}

/// Who, when, where on the log, and why.
pub(super) fn told(record: &Record) -> String {
    let when = record.time.map(|time| show(time, Local::now())).unwrap_or_default();
    let who = if record.actor.is_empty() { "system" } else { &record.actor };
    let mut text =
        format!("{} by {who} {when} (seq {}, r{}", record.kind, record.sequence, record.revision);
    if !record.operation.is_empty() {
        text.push_str(&format!(", op {}", record.operation));
    }
    text.push(')');
    if !record.reason.is_empty() {
        text.push_str(&format!(" \"{}\"", record.reason));
    }
    text
}
