//! Deletes any object.

use stapes_api::client::Method;

use super::Object;
use crate::{exit::ExitStatus, failure::Result, operation::submit, session::Session};

pub(crate) async fn delete(session: &Session, object: &Object) -> Result<ExitStatus> {
    let what = format!("deleting {}", object.title());
    let body = serde_json::json!({});
    let done = submit(session, Method::DELETE, &object.path, &body, &what).await;
    if object.explain(session, done).await?.finished() {
        session.printer.say(&format!("{} is deleted", object.title()));
    }
    Ok(ExitStatus::Done)
}
