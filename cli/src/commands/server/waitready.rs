//! `stapes waitready`: until the daemon has read its log and works. One that is served without, as a
//! member is that starts while most of the log's servers are gone, is not ready yet.

use std::time::Duration;

use serde_json::Value;
use stapes_api::client::{ApiError, ClientError};

use crate::{
    exit::ExitStatus,
    failure::{Failure, Result},
    session::Session,
    units::span,
};

/// Between two tries; the daemon is usually there within one of them.
const PAUSE: Duration = Duration::from_millis(50);
/// The same for one that is there, and waits itself.
const PAUSE_WITH_IT: Duration = Duration::from_millis(500);

/// Zero waits without end.
pub(crate) async fn run(session: &Session, timeout: Duration) -> Result<ExitStatus> {
    let mut said = None;
    let ready = ready(session, &mut said);
    if timeout.is_zero() {
        ready.await;
        return Ok(ExitStatus::Done);
    }
    if tokio::time::timeout(timeout, ready).await.is_ok() {
        return Ok(ExitStatus::Done);
    }
    let message = format!("the daemon is not ready after {}", span::show(timeout));
    let failure = Failure::new(ExitStatus::TimedOut, "timed-out", message);
    Err(match said {
        Some(said) => failure.fact(format!("It says: {said}.")).hint("stapes cluster status"),
        None => failure
            .fact(format!("Asked at {}.", session.settings.socket().display()))
            .hint("stapes daemon"),
    })
}

/// `said`: why not, in the words of a daemon that answers.
async fn ready(session: &Session, said: &mut Option<ApiError>) {
    while let Err(error) = session.client.get::<Value>("/internal/ready").await {
        *said = if let ClientError::Api(error) = error { Some(error) } else { None };
        tokio::time::sleep(if said.is_some() { PAUSE_WITH_IT } else { PAUSE }).await;
    }
}
