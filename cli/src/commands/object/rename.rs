//! Renames any object.

use serde_json::json;
use stapes_api::client::Method;

use super::Object;
use crate::{exit::ExitStatus, failure::Result, operation::submit, session::Session};

pub(crate) async fn rename(
    session: &Session,
    object: &Object,
    new_name: &str,
) -> Result<ExitStatus> {
    let what = format!("renaming {}", object.title());
    let body = json!({ "name": new_name });
    let done = submit(session, Method::POST, &object.path, &body, &what).await;
    if object.explain(session, done).await?.finished() {
        session.printer.say(&format!("{} is now {new_name}", object.title()));
    }
    Ok(ExitStatus::Done)
}
