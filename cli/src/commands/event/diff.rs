//! `stapes diff`: how a thing changed between two moments.

use serde_json::Value;

use super::{moment, show::state};
use crate::{
    args::event::DiffArgs,
    exit::ExitStatus,
    failure::{Failure, Result},
    name::Resource,
    output::{diff::unified, printer},
    session::Session,
};

/// 0 same, 1 differs, 2 could not tell: as diff itself.
const DIFFERS: ExitStatus = ExitStatus::Own(1);
const CANNOT_TELL: ExitStatus = ExitStatus::Own(2);

pub(crate) async fn run(session: &Session, args: DiffArgs) -> Result<ExitStatus> {
    compare(session, args).await.map_err(|failure| failure.with_exit(CANNOT_TELL))
}

async fn compare(session: &Session, args: DiffArgs) -> Result<ExitStatus> {
    let resource = Resource::parse(&args.resource)?;
    let (from, to) = ends(&args)?;
    let before = at(session, &resource, Some(from)).await?;
    let after = at(session, &resource, to).await?;
    let text = unified(&printer::yaml(&before)?, &printer::yaml(&after)?);
    if text.is_empty() {
        session.printer.say(&format!("{} is as it was", resource.log_name()));
        return Ok(ExitStatus::Done);
    }
    session.printer.data(&text)?;
    Ok(DIFFERS)
}

fn ends(args: &DiffArgs) -> Result<(&str, Option<&str>)> {
    match (&args.since, &args.range) {
        (Some(since), _) => Ok((since, None)),
        (None, Some(range)) => match range.split_once("..") {
            Some((from, to)) if !from.is_empty() => {
                Ok((from, Some(to).filter(|to| !to.is_empty())))
            }
            Some(_) => Err(Failure::usage(format!("`{range}` does not say where to begin"))),
            None => Ok((range, None)),
        },
        (None, None) => Err(Failure::usage("say between which moments")
            .hint(format!("stapes diff {} --since 1d", args.resource))
            .hint(format!("stapes diff {} r1..r2", args.resource))),
    }
}

async fn at(session: &Session, resource: &Resource, typed: Option<&str>) -> Result<Value> {
    let moment = match typed {
        Some(typed) => Some(moment::resolve(session, typed, Some(resource)).await?),
        None => None,
    };
    state(session, resource, moment.as_deref()).await
}
