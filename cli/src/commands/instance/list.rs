//! `stapes list`

use serde_json::Value;
use stapes_api::{client::escape, wire::instance::InstanceFull};

use super::{
    columns::{self, Column},
    filter,
};
use crate::{
    args::instance::ListArgs,
    commands::event::moment,
    exit::ExitStatus,
    failure::{Failure, Result},
    name,
    output::{Listing, format::Shape},
    session::Session,
};

pub(crate) async fn run(session: &Session, mut args: ListArgs) -> Result<ExitStatus> {
    // `local:` is all that is here, another remote is refused.
    if let Some(remote) = args.filters.iter().position(|word| word.ends_with(':')) {
        name::local(&args.filters.remove(remote))?;
    }
    let session = &session.all_projects(args.all_projects);
    let mut columns = wanted_columns(&args)?;
    let filter = filter::parse(&args.filters);
    // Programs get everything; people wait only for what they see.
    let for_programs =
        matches!(args.format.format.shape, Shape::Json | Shape::Jsonl | Shape::Yaml) && !args.fast;
    let full = for_programs || filter.needs_state() || columns.iter().any(Column::slow);
    let mut path = format!("/1.0/instances?recursion={}", if full { 2 } else { 1 });
    if !filter.query.is_empty() {
        path.push_str(&format!("&filter={}", escape(&filter.query)));
    }
    if let Some(at) = &args.at {
        path.push_str(&format!("&at={}", escape(&moment::resolve(session, at, None).await?)));
    }
    let objects = session.values(&path).await?;
    if args.columns.is_none() && !args.fast && objects.iter().any(is_located) {
        columns = default_columns(&args, columns::DEFAULT_CLUSTERED)?;
    }
    let titles: Vec<&str> = columns.iter().map(Column::title).collect();
    let mut listing = Listing::new(&titles);
    for object in objects {
        let instance = read(&object)?;
        if filter.admits(&instance) {
            listing.push(columns.iter().map(|column| column.cell(&instance)).collect(), object);
        }
    }
    listing.sort(args.sort.as_deref())?;
    listing.limit(args.limit);
    session.printer.listing(args.format.format, &listing)?;
    if listing.rows.is_empty() && args.filters.is_empty() && args.at.is_none() {
        session.printer.hint("stapes launch debian/12 web    (there is no instance yet)");
    }
    Ok(ExitStatus::Done)
}

fn wanted_columns(args: &ListArgs) -> Result<Vec<Column>> {
    match (&args.columns, args.fast) {
        (Some(typed), _) => columns::parse(typed),
        (None, true) => default_columns(args, columns::FAST),
        (None, false) => default_columns(args, columns::DEFAULT),
    }
}

fn default_columns(args: &ListArgs, letters: &str) -> Result<Vec<Column>> {
    let mut columns = columns::parse(letters)?;
    if args.all_projects {
        columns.insert(0, Column::Letter('e'));
    }
    Ok(columns)
}

/// Whether an instance says which member of a cluster it is on.
fn is_located(instance: &Value) -> bool {
    instance["location"].as_str().is_some_and(|location| !matches!(location, "" | "none"))
}

fn read(object: &Value) -> Result<InstanceFull> {
    serde_json::from_value(object.clone())
        .map_err(|error| Failure::protocol("an instance in the list cannot be read").cause(&error))
}
