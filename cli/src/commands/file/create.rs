//! `stapes file create`

use super::remote::{Kind, RemotePath, put};
use crate::{
    args::file::CreateArgs,
    exit::ExitStatus,
    failure::{Failure, Result},
    session::Session,
};

pub(crate) async fn run(session: &Session, args: CreateArgs) -> Result<ExitStatus> {
    let path = RemotePath::parse(&args.path)?;
    let (kind, body) = match (args.r#type.as_str(), args.target) {
        ("symlink", Some(target)) => (Kind::Symlink, target.into_bytes()),
        ("symlink", None) => return Err(Failure::usage("say what the symlink points at")),
        (_, Some(_)) => return Err(Failure::usage("only a symlink has a target")),
        ("directory", None) => (Kind::Directory, Vec::new()),
        (_, None) => (Kind::File, Vec::new()),
    };
    put(session, &path, kind, body, &args.owner).await?;
    Ok(ExitStatus::Done)
}
