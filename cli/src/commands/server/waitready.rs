//! `stapes waitready`

use std::time::Duration;

use serde_json::Value;

use crate::{
    exit::ExitStatus,
    failure::{Failure, Result},
    session::Session,
    units::span,
};

/// Between two tries; the daemon is usually there within one of them.
const PAUSE: Duration = Duration::from_millis(50);

/// Zero waits without end.
pub(crate) async fn run(session: &Session, timeout: Duration) -> Result<ExitStatus> {
    if timeout.is_zero() {
        ready(session).await;
        return Ok(ExitStatus::Done);
    }
    match tokio::time::timeout(timeout, ready(session)).await {
        Ok(()) => Ok(ExitStatus::Done),
        Err(_) => Err(Failure::new(
            ExitStatus::TimedOut,
            "timed-out",
            format!("the daemon is not ready after {}", span::show(timeout)),
        )
        .fact(format!("Asked at {}.", session.settings.socket().display()))
        .hint("stapes daemon")),
    }
}

async fn ready(session: &Session) {
    while session.client.get::<Value>("/internal/ready").await.is_err() {
        tokio::time::sleep(PAUSE).await;
    }
}
