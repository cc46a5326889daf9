//! `stapes list`

use serde_json::Value;
use stapes_api::{client::escape, wire::instance::InstanceFull};

use super::{
    columns::{self, Column},
    filter,
};
use crate::{
    args::instance::ListArgs,
    commands::{cluster, event::moment},
    exit::ExitStatus,
    failure::{Failure, Result},
    output::{Listing, format::Shape},
    session::Session,
};

pub(crate) async fn run(session: &Session, args: ListArgs) -> Result<ExitStatus> {
    let session = &session.all_projects(args.all_projects);
    let columns = wanted_columns(session, &args).await?;
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
    let titles: Vec<&str> = columns.iter().map(Column::title).collect();
    let mut listing = Listing::new(&titles);
    for object in session.values(&path).await? {
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

async fn wanted_columns(session: &Session, args: &ListArgs) -> Result<Vec<Column>> {
    let mut columns = match (&args.columns, args.fast) {
        (Some(typed), _) => columns::parse(typed)?,
        (None, true) => columns::parse(columns::FAST)?,
        (None, false) if cluster::is_clustered(session).await? => {
            columns::parse(columns::DEFAULT_CLUSTERED)?
        }
        (None, false) => columns::parse(columns::DEFAULT)?,
    };
    if args.all_projects && args.columns.is_none() {
        columns.insert(0, Column::Letter('e'));
    }
    Ok(columns)
}

fn read(object: &Value) -> Result<InstanceFull> {
    serde_json::from_value(object.clone())
        .map_err(|error| Failure::protocol("an instance in the list cannot be read").cause(&error))
}
