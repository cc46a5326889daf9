//! From a command to its answer: refused, done, or begun.

use std::time::Duration;

use stapes_core::{
    command::Command,
    ids::{OperationId, Revision},
    operation::{Operation, Status},
    record::Actor,
    rejection::{Kind, Rejection},
};
use tokio::time::{Instant, timeout_at};

use super::{
    Api,
    answer::{self, Answer},
    fault::Fault,
    peer::Caller,
    show,
};
use crate::{
    backend::{Accepted, Refusal, Request},
    wire,
};

/// How long an answer that is synchronous in the dialect may wait for a node's work.
const SETTLE_WITHIN: Duration = Duration::from_secs(600);
/// How often a wait for the log looks whether it is still heard.
const LOOK_FOR_LOG: Duration = Duration::from_millis(500);
/// Waits without a limit look again this often, should a wake-up be lost.
const LOOK_AGAIN: Duration = Duration::from_secs(30);

impl Caller {
    pub(super) fn request(&self) -> Request {
        let actor = Actor { protocol: self.protocol, name: self.name.clone() };
        Request { actor, reason: self.reason.clone() }
    }
}

impl Api {
    pub(super) async fn submit(
        &self,
        command: Command,
        caller: &Caller,
    ) -> Result<Accepted, Fault> {
        self.refuse_without_log()?;
        let (backend, request) = (self.backend.clone(), caller.request());
        // What was begun goes on, whether or not somebody still waits for its answer.
        let mut submitted = tokio::spawn(async move { backend.submit(command, request).await });
        loop {
            tokio::select! {
                answer = &mut submitted => {
                    let gone = |_| Fault::new(500, "The daemon made a mistake; its log says more");
                    return Ok(answer.map_err(gone)??);
                }
                () = tokio::time::sleep(LOOK_FOR_LOG) => {
                    if let Err(fault) = self.refuse_without_log() {
                        return Err(fault.code("outcome-unknown").fact(
                            "outcome",
                            "the log fell silent meanwhile: whether this was done is not known yet",
                        ));
                    }
                }
            }
        }
    }

    /// Without most of the log's servers nothing can be changed, and waiting changes nothing.
    fn refuse_without_log(&self) -> Result<(), Fault> {
        let Some(health) = self.health() else { return Ok(()) };
        let Some(lost) = &health.lost else { return Ok(()) };
        let missing = self.look(|world| super::handle::cluster::missing(world, &health));
        let mut fault = Fault::new(503, format!("Nothing can be changed now: {}", lost.why))
            .code("no-quorum")
            .fact("since", lost.since.format("%Y-%m-%d %H:%M:%S UTC").to_string())
            .hint("stapes cluster status");
        if !missing.is_empty() {
            fault = fault.fact("missing", missing.join(", "));
        }
        Err(fault)
    }

    /// For what is asynchronous in the dialect: 202 with the operation.
    pub(super) async fn begin(&self, command: Command, caller: &Caller) -> Answer {
        let accepted = self.submit(command, caller).await?;
        self.begun(&accepted).await
    }

    pub(super) async fn begun(&self, accepted: &Accepted) -> Answer {
        match self.operation(accepted.operation).await {
            Some(operation) => Ok(answer::begun(operation)),
            // A decision that nothing happens has no operation: it is done.
            None => Ok(answer::begun(self.nothing_to_do(accepted))),
        }
    }

    /// An operation that ended before it began: what was asked for was so already.
    fn nothing_to_do(&self, accepted: &Accepted) -> wire::operation::Operation {
        let now = wire::Time(chrono::Utc::now());
        let code = wire::StatusCode::SUCCESS;
        wire::operation::Operation {
            id: accepted.operation.to_string(),
            class: "task".to_owned(),
            created_at: now,
            updated_at: now,
            status: code.name().to_owned(),
            status_code: code,
            location: show::NO_MEMBER.to_owned(),
            ..wire::operation::Operation::default()
        }
    }

    /// For what is synchronous in the dialect although a node works for it: waits for its end.
    pub(super) async fn settle(&self, command: Command, caller: &Caller) -> Result<(), Fault> {
        let accepted = self.submit(command, caller).await?;
        if !accepted.pending {
            return Ok(());
        }
        let deadline = Some(Instant::now() + SETTLE_WITHIN);
        match self.wait_for(accepted.operation, deadline).await.map(|it| it.status) {
            Some(Status::Succeeded(_)) | None => Ok(()),
            Some(Status::Failed(error)) => Err(Fault::new(500, error).code("operation-failed")),
            Some(Status::Cancelled) => Err(Fault::new(400, "Operation cancelled")),
            Some(Status::Running) => {
                let hint = format!("it goes on; watch it: stapes op show {}", accepted.operation);
                Err(Fault::new(500, "It takes longer than expected").hint(hint))
            }
        }
    }

    /// The operation at its end, or as it is at the deadline. `None` when there is no such one.
    pub(super) async fn wait_for(
        &self,
        id: OperationId,
        deadline: Option<Instant>,
    ) -> Option<Operation> {
        loop {
            // Registered before the look, so that an end between the two is not missed.
            let notify = self.hub.wait(id);
            let notified = notify.notified();
            tokio::pin!(notified);
            notified.as_mut().enable();
            let operation = self.backend.operation(id).await?;
            if operation.ended() || deadline.is_some_and(|deadline| deadline <= Instant::now()) {
                return Some(operation);
            }
            let soon = Instant::now() + LOOK_AGAIN;
            let until = deadline.map_or(soon, |deadline| deadline.min(soon));
            // Woken or not: the next look tells.
            let _ = timeout_at(until, notified).await;
        }
    }

    /// An operation as the dialect shows it.
    pub(super) async fn operation(&self, id: OperationId) -> Option<wire::operation::Operation> {
        let operation = self.backend.operation(id).await?;
        Some(self.shown(&operation))
    }

    pub(super) fn shown(&self, operation: &Operation) -> wire::operation::Operation {
        let live = self.sessions.metadata(operation.id);
        self.look(|world| show::operation(world, operation, live))
    }
}

/// What `If-Match` says a thing must be at. The header's quotes are optional.
pub(super) fn expected(headers: &axum::http::HeaderMap) -> Result<Option<Revision>, Fault> {
    let Some(value) = headers.get("if-match") else { return Ok(None) };
    let text = value.to_str().unwrap_or_default().trim().trim_matches('"');
    if text.is_empty() || text == "*" {
        return Ok(None);
    }
    let mismatch = || {
        Fault::new(412, format!("ETag doesn't match: {text} vs another"))
            .code("changed-meanwhile")
            .hint("read it again, then repeat the change")
    };
    text.parse().map(|revision| Some(Revision(revision))).map_err(|_| mismatch())
}

impl From<Refusal> for Fault {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Rejected(rejection) => rejection.into(),
            Refusal::Unavailable(text) => Self::new(503, text).code("unavailable"),
            Refusal::OutcomeUnknown(text) => Self::new(500, text)
                .code("outcome-unknown")
                .hint("look before you repeat it: stapes log"),
            Refusal::Gone(text) => Self::not_found(text).code("not-kept"),
        }
    }
}

impl From<Rejection> for Fault {
    fn from(rejection: Rejection) -> Self {
        let status = match rejection.kind() {
            Kind::BadRequest => 400,
            Kind::NotFound => 404,
            Kind::Conflict => 409,
            Kind::Forbidden => 403,
            Kind::PreconditionFailed => 412,
        };
        let fault = Self::new(status, rejection.to_string()).code(rejection.code());
        let fault = match rejection.hint() {
            Some(hint) => fault.hint(hint),
            None => fault,
        };
        match &rejection {
            Rejection::NotFound { name, .. } | Rejection::AlreadyExists { name, .. } => {
                fault.fact("name", name)
            }
            Rejection::Busy { verb } => fault.fact("operation", verb.action()),
            Rejection::InUse { by, .. } => fault.fact("used_by", by.join(", ")),
            Rejection::WrongState { .. }
            | Rejection::Invalid(_)
            | Rejection::NotAllowed { .. }
            | Rejection::Stale { .. }
            | Rejection::Exhausted(_) => fault,
        }
    }
}
