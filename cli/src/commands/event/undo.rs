//! Undo appends: what an operation changed is compared before and after it, and the difference is
//! taken back from what is there now. Where something else changed the same since, it refuses.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};
use stapes_api::client::Method;

use super::{read, record::Record, show::state};
use crate::{
    args::event::UndoArgs,
    commands::{operation, text},
    exit::ExitStatus,
    failure::{Failure, Result},
    input,
    name::{Kind, Resource},
    operation::submit,
    session::Session,
};

/// What may differ without anybody having asked for it.
const FIELDS: [&str; 7] =
    ["config", "devices", "profiles", "description", "ephemeral", "properties", "public"];

/// One request that takes something back, in words and as it is sent.
#[derive(Debug)]
struct Step {
    words: String,
    method: Method,
    path: String,
    body: Value,
}

pub(crate) async fn run(session: &Session, args: UndoArgs) -> Result<ExitStatus> {
    let id = operation::resolve(session, &args.operation).await?;
    let (first, touched) = touched(session, &id).await?;
    let mut steps = Vec::new();
    for (resource, last) in &touched {
        steps.extend(take_back(session, &Resource::parse(resource)?, first, *last).await?);
    }
    if steps.is_empty() {
        session.printer.say(&format!("op {id} changed nothing that can still be seen"));
        return Ok(ExitStatus::Done);
    }
    session.printer.say("Will run:");
    for step in &steps {
        session.printer.say(&format!("  {}", step.words));
    }
    if args.dry_run {
        return Ok(ExitStatus::Done);
    }
    let short: String = id.chars().take(13).collect();
    if !args.yes && !input::confirm(session, "Undo?", &format!("stapes undo --yes {short}"))? {
        return Ok(ExitStatus::Done);
    }
    let session = with_reason(session, &id);
    for step in steps {
        submit(&session, step.method, &step.path, &step.body, &step.words).await?;
    }
    session.printer.say(&format!("op {id} is undone"));
    Ok(ExitStatus::Done)
}

/// The undo says what it undoes, unless the user says why.
fn with_reason(session: &Session, id: &str) -> Session {
    let mut session = session.clone();
    if session.settings.submit.reason.is_none() {
        session.client = session.client.reason(format!("undo of {id}"));
    }
    session
}

/// The first sequence of an operation, and the things that it changed with its last sequence on each.
/// What was before is asked for at the sequence before the first: a commit is seen as a whole or not
/// at all, and an operation's own record comes before those of the things.
async fn touched(session: &Session, id: &str) -> Result<(u64, BTreeMap<String, u64>)> {
    let mut first = None;
    let mut touched = BTreeMap::new();
    read(session, 0, None, |record: Record| {
        if record.operation == id {
            first.get_or_insert(record.sequence);
            if !record.resource.starts_with("operation/") {
                touched.insert(record.resource, record.sequence);
            }
        }
        true
    })
    .await?;
    if touched.is_empty() {
        return Err(Failure::new(
            ExitStatus::NotFound,
            "not-found",
            format!("op {id} has left no event that could be undone"),
        ));
    }
    // Names are reserved with what they name; undoing that frees them.
    touched.retain(|resource, _| !resource.starts_with("name/"));
    Ok((first.unwrap_or_default(), touched))
}

async fn take_back(
    session: &Session,
    resource: &Resource,
    first: u64,
    last: u64,
) -> Result<Vec<Step>> {
    let before = past(session, resource, first.saturating_sub(1)).await?;
    let after = past(session, resource, last).await?;
    match (before, after) {
        (None, None) => Ok(Vec::new()),
        (None, Some(_)) => created(session, resource).await,
        (Some(_), None) => Err(Failure::new(
            ExitStatus::Failed,
            "cannot-undo",
            format!("{} was deleted; its content is gone", resource.log_name()),
        )
        .hint(format!("stapes show {} --at {}", resource.typed(), first - 1))
        .effect("Nothing was changed.")),
        (Some(before), Some(after)) => changed(session, resource, &before, &after).await,
    }
}

async fn past(session: &Session, resource: &Resource, sequence: u64) -> Result<Option<Value>> {
    if sequence == 0 {
        return Ok(None);
    }
    match state(session, resource, Some(&sequence.to_string())).await {
        Ok(value) => Ok(Some(value)),
        Err(failure) if failure.exit() == ExitStatus::NotFound => Ok(None),
        Err(failure) => Err(failure),
    }
}

async fn created(session: &Session, resource: &Resource) -> Result<Vec<Step>> {
    let Ok(now) = state(session, resource, None).await else { return Ok(Vec::new()) };
    let title = resource.log_name();
    let mut steps = Vec::new();
    if resource.kind == Kind::Instance && text(&now, "status") == "Running" {
        steps.push(power(resource, "stop"));
    }
    steps.push(Step {
        words: format!("delete {title}"),
        method: Method::DELETE,
        path: resource.path(),
        body: json!({}),
    });
    Ok(steps)
}

async fn changed(
    session: &Session,
    resource: &Resource,
    before: &Value,
    after: &Value,
) -> Result<Vec<Step>> {
    let now = state(session, resource, None).await?;
    let mut steps = Vec::new();
    let mut body = Map::new();
    let mut words = Vec::new();
    for field in FIELDS {
        let (old, new) = (before.get(field), after.get(field));
        if old == new {
            continue;
        }
        let current = now.get(field).cloned().unwrap_or_default();
        let restored = revert(resource, field, old, new, &current, &mut words)?;
        body.insert(field.to_owned(), restored);
    }
    if !body.is_empty() {
        // A PUT is of the whole: what was not changed goes back as it is now.
        for field in FIELDS {
            if let (false, Some(value)) = (body.contains_key(field), now.get(field)) {
                body.insert(field.to_owned(), value.clone());
            }
        }
        steps.push(Step {
            words: format!("set on {}: {}", resource.name, words.join(", ")),
            method: Method::PUT,
            path: resource.path(),
            body: Value::Object(body),
        });
    }
    if resource.kind == Kind::Instance {
        steps.extend(power_back(resource, before, after, &now));
    }
    Ok(steps)
}

/// The current value with the difference between `new` and `old` taken out of it.
fn revert(
    resource: &Resource,
    field: &str,
    old: Option<&Value>,
    new: Option<&Value>,
    current: &Value,
    words: &mut Vec<String>,
) -> Result<Value> {
    let (Some(Value::Object(old)), Some(Value::Object(new)), Value::Object(current)) =
        (old, new, current)
    else {
        if Some(current) != new {
            return Err(changed_since(resource, field));
        }
        words.push(format!("{field} as before"));
        return Ok(old.cloned().unwrap_or_default());
    };
    let mut restored = current.clone();
    let keys: std::collections::BTreeSet<&String> = old.keys().chain(new.keys()).collect();
    for key in keys.into_iter().filter(|key| !key.starts_with("volatile.")) {
        if old.get(key) == new.get(key) {
            continue;
        }
        if current.get(key) != new.get(key) {
            return Err(changed_since(resource, key));
        }
        match old.get(key) {
            Some(value) => {
                let shown = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
                words.push(format!("{key}={shown}"));
                restored.insert(key.clone(), value.clone());
            }
            None => {
                words.push(format!("{key} unset"));
                restored.remove(key);
            }
        }
    }
    Ok(Value::Object(restored))
}

fn changed_since(resource: &Resource, key: &str) -> Failure {
    Failure::new(
        ExitStatus::Conflict,
        "changed-since",
        format!("`{key}` of {} was changed again since", resource.log_name()),
    )
    .hint(format!("stapes log {}", resource.typed()))
    .effect("Nothing was changed.")
}

fn power(resource: &Resource, action: &str) -> Step {
    Step {
        words: format!("{action} {}", resource.name),
        method: Method::PUT,
        path: format!("{}/state", resource.path()),
        body: json!({ "action": action, "timeout": -1 }),
    }
}

fn power_back(resource: &Resource, before: &Value, after: &Value, now: &Value) -> Option<Step> {
    let status = |value: &Value| text(value, "status");
    if status(after) != status(now) {
        return None;
    }
    match (status(before).as_str(), status(after).as_str()) {
        ("Running", "Stopped") => Some(power(resource, "start")),
        ("Stopped", "Running") => Some(power(resource, "stop")),
        ("Running", "Frozen") => Some(power(resource, "unfreeze")),
        ("Frozen", "Running") => Some(power(resource, "freeze")),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reverted(old: Value, new: Value, current: Value) -> Result<(Value, String)> {
        let mut words = Vec::new();
        let web = Resource::parse("web").unwrap();
        let value = revert(&web, "config", Some(&old), Some(&new), &current, &mut words)?;
        Ok((value, words.join(", ")))
    }

    #[test]
    fn only_the_operations_own_change_is_taken_back() {
        let (value, words) = reverted(
            json!({ "limits.memory": "2GiB" }),
            json!({ "limits.memory": "4GiB", "user.a": "1" }),
            json!({ "limits.memory": "4GiB", "user.a": "1", "user.later": "x" }),
        )
        .unwrap();
        assert_eq!(value, json!({ "limits.memory": "2GiB", "user.later": "x" }));
        assert_eq!(words, "limits.memory=2GiB, user.a unset");
    }

    #[test]
    fn what_was_changed_again_is_not_overwritten() {
        let refused = reverted(json!({ "a": "1" }), json!({ "a": "2" }), json!({ "a": "3" }));
        assert_eq!(refused.unwrap_err().exit(), ExitStatus::Conflict);
    }
}
