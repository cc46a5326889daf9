//! `stapes snapshot list`

use serde_json::Value;
use stapes_api::wire::snapshot::InstanceSnapshot;

use crate::{
    args::snapshot::ListArgs,
    commands::object::Object,
    exit::ExitStatus,
    failure::{Failure, Result},
    output::Listing,
    session::Session,
};

pub(crate) async fn run(session: &Session, args: ListArgs) -> Result<ExitStatus> {
    let object = Object::instance(&args.instance)?;
    let path = format!("{}/snapshots?recursion=1", object.path);
    let objects = object.explain(session, session.values(&path).await).await?;
    let mut listing = Listing::new(&["Name", "Taken at", "Expires at", "Stateful"]);
    for value in objects {
        listing.push(row(&value)?, value);
    }
    session.printer.listing(args.format.format, &listing)?;
    Ok(ExitStatus::Done)
}

fn row(value: &Value) -> Result<Vec<String>> {
    let snapshot: InstanceSnapshot = serde_json::from_value(value.clone()).map_err(|error| {
        Failure::protocol("a snapshot in the list cannot be read").cause(&error)
    })?;
    let when = |time: stapes_api::wire::Time| {
        time.moment().map_or_else(String::new, |at| at.format("%Y/%m/%d %H:%M UTC").to_string())
    };
    let name = snapshot.name.rsplit('/').next().unwrap_or_default().to_owned();
    let stateful = if snapshot.stateful { "YES" } else { "NO" };
    Ok(vec![name, when(snapshot.created_at), when(snapshot.expires_at), stateful.to_owned()])
}
