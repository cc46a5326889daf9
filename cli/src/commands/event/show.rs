//! `stapes show`: what a thing is, or was at a moment.

use serde_json::Value;
use stapes_api::client::escape;

use super::moment;
use crate::{
    args::event::ShowArgs, exit::ExitStatus, failure::Result, name::Resource, session::Session,
};

pub(crate) async fn run(session: &Session, args: ShowArgs) -> Result<ExitStatus> {
    let resource = Resource::parse(&args.resource)?;
    let at = match &args.at {
        Some(typed) => Some(moment::resolve(session, typed, Some(&resource)).await?),
        None => None,
    };
    let value = state(session, &resource, at.as_deref()).await?;
    session.printer.object(args.format, &value)?;
    if let Some(at) = at {
        session.printer.say(&format!("{} as of {at}", resource.log_name()));
    }
    Ok(ExitStatus::Done)
}

/// What it was at a sequence or time, or is.
pub(crate) async fn state(
    session: &Session,
    resource: &Resource,
    at: Option<&str>,
) -> Result<Value> {
    match at {
        None => session.value(&resource.path()).await,
        Some(at) => session.value(&format!("{}?at={}", resource.path(), escape(at))).await,
    }
    .map_err(|failure| failure.hint(format!("stapes log {}", resource.typed())))
}
