//! `stapes cluster group …`

use serde_json::{Value, json};
use stapes_api::client::Method;

use super::member::words;
use crate::{
    args::cluster::{AssignArgs, GroupCreateArgs, ListArgs, MembershipArgs},
    commands::{count, object::Object, text},
    exit::ExitStatus,
    failure::Result,
    name,
    operation::submit,
    output::Listing,
    session::Session,
};

pub(crate) async fn list(session: &Session, args: ListArgs) -> Result<ExitStatus> {
    let mut listing = Listing::new(&["Name", "Description", "Members"]);
    for group in session.values("/1.0/cluster/groups?recursion=1").await? {
        let members = count(&group, "members").to_string();
        listing.push(vec![text(&group, "name"), text(&group, "description"), members], group);
    }
    listing.sort(None)?;
    session.printer.listing(args.format.format, &listing)?;
    Ok(ExitStatus::Done)
}

pub(crate) async fn create(session: &Session, args: GroupCreateArgs) -> Result<ExitStatus> {
    let name = name::local(&args.name)?;
    let body = json!({ "name": name, "description": args.description.unwrap_or_default() });
    let what = format!("creating cluster group {name}");
    submit(session, Method::POST, "/1.0/cluster/groups", &body, &what).await?;
    session.printer.say(&format!("cluster group {name} is created"));
    session.printer.hint(&format!("stapes cluster group add MEMBER {name}"));
    Ok(ExitStatus::Done)
}

pub(crate) async fn add(session: &Session, args: MembershipArgs) -> Result<ExitStatus> {
    regroup(session, &args.member, |groups| {
        if !groups.contains(&args.group) {
            groups.push(args.group.clone());
        }
    })
    .await
}

pub(crate) async fn remove(session: &Session, args: MembershipArgs) -> Result<ExitStatus> {
    regroup(session, &args.member, |groups| groups.retain(|group| *group != args.group)).await
}

pub(crate) async fn assign(session: &Session, args: AssignArgs) -> Result<ExitStatus> {
    regroup(session, &args.member, |groups| groups.clone_from(&args.groups)).await
}

async fn regroup(
    session: &Session,
    member: &str,
    change: impl FnOnce(&mut Vec<String>),
) -> Result<ExitStatus> {
    let object = Object::member(member)?;
    let mut groups = Vec::new();
    object
        .alter(session, |body| {
            groups = words(&Value::Object(body.clone()), "groups");
            change(&mut groups);
            body.insert("groups".to_owned(), json!(groups));
            Ok(())
        })
        .await?;
    session.printer.say(&format!("{} is in {}", object.name, groups.join(", ")));
    Ok(ExitStatus::Done)
}
