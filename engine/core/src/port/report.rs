//! The way back: a node's reports on their way to a decision, and progress on its way to whoever
//! watches.

use async_trait::async_trait;

use crate::{
    ids::OperationId,
    task::{Observation, Report, Task},
};

/// Why a report was not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReportError {
    /// Nobody could decide now: report again.
    #[error("{0}")]
    Unavailable(String),
    /// It makes no sense and never will.
    #[error("{0}")]
    Refused(String),
}

#[async_trait]
pub trait Reports: Send + Sync + std::fmt::Debug + 'static {
    /// What follows from the report is durable when this returns. Repeating it changes nothing.
    async fn report(&self, report: Report) -> Result<(), ReportError>;
    async fn observe(&self, observation: Observation) -> Result<(), ReportError>;
    /// Whether the log still wants the task, by all that it holds now; see
    /// [`is_wanted`](crate::agent::is_wanted).
    ///
    /// # Errors
    /// [`ReportError::Unavailable`] when the log cannot be asked: then the task waits.
    async fn is_wanted(&self, task: &Task) -> Result<bool, ReportError>;
}

/// How far an operation is. Never on the log; losing it loses nothing.
pub trait Progress: Send + Sync + std::fmt::Debug + 'static {
    /// `stage` in the dialect's words, e.g. `create_instance_from_image_unpack`.
    fn progress(&self, operation: OperationId, stage: &'static str, percent: u8);
}

/// For those who do not watch.
#[derive(Clone, Copy, Debug, Default)]
pub struct Unwatched;

impl Progress for Unwatched {
    fn progress(&self, _operation: OperationId, _stage: &'static str, _percent: u8) {}
}
