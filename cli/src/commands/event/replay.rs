//! `stapes replay`: state rebuilt from the log and compared with what is served.

use serde_json::json;
use stapes_api::client::Method;

use crate::{
    args::event::ReplayArgs,
    exit::ExitStatus,
    failure::{Failure, Result},
    operation::{Outcome, submit},
    session::Session,
};

/// Rebuilds everything from the log beside what is served, and compares.
pub(crate) async fn run(session: &Session, args: ReplayArgs) -> Result<ExitStatus> {
    if !args.verify {
        return Err(
            Failure::usage("say what to do with what is rebuilt").hint("stapes replay --verify")
        );
    }
    let body = json!({ "verify": true });
    let value = match submit(session, Method::POST, "/1.0/replay", &body, "replaying").await? {
        Outcome::Immediate(value) => value,
        Outcome::Finished(operation) => json!(operation.metadata),
        Outcome::Submitted(_) => return Ok(ExitStatus::Done),
    };
    session.printer.object(args.format.format, &value)?;
    let differs = ["equal", "identical", "verified", "same"]
        .iter()
        .any(|field| value.get(field) == Some(&json!(false)));
    if differs {
        return Err(Failure::new(
            ExitStatus::Failed,
            "replay-differs",
            "what the log says and what is served differ",
        )
        .hint("stapes daemon    (a restart rebuilds what is served)"));
    }
    Ok(ExitStatus::Done)
}
