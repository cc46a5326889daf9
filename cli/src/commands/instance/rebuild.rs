//! `stapes rebuild`: a new root for an instance.

use stapes_api::{
    client::Method,
    wire::{
        StatusCode,
        instance::{Instance, InstanceRebuildPost},
        instance_state::InstanceStatePut,
    },
};

use super::{create::source, state::while_stopped};
use crate::{
    args::instance::RebuildArgs,
    commands::object::Object,
    exit::ExitStatus,
    failure::{Failure, Result},
    name,
    operation::submit,
    session::Session,
};

pub(crate) async fn run(session: &Session, args: RebuildArgs) -> Result<ExitStatus> {
    let (image, instance) = match (args.empty, args.names.as_slice()) {
        (true, [instance]) => (None, instance),
        (false, [image, instance]) => (Some(name::image(image)?), instance),
        (true, _) => return Err(Failure::usage("--empty takes no image, only the instance")),
        (false, _) => {
            return Err(Failure::usage("say which image to rebuild it from, or --empty")
                .hint("stapes rebuild debian/12 web"));
        }
    };
    let object = Object::instance(instance)?;
    let found: Instance = object.explain(session, session.get(&object.path).await).await?;
    let running = found.status_code == StatusCode::RUNNING;
    let post = InstanceRebuildPost { source: source(image) };
    let path = format!("{}/rebuild", object.path);
    let what = format!("rebuilding {}", object.name);
    let rebuilt = submit(session, Method::POST, &path, &post, &what);
    let outcome = if running && args.force {
        let stop = InstanceStatePut { timeout: -1, force: true, ..Default::default() };
        while_stopped(session, &object.name, stop, rebuilt).await?
    } else {
        rebuilt.await?
    };
    if outcome.finished() {
        session.printer.say(&format!("{} is rebuilt", object.name));
    }
    Ok(ExitStatus::Done)
}
