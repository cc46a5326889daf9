//! `stapes storage …`: what only pools do.

use serde_json::json;
use stapes_api::{
    client::{Method, escape},
    wire::storage::{StoragePool, StoragePoolResources},
};

use super::{count, object::Object, text};
use crate::{
    args::{
        common::ShowArgs,
        storage::{CreateArgs, ListArgs},
    },
    exit::ExitStatus,
    failure::Result,
    name,
    operation::submit,
    output::{Listing, format::Shape},
    pairs,
    session::Session,
    units::size,
};

pub(crate) async fn list(session: &Session, args: ListArgs) -> Result<ExitStatus> {
    let titles = ["Name", "Driver", "Source", "Description", "Used by", "State"];
    let mut listing = Listing::new(&titles);
    for value in session.values("/1.0/storage-pools?recursion=1").await? {
        let row = vec![
            text(&value, "name"),
            text(&value, "driver"),
            value.get("config").map(|config| text(config, "source")).unwrap_or_default(),
            text(&value, "description"),
            count(&value, "used_by").to_string(),
            text(&value, "status").to_uppercase(),
        ];
        listing.push(row, value);
    }
    listing.sort(None)?;
    session.printer.listing(args.format.format, &listing)?;
    Ok(ExitStatus::Done)
}

pub(crate) async fn create(session: &Session, args: CreateArgs) -> Result<ExitStatus> {
    let name = name::local(&args.name)?;
    let body = json!({
        "name": name,
        "driver": args.driver,
        "description": args.description.clone().unwrap_or_default(),
        "config": pairs::flags(&args.pairs)?,
    });
    let path = match &args.target {
        Some(node) => format!("/1.0/storage-pools?target={}", escape(node)),
        None => "/1.0/storage-pools".to_owned(),
    };
    submit(session, Method::POST, &path, &body, &format!("creating pool {name}")).await?;
    session.printer.say(&format!("pool {name} is created"));
    Ok(ExitStatus::Done)
}

pub(crate) async fn info(session: &Session, args: ShowArgs) -> Result<ExitStatus> {
    let object = Object::pool(&args.name)?;
    let pool: StoragePool = object.explain(session, session.get(&object.path).await).await?;
    let used: StoragePoolResources = session.get(&format!("{}/resources", object.path)).await?;
    let data = json!({
        "info": {
            "name": pool.name,
            "driver": pool.driver,
            "description": pool.description,
            "space used": size::show(used.space.used),
            "total space": size::show(used.space.total),
        },
        "used by": pool.used_by,
    });
    if args.format.format.shape == Shape::Table {
        session.printer.object(args.format.format, &data)?;
    } else {
        let resources = json!({ "pool": pool, "resources": used });
        session.printer.object(args.format.format, &resources)?;
    }
    Ok(ExitStatus::Done)
}
