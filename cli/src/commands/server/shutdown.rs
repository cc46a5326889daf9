//! `stapes shutdown`: the guests first, then the daemon.

use std::time::Duration;

use serde_json::{Value, json};
use stapes_api::client::Method;

use crate::{
    args::server::ShutdownArgs,
    exit::ExitStatus,
    failure::{Failure, Result},
    output::progress::Progress,
    session::Session,
    units::span,
};

const PAUSE: Duration = Duration::from_millis(100);

/// Stops all guests, then the daemon, and waits until it is gone.
pub(crate) async fn run(session: &Session, args: ShutdownArgs) -> Result<ExitStatus> {
    let path =
        format!("/internal/shutdown?force={}&timeout={}", args.force, args.timeout.as_secs());
    session.send(Method::PUT, &path, &json!({}), None).await?;
    let _progress = Progress::spinner(session.printer, "the daemon stops its guests");
    tokio::select! {
        gone = tokio::time::timeout(args.timeout, gone(session)) => gone.map_err(|_| {
            Failure::new(
                ExitStatus::TimedOut,
                "timed-out",
                format!("the daemon is still there after {}", span::show(args.timeout)),
            )
            .hint("stapes op list")
            .effect("It goes on stopping.")
        })?,
        () = crate::operation::interrupt() => {
            return Err(Failure::end(ExitStatus::Done, "detached; the daemon goes on stopping."));
        }
    }
    Ok(ExitStatus::Done)
}

async fn gone(session: &Session) {
    while session.client.get::<Value>("/1.0").await.is_ok() {
        tokio::time::sleep(PAUSE).await;
    }
}
