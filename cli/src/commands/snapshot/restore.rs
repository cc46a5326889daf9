//! `stapes snapshot restore`

use serde_json::json;
use stapes_api::client::Method;

use crate::{
    args::snapshot::RestoreArgs, commands::object::Object, exit::ExitStatus, failure::Result,
    operation::submit, session::Session,
};

pub(crate) async fn run(session: &Session, args: RestoreArgs) -> Result<ExitStatus> {
    let object = Object::instance(&args.instance)?;
    // The full body is not wanted here: `restore` alone means "as it was".
    let mut body = json!({ "restore": args.snapshot, "stateful": args.stateful });
    if args.diskonly {
        body["disk_only"] = json!(true);
    }
    let what = format!("restoring {} to {}", object.name, args.snapshot);
    let done = submit(session, Method::PUT, &object.path, &body, &what).await;
    if object.explain(session, done).await?.finished() {
        session.printer.say(&format!("{} is back at {}", object.name, args.snapshot));
    }
    Ok(ExitStatus::Done)
}
