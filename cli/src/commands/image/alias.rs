//! `stapes image alias …`

use serde_json::{Value, json};
use stapes_api::{
    client::{Method, escape},
    wire::image::ImageAliasesEntry,
};

use super::resolve;
use crate::{
    args::image::{AliasArgs, AliasCreateArgs, AliasListArgs, AliasRenameArgs},
    commands::text,
    exit::ExitStatus,
    failure::Result,
    name,
    operation::submit,
    output::Listing,
    session::Session,
};

const ALIASES: &str = "/1.0/images/aliases";

pub(crate) async fn create(session: &Session, args: AliasCreateArgs) -> Result<ExitStatus> {
    let image = resolve(session, &args.target).await?;
    let found = image.read(session).await?;
    let alias = name::local(&args.alias)?;
    let body = json!({
        "name": alias,
        "target": text(&found, "fingerprint"),
        "description": args.description.unwrap_or_default(),
    });
    submit(session, Method::POST, ALIASES, &body, &format!("creating alias {alias}")).await?;
    Ok(ExitStatus::Done)
}

pub(crate) async fn delete(session: &Session, args: AliasArgs) -> Result<ExitStatus> {
    let path = format!("{ALIASES}/{}", escape(name::local(&args.alias)?));
    submit(session, Method::DELETE, &path, &json!({}), "deleting the alias").await?;
    Ok(ExitStatus::Done)
}

pub(crate) async fn rename(session: &Session, args: AliasRenameArgs) -> Result<ExitStatus> {
    let path = format!("{ALIASES}/{}", escape(name::local(&args.alias)?));
    let body = json!({ "name": args.new_name });
    submit(session, Method::POST, &path, &body, "renaming the alias").await?;
    Ok(ExitStatus::Done)
}

pub(crate) async fn list(session: &Session, args: AliasListArgs) -> Result<ExitStatus> {
    let mut listing = Listing::new(&["Alias", "Fingerprint", "Type", "Description"]);
    for value in session.values(&format!("{ALIASES}?recursion=1")).await? {
        let entry: ImageAliasesEntry = serde_json::from_value(value.clone()).unwrap_or_default();
        let shown = format!("{} {} {}", entry.name, entry.target, entry.description);
        if args.filters.is_empty() || args.filters.iter().any(|word| shown.contains(word.as_str()))
        {
            let fingerprint = entry.target.chars().take(12).collect();
            let row = vec![entry.name, fingerprint, entry.kind.to_uppercase(), entry.description];
            listing.push(row, value);
        }
    }
    listing.sort(None)?;
    session.printer.listing(args.format.format, &listing)?;
    Ok(ExitStatus::Done)
}

/// Frees aliases that another image may have, for `--reuse`.
pub(crate) async fn take_away(session: &Session, aliases: &[String]) -> Result<()> {
    for alias in aliases {
        let path = format!("{ALIASES}/{}", escape(alias));
        if session.client.get::<Value>(&path).await.is_ok() {
            submit(session, Method::DELETE, &path, &json!({}), "freeing the alias").await?;
        }
    }
    Ok(())
}
