//! Join tokens: made, listed, revoked.

use chrono::Local;
use serde_json::{Value, json};
use stapes_api::client::Method;

use crate::{
    args::{cluster::ListArgs, common::NameArgs},
    commands::{items, text},
    exit::ExitStatus,
    failure::{Failure, Result},
    name,
    output::Listing,
    session::Session,
    units::moment::show,
};

/// Prints the token alone, so that a script can take it.
pub(crate) async fn add(session: &Session, args: NameArgs) -> Result<ExitStatus> {
    let name = name::local(&args.name)?;
    let body = json!({ "server_name": name });
    let answer = session.send(Method::POST, "/1.0/cluster/members", &body, None).await?;
    let metadata = &answer.envelope.metadata["metadata"];
    let token = text(metadata, "token");
    if token.is_empty() {
        return Err(Failure::protocol("the daemon answered without a token"));
    }
    session.printer.say(&format!("{name} may join until {}", when(metadata)));
    session.printer.line(&token)?;
    session.printer.hint("stapes cluster join TOKEN --address HOST:PORT    (on the new server)");
    Ok(ExitStatus::Done)
}

fn when(metadata: &Value) -> String {
    let at = text(metadata, "expiresAt").parse::<chrono::DateTime<chrono::Utc>>();
    at.map_or_else(|_| "it expires".to_owned(), |at| show(at, Local::now()))
}

/// The open tokens, with their operations.
async fn open(session: &Session) -> Result<Vec<Value>> {
    let groups = session.value("/1.0/operations?recursion=1").await?;
    let Value::Object(groups) = groups else { return Ok(Vec::new()) };
    let all = groups.into_iter().flat_map(|(_, group)| items(group));
    Ok(all.filter(|it| text(it, "class") == "token").collect())
}

pub(crate) async fn list(session: &Session, args: ListArgs) -> Result<ExitStatus> {
    let mut listing = Listing::new(&["Name", "Expires at"]);
    for token in open(session).await? {
        let name = text(&token["metadata"], "serverName");
        listing.push(vec![name, when(&token["metadata"])], token);
    }
    listing.sort(None)?;
    session.printer.listing(args.format.format, &listing)?;
    Ok(ExitStatus::Done)
}

pub(crate) async fn revoke(session: &Session, args: NameArgs) -> Result<ExitStatus> {
    let tokens = open(session).await?;
    let found = tokens.iter().find(|token| text(&token["metadata"], "serverName") == args.name);
    let Some(token) = found else {
        let message = format!("there is no open join token for `{}`", args.name);
        return Err(Failure::new(ExitStatus::NotFound, "not-found", message)
            .hint("stapes cluster list-tokens")
            .effect("Nothing was changed."));
    };
    let path = format!("/1.0/operations/{}", text(token, "id"));
    session.send(Method::DELETE, &path, &json!({}), None).await?;
    session.printer.say(&format!("{} may not join any more", args.name));
    Ok(ExitStatus::Done)
}
