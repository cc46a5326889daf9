//! `stapes file edit`

use super::remote::{Kind, RemotePath, get, put};
use crate::{
    args::file::{EditArgs, OwnerArgs},
    exit::ExitStatus,
    failure::{Failure, Result},
    input,
    session::Session,
};

pub(crate) async fn run(session: &Session, args: EditArgs) -> Result<ExitStatus> {
    let path = RemotePath::parse(&args.path)?;
    let found = get(session, &path).await?;
    if found.kind != Kind::File {
        return Err(Failure::usage(format!("{} is a {}", args.path, found.kind.as_str())));
    }
    let before = String::from_utf8(found.bytes().await?)
        .map_err(|_| Failure::usage(format!("{} is not text", args.path)))?;
    let after = input::edit(&before, "")?;
    if after == before {
        session.printer.say("nothing changed");
        return Ok(ExitStatus::Done);
    }
    // The owner and mode of a file that is there stay.
    put(session, &path, Kind::File, after.into_bytes(), &OwnerArgs::default()).await?;
    Ok(ExitStatus::Done)
}
