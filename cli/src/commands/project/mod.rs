//! `stapes project …`: what only projects do.

use serde_json::{Value, json};
use stapes_api::client::Method;

use super::{
    count,
    object::{self, Object},
    text,
};
use crate::{
    args::{
        common::{NameArgs, ShowArgs},
        project::{CreateArgs, DeleteArgs, ListArgs},
    },
    exit::ExitStatus,
    failure::Result,
    input, name,
    operation::submit,
    output::{Listing, format::Shape},
    pairs,
    session::Session,
};

pub(crate) async fn list(session: &Session, args: ListArgs) -> Result<ExitStatus> {
    let titles = ["Name", "Images", "Profiles", "Volumes", "Networks", "Description", "Used by"];
    let mut listing = Listing::new(&titles);
    for value in session.values("/1.0/projects?recursion=1").await? {
        let current = text(&value, "name") == session.settings.project;
        let marked = text(&value, "name") + if current { " (current)" } else { "" };
        let mut row = vec![marked];
        for feature in ["images", "profiles", "storage.volumes", "networks"] {
            row.push(yes(&value, feature));
        }
        row.push(text(&value, "description"));
        row.push(count(&value, "used_by").to_string());
        listing.push(row, value);
    }
    listing.sort(None)?;
    session.printer.listing(args.format.format, &listing)?;
    Ok(ExitStatus::Done)
}

fn yes(value: &Value, feature: &str) -> String {
    let own = value
        .get("config")
        .is_some_and(|config| text(config, &format!("features.{feature}")) == "true");
    if own { "YES" } else { "NO" }.to_owned()
}

pub(crate) async fn create(session: &Session, args: CreateArgs) -> Result<ExitStatus> {
    let mut body = input::piped_yaml(session)?.unwrap_or_else(|| json!({}));
    let name = name::local(&args.name)?;
    body["name"] = json!(name);
    if let Some(description) = &args.description {
        body["description"] = json!(description);
    }
    if body.get("config").is_none_or(Value::is_null) {
        body["config"] = json!({});
    }
    for (key, value) in pairs::flags(&args.config)? {
        body["config"][key] = json!(value);
    }
    submit(session, Method::POST, "/1.0/projects", &body, &format!("creating project {name}"))
        .await?;
    session.printer.say(&format!("project {name} is created"));
    session.printer.hint(&format!("stapes project switch {name}"));
    Ok(ExitStatus::Done)
}

pub(crate) async fn delete(session: &Session, args: DeleteArgs) -> Result<ExitStatus> {
    let mut object = Object::project(&args.name)?;
    if args.force {
        object.path.push_str("?force=1");
    }
    let exit = object::delete(session, &object).await?;
    if session.settings.project == object.name {
        session.settings.remember_project(crate::settings::DEFAULT_PROJECT)?;
    }
    Ok(exit)
}

pub(crate) async fn info(session: &Session, args: ShowArgs) -> Result<ExitStatus> {
    let object = Object::project(&args.name)?;
    let read = session.value(&format!("{}/state", object.path)).await;
    let value = object.explain(session, read).await?;
    if args.format.format.shape != Shape::Table {
        session.printer.object(args.format.format, &value)?;
        return Ok(ExitStatus::Done);
    }
    let mut listing = Listing::new(&["Resource", "Limit", "Usage"]);
    let resources = value.get("resources").and_then(Value::as_object);
    for (name, resource) in resources.into_iter().flatten() {
        let limit = resource.get("Limit").and_then(Value::as_i64).unwrap_or(-1);
        let limit = if limit < 0 { "unlimited".to_owned() } else { limit.to_string() };
        listing.push(vec![name.to_uppercase(), limit, text(resource, "Usage")], resource.clone());
    }
    session.printer.listing(args.format.format, &listing)?;
    Ok(ExitStatus::Done)
}

pub(crate) fn get_current(session: &Session) -> Result<ExitStatus> {
    session.printer.line(&session.settings.project)?;
    Ok(ExitStatus::Done)
}

pub(crate) async fn switch(session: &Session, args: NameArgs) -> Result<ExitStatus> {
    let object = Object::project(&args.name)?;
    object.read(session).await?;
    session.settings.remember_project(&object.name)?;
    session.printer.say(&format!("now in project {}", object.name));
    Ok(ExitStatus::Done)
}
