//! `stapes profile …`: what only profiles do.

use serde_json::{Value, json};
use stapes_api::client::{Method, escape};

use super::{count, object::Object, text};
use crate::{
    args::profile::{AssignArgs, AttachArgs, CopyArgs, CreateArgs, ListArgs},
    exit::ExitStatus,
    failure::{Failure, Result},
    input, name,
    operation::submit,
    output::Listing,
    session::Session,
};

pub(crate) async fn list(session: &Session, args: ListArgs) -> Result<ExitStatus> {
    let session = &session.all_projects(args.all_projects);
    let mut listing = Listing::new(&["Name", "Description", "Used by"]);
    for value in session.values("/1.0/profiles?recursion=1").await? {
        let used = count(&value, "used_by").to_string();
        listing.push(vec![text(&value, "name"), text(&value, "description"), used], value);
    }
    listing.sort(None)?;
    session.printer.listing(args.format.format, &listing)?;
    Ok(ExitStatus::Done)
}

pub(crate) async fn create(session: &Session, args: CreateArgs) -> Result<ExitStatus> {
    let mut body = input::piped_yaml(session)?.unwrap_or_else(|| json!({}));
    let name = name::local(&args.name)?;
    body["name"] = json!(name);
    if let Some(description) = &args.description {
        body["description"] = json!(description);
    }
    let what = format!("creating profile {name}");
    submit(session, Method::POST, "/1.0/profiles", &body, &what).await?;
    session.printer.say(&format!("profile {name} is created"));
    Ok(ExitStatus::Done)
}

pub(crate) async fn copy(session: &Session, args: CopyArgs) -> Result<ExitStatus> {
    let source = Object::profile(&args.source)?;
    let mut body = source.writable(&source.read(session).await?);
    let name = name::local(&args.name)?;
    let project = args.target_project.as_ref().unwrap_or(&session.settings.project);
    let query = format!("?project={}", escape(project));
    let existing = format!("/1.0/profiles/{}{query}", escape(name));
    let what = format!("copying profile {}", source.name);
    if args.refresh && session.value(&existing).await.is_ok() {
        submit(session, Method::PUT, &existing, &body, &what).await?;
    } else {
        body["name"] = json!(name);
        submit(session, Method::POST, &format!("/1.0/profiles{query}"), &body, &what).await?;
    }
    session.printer.say(&format!("profile {name} is a copy of {}", source.name));
    Ok(ExitStatus::Done)
}

pub(crate) async fn add(session: &Session, args: AttachArgs) -> Result<ExitStatus> {
    let profile = args.profile;
    alter(session, &args.instance, |profiles| {
        if profiles.contains(&profile) {
            return Err(Failure::usage(format!("it has profile {profile} already")));
        }
        profiles.push(profile.clone());
        Ok(())
    })
    .await
}

pub(crate) async fn remove(session: &Session, args: AttachArgs) -> Result<ExitStatus> {
    alter(session, &args.instance, |profiles| {
        let place = profiles.iter().position(|name| *name == args.profile).ok_or_else(|| {
            Failure::usage(format!("it does not have profile {}", args.profile))
                .fact(format!("It has {}.", profiles.join(", ")))
        })?;
        profiles.remove(place);
        Ok(())
    })
    .await
}

pub(crate) async fn assign(session: &Session, args: AssignArgs) -> Result<ExitStatus> {
    let wanted: Vec<String> = args.profiles.into_iter().filter(|name| !name.is_empty()).collect();
    alter(session, &args.instance, |profiles| {
        *profiles = wanted;
        Ok(())
    })
    .await
}

async fn alter(
    session: &Session,
    instance: &str,
    change: impl FnOnce(&mut Vec<String>) -> Result<()>,
) -> Result<ExitStatus> {
    let object = Object::instance(instance)?;
    let mut shown = String::new();
    object
        .alter(session, |body| {
            let mut profiles: Vec<String> = body
                .get("profiles")
                .cloned()
                .and_then(|value| serde_json::from_value::<Option<Vec<String>>>(value).ok())
                .flatten()
                .unwrap_or_default();
            change(&mut profiles)?;
            shown = profiles.join(", ");
            body.insert("profiles".to_owned(), Value::from(profiles));
            Ok(())
        })
        .await?;
    let shown = if shown.is_empty() { "none" } else { &shown };
    session.printer.say(&format!("profiles of {}: {shown}", object.name));
    Ok(ExitStatus::Done)
}
