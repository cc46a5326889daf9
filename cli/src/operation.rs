//! Handing a change in and following it to its end.
//!
//! The wait is the daemon's own (`/wait`); the events socket only feeds the progress that somebody
//! may be watching. Ctrl-C detaches: the operation goes on, and the words to return to it are said.

use std::{future::pending, time::Duration};

use serde::Serialize;
use serde_json::Value;
use stapes_api::{
    client::{Answer, Method},
    wire::operation::Operation,
};

use crate::{
    exit::ExitStatus,
    failure::{Failure, Result},
    output::progress::Progress,
    session::Session,
};

/// How a change ended, as far as this run has seen.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// Done at once, without an operation.
    Immediate(Value),
    Finished(Box<Operation>),
    /// It runs, and nobody waits (`--no-wait`).
    Submitted(Box<Operation>),
}

impl Outcome {
    /// The name of the first thing of this kind that it made.
    pub(crate) fn name(&self, kind: &str) -> Option<&str> {
        match self {
            Self::Immediate(_) => None,
            Self::Finished(operation) | Self::Submitted(operation) => operation.names(kind).next(),
        }
    }

    pub(crate) fn finished(&self) -> bool {
        !matches!(self, Self::Submitted(_))
    }
}

/// Sends a change and follows what it started. `what` is said while it runs.
pub(crate) async fn submit<B: Serialize + ?Sized>(
    session: &Session,
    method: Method,
    path: &str,
    body: &B,
    what: &str,
) -> Result<Outcome> {
    let answer = session.send(method, path, body, None).await?;
    follow_answer(session, answer, what).await
}

/// Follows what an answer started, if it started something.
pub(crate) async fn follow_answer(
    session: &Session,
    answer: Answer,
    what: &str,
) -> Result<Outcome> {
    let Some(operation) = answer.operation() else {
        return Ok(Outcome::Immediate(answer.envelope.metadata));
    };
    if session.settings.submit.no_wait {
        session.printer.line(&operation.id)?;
        return Ok(Outcome::Submitted(Box::new(operation)));
    }
    follow(session, &operation.id, what).await.map(|done| Outcome::Finished(Box::new(done)))
}

/// Waits for an operation's end; its failure is an error.
pub(crate) async fn follow(session: &Session, id: &str, what: &str) -> Result<Operation> {
    let progress = Progress::spinner(session.printer, what);
    let ended = tokio::select! {
        biased;
        done = session.client.wait(id) => done.map_err(Failure::from),
        () = show_progress(session, id, what, &progress) => Err(stopped()),
        () = interrupt() => Err(detached(id)),
        () = run_out(session.settings.submit.timeout) => Err(timed_out(session, id)),
    };
    drop(progress);
    ended
}

/// Shows how far it is for as long as it is polled; without a terminal it does nothing.
async fn show_progress(session: &Session, id: &str, what: &str, progress: &Progress) {
    if session.printer.live()
        && let Ok(mut events) = session.client.all_projects().events(&["operation"], None).await
    {
        while let Ok(Some(event)) = events.next().await {
            if event.metadata.get("id").and_then(Value::as_str) == Some(id)
                && let Some(step) = step(&event.metadata)
            {
                progress.say(&format!("{what}: {step}"));
            }
        }
    }
    pending().await
}

/// The newest word of an operation on how far it is.
pub(crate) fn step(operation: &Value) -> Option<String> {
    let metadata = operation.get("metadata")?.as_object()?;
    metadata
        .iter()
        .filter(|(key, _)| key.ends_with("_progress") || *key == "step")
        .find_map(|(_, value)| value.as_str())
        .map(str::to_owned)
}

/// Ends when the user presses Ctrl-C.
pub(crate) async fn interrupt() {
    if tokio::signal::ctrl_c().await.is_err() {
        pending::<()>().await;
    }
}

async fn run_out(timeout: Option<Duration>) {
    match timeout {
        Some(timeout) => tokio::time::sleep(timeout).await,
        None => pending().await,
    }
}

fn detached(id: &str) -> Failure {
    Failure::end(
        ExitStatus::Done,
        format!(
            "detached; op {id} goes on.\nReattach: stapes op watch {id}   Cancel: stapes op cancel {id}"
        ),
    )
}

fn timed_out(session: &Session, id: &str) -> Failure {
    let waited = session.settings.submit.timeout.unwrap_or_default();
    let failure = Failure::new(
        ExitStatus::TimedOut,
        "timed-out",
        format!("op {id} is not done after {}", crate::units::span::show(waited)),
    );
    failure.hint(format!("stapes op watch {id}")).effect("It goes on.")
}

fn stopped() -> Failure {
    Failure::protocol("the progress of an operation ended before the operation")
}
