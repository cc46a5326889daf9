//! `stapes snapshot create`

use serde_json::json;
use stapes_api::client::Method;

use super::expiry;
use crate::{
    args::snapshot::CreateArgs, commands::object::Object, exit::ExitStatus, failure::Result,
    operation::submit, session::Session,
};

pub(crate) async fn run(session: &Session, args: CreateArgs) -> Result<ExitStatus> {
    let object = Object::instance(&args.instance)?;
    let name = args.snapshot.clone().unwrap_or_default();
    if args.reuse && !name.is_empty() {
        let old = Object::snapshot(&object.name, &name);
        if session.value(&old.path).await.is_ok() {
            submit(
                session,
                Method::DELETE,
                &old.path,
                &json!({}),
                &format!("deleting the old {name}"),
            )
            .await?;
        }
    }
    let mut body = json!({ "name": name, "stateful": args.stateful });
    match (&args.expiry, args.no_expiry) {
        (Some(text), _) => body["expires_at"] = json!(expiry(text)?),
        // Go's zero time: never, whatever the instance's own rule says.
        (None, true) => body["expires_at"] = json!("0001-01-01T00:00:00Z"),
        (None, false) => {}
    }
    let path = format!("{}/snapshots", object.path);
    let what = format!("taking a snapshot of {}", object.name);
    let taken = submit(session, Method::POST, &path, &body, &what).await;
    let outcome = object.explain(session, taken).await?;
    if outcome.finished() {
        let made = outcome.name("instances_snapshots").filter(|_| name.is_empty()).unwrap_or(&name);
        session.printer.say(&format!("snapshot {}/{made} is taken", object.name));
    }
    Ok(ExitStatus::Done)
}
