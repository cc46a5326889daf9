//! Members: the list, removal, evacuation and the way back.

use serde_json::{Value, json};
use stapes_api::client::Method;

use crate::{
    args::{
        cluster::{EvacuateArgs, FenceArgs, ListArgs, RemoveArgs, RestoreArgs},
        common::{RenameArgs, ShowArgs},
    },
    commands::{object::Object, text},
    exit::ExitStatus,
    failure::{Failure, Result},
    input, name,
    operation::submit,
    output::{Listing, format::Shape},
    session::Session,
    units::size,
};

pub(crate) async fn list(session: &Session, args: ListArgs) -> Result<ExitStatus> {
    let titles = [
        "Name",
        "URL",
        "Roles",
        "Architecture",
        "Failure domain",
        "Description",
        "State",
        "Message",
    ];
    let mut listing = Listing::new(&titles);
    for member in session.values("/1.0/cluster/members?recursion=1").await? {
        let field = |name: &str| text(&member, name);
        let row = vec![
            field("server_name"),
            field("url"),
            words(&member, "roles").join("\n"),
            field("architecture"),
            field("failure_domain"),
            field("description"),
            field("status").to_uppercase(),
            field("message"),
        ];
        listing.push(row, member);
    }
    listing.sort(None)?;
    session.printer.listing(args.format.format, &listing)?;
    Ok(ExitStatus::Done)
}

pub(super) fn words(value: &Value, field: &str) -> Vec<String> {
    let list = value.get(field).and_then(Value::as_array);
    list.into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
}

pub(crate) async fn info(session: &Session, args: ShowArgs) -> Result<ExitStatus> {
    let object = Object::member(&args.name)?;
    let read = session.value(&format!("{}/state", object.path)).await;
    let state = object.explain(session, read).await?;
    if args.format.format.shape != Shape::Table {
        session.printer.object(args.format.format, &state)?;
        return Ok(ExitStatus::Done);
    }
    let system = &state["sysinfo"];
    let bytes = |value: &Value| value.as_u64().map(size::show).unwrap_or_default();
    let (total, free) = (bytes(&system["total_ram"]), bytes(&system["free_ram"]));
    let mut listing = Listing::new(&["What", "Value"]);
    let mut row = |what: &str, value: String| {
        listing.push(vec![what.to_owned(), value], Value::Null);
    };
    row("CPUs", text(system, "logical_cpus"));
    row("Load", text(system, "load_averages").trim_matches(['[', ']']).replace(',', " "));
    row("Memory", format!("{free} free of {total}"));
    row("Processes", text(system, "processes"));
    for (pool, usage) in state["storage_pools"].as_object().into_iter().flatten() {
        let space = &usage["space"];
        let (used, total) = (bytes(&space["used"]), bytes(&space["total"]));
        row(&format!("Pool {pool}"), format!("{used} used of {total}"));
    }
    session.printer.listing(args.format.format, &listing)?;
    Ok(ExitStatus::Done)
}

pub(crate) async fn rename(session: &Session, args: RenameArgs) -> Result<ExitStatus> {
    let object = Object::member(&args.name)?;
    let to = name::local(&args.new_name)?;
    let body = json!({ "server_name": to });
    let what = format!("renaming {}", object.title());
    let done = submit(session, Method::POST, &object.path, &body, &what).await;
    object.explain(session, done).await?;
    session.printer.say(&format!("{} is now {to}", object.title()));
    Ok(ExitStatus::Done)
}

pub(crate) async fn remove(session: &Session, args: RemoveArgs) -> Result<ExitStatus> {
    let mut object = Object::member(&args.name)?;
    if args.force && !args.yes {
        let question = format!(
            "Remove {} with what is on it? It must never come back as it was.",
            object.name
        );
        let otherwise = format!("stapes cluster remove {} --force --yes", object.name);
        confirm(session, &question, &otherwise)?;
    }
    if args.force {
        object.path.push_str("?force=1");
    }
    let what = format!("removing {}", object.title());
    let done = submit(session, Method::DELETE, &object.path, &json!({}), &what).await;
    object.explain(session, done).await?;
    session.printer.say(&format!("{} is no member any more", object.name));
    Ok(ExitStatus::Done)
}

/// # Errors
/// When the answer is no.
fn confirm(session: &Session, question: &str, otherwise: &str) -> Result<()> {
    if input::confirm(session, question, otherwise)? {
        return Ok(());
    }
    Err(Failure::end(ExitStatus::Interrupted, "Nothing was changed."))
}

pub(crate) async fn evacuate(session: &Session, args: EvacuateArgs) -> Result<ExitStatus> {
    if !args.force {
        let question = format!("Move or stop all instances on {}?", args.name);
        confirm(session, &question, &format!("stapes cluster evacuate {} --force", args.name))?;
    }
    let mode = args.action.unwrap_or_default();
    act(session, &args.name, "evacuate", &mode, "evacuating").await?;
    session.printer.say(&format!("{} is evacuated", args.name));
    session.printer.hint(&format!("stapes cluster restore {}", args.name));
    Ok(ExitStatus::Done)
}

pub(crate) async fn restore(session: &Session, args: RestoreArgs) -> Result<ExitStatus> {
    if !args.force {
        let question = format!("Bring the instances of {} back?", args.name);
        confirm(session, &question, &format!("stapes cluster restore {} --force", args.name))?;
    }
    act(session, &args.name, "restore", "", "restoring").await?;
    session.printer.say(&format!("{} takes instances again", args.name));
    Ok(ExitStatus::Done)
}

pub(crate) async fn fence(session: &Session, args: FenceArgs) -> Result<ExitStatus> {
    if !args.force {
        let question = format!(
            "Does {} run nothing any more, for certain? What it ran may start elsewhere.",
            args.name
        );
        confirm(session, &question, &format!("stapes cluster fence {} --force", args.name))?;
    }
    act(session, &args.name, "fence", "", "fencing").await?;
    session
        .printer
        .say(&format!("{} is fenced: what has a copy elsewhere starts there", args.name));
    Ok(ExitStatus::Done)
}

async fn act(session: &Session, name: &str, action: &str, mode: &str, doing: &str) -> Result<()> {
    let object = Object::member(name)?;
    let body = json!({ "action": action, "mode": mode });
    let path = format!("{}/state", object.path);
    let what = format!("{doing} {}", object.name);
    let done = submit(session, Method::POST, &path, &body, &what).await;
    object.explain(session, done).await.map(drop)
}
