//! `stapes operation …`: what runs, and what ever ran.

use serde_json::{Value, json};
use stapes_api::client::{Method, escape};

use super::{items, object::last_segment, text};
use crate::{
    args::operation::{IdArgs, ListArgs, ShowArgs},
    exit::ExitStatus,
    failure::{Failure, Result},
    operation::follow,
    output::Listing,
    session::Session,
};

/// A full id has so many characters.
const FULL: usize = 36;

pub(crate) async fn list(session: &Session, args: ListArgs) -> Result<ExitStatus> {
    let session = &session.all_projects(args.all_projects);
    let mut listing = Listing::new(&["Id", "Description", "About", "State", "Created", "Error"]);
    let mut found = all(session, args.all).await?;
    found.sort_by_key(|value| text(value, "created_at"));
    for value in found {
        let about = about(&value).join(", ");
        let row = vec![
            text(&value, "id"),
            text(&value, "description"),
            about,
            text(&value, "status").to_uppercase(),
            text(&value, "created_at"),
            text(&value, "err"),
        ];
        listing.push(row, value);
    }
    session.printer.listing(args.format.format, &listing)?;
    Ok(ExitStatus::Done)
}

/// The names of what an operation is about; an image's is a fingerprint, shown as lists show it.
fn about(operation: &Value) -> Vec<&str> {
    let kinds = operation.get("resources").and_then(Value::as_object).into_iter().flatten();
    let urls = kinds.filter_map(|(_, urls)| urls.as_array()).flatten().filter_map(Value::as_str);
    let names = urls.map(last_segment);
    names.map(|name| if name.len() == 64 { name.get(..12).unwrap_or(name) } else { name }).collect()
}

/// Those in flight, or with `history` all that ever were, whatever their state.
async fn all(session: &Session, history: bool) -> Result<Vec<Value>> {
    let path = if history {
        "/1.0/operations?recursion=1&history=1"
    } else {
        "/1.0/operations?recursion=1"
    };
    // A map by state; our history may be a plain list.
    let mut answer = session.value(path).await?;
    match answer.as_object_mut().map(std::mem::take) {
        Some(by_state) => Ok(by_state.into_iter().flat_map(|(_, list)| items(list)).collect()),
        None => Ok(items(answer)),
    }
}

/// The one operation whose id begins so.
pub(crate) async fn resolve(session: &Session, prefix: &str) -> Result<String> {
    let prefix = prefix.rsplit('/').next().unwrap_or(prefix);
    if prefix.len() == FULL {
        return Ok(prefix.to_owned());
    }
    let everywhere = session.all_projects(true);
    let ids: Vec<String> = all(&everywhere, true)
        .await?
        .iter()
        .map(|value| text(value, "id"))
        .filter(|id| id.starts_with(prefix))
        .collect();
    match ids.as_slice() {
        [id] => Ok(id.clone()),
        [] => Err(Failure::new(
            ExitStatus::NotFound,
            "not-found",
            format!("there is no operation whose id begins with `{prefix}`"),
        )
        .hint("stapes op list --all")),
        several => Err(Failure::usage(format!("`{prefix}` begins {} ids", several.len()))
            .facts(several.iter().take(5).cloned())),
    }
}

pub(crate) async fn show(session: &Session, args: ShowArgs) -> Result<ExitStatus> {
    let id = resolve(session, &args.id).await?;
    let value = session.value(&format!("/1.0/operations/{}", escape(&id))).await?;
    session.printer.object(args.format.format, &value)?;
    Ok(ExitStatus::Done)
}

pub(crate) async fn watch(session: &Session, args: IdArgs) -> Result<ExitStatus> {
    let id = resolve(session, &args.id).await?;
    let operation = session.value(&format!("/1.0/operations/{}", escape(&id))).await?;
    let done = follow(session, &id, &text(&operation, "description")).await?;
    session.printer.say(&format!("op {id} {}: {}", done.status.to_lowercase(), done.description));
    Ok(ExitStatus::Done)
}

pub(crate) async fn cancel(session: &Session, args: IdArgs) -> Result<ExitStatus> {
    let id = resolve(session, &args.id).await?;
    session
        .send(Method::DELETE, &format!("/1.0/operations/{}", escape(&id)), &json!({}), None)
        .await?;
    session.printer.say(&format!("op {id} is asked to stop"));
    Ok(ExitStatus::Done)
}
