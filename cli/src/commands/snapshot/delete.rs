//! `stapes snapshot delete`

use crate::{
    args::snapshot::DeleteArgs,
    commands::object::{Object, delete},
    exit::ExitStatus,
    failure::Result,
    input, name,
    session::Session,
};

pub(crate) async fn run(session: &Session, args: DeleteArgs) -> Result<ExitStatus> {
    let instance = name::local(&args.instance)?;
    let question = format!("Delete snapshot {instance}/{}?", args.snapshot);
    let otherwise = format!("stapes snapshot delete {instance} {}", args.snapshot);
    if args.interactive && !input::confirm(session, &question, &otherwise)? {
        return Ok(ExitStatus::Done);
    }
    delete(session, &Object::snapshot(instance, &args.snapshot)).await
}
