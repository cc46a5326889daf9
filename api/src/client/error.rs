//! What can go wrong between a client and the daemon, apart by what a caller can do about it.

use std::{collections::BTreeMap, path::PathBuf};

use crate::wire::operation::Operation;

/// What the daemon answered in place of what was asked for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub struct ApiError {
    /// Incus' number: 404, 409, 412 ...
    pub error_code: u16,
    /// Incus' text.
    pub text: String,
    /// Ours, stable: what `stapes explain` takes.
    pub code: Option<String>,
    pub hint: Option<String>,
    pub facts: BTreeMap<String, String>,
}

#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nothing was sent.
    #[error("cannot reach the daemon at {}", socket.display())]
    Unreachable {
        socket: PathBuf,
        #[source]
        source: std::io::Error,
    },
    /// The daemon refused.
    #[error(transparent)]
    Api(#[from] ApiError),
    /// The operation ended in failure or was cancelled.
    #[error("{}", if operation.err.is_empty() { &operation.status } else { &operation.err })]
    Operation { operation: Box<Operation> },
    /// The connection broke: whether the request had an effect is unknown.
    #[error("the connection to the daemon broke: {0}")]
    Broken(String),
    /// The daemon's answer is not of the dialect.
    #[error("the daemon's answer to {what} cannot be read")]
    Decode {
        what: String,
        #[source]
        source: serde_json::Error,
    },
    /// A file on this side.
    #[error("{}", path.display())]
    File {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    /// The answer has another shape than this request must get.
    #[error("the daemon's answer to {what} is not what was expected: {found}")]
    Unexpected { what: String, found: String },
}

impl ClientError {
    /// The error number of the daemon's refusal; 0 when it is none.
    #[must_use]
    pub const fn error_code(&self) -> u16 {
        match self {
            Self::Api(error) => error.error_code,
            Self::Unreachable { .. }
            | Self::Operation { .. }
            | Self::Broken(_)
            | Self::Decode { .. }
            | Self::File { .. }
            | Self::Unexpected { .. } => 0,
        }
    }

    #[must_use]
    pub const fn is_not_found(&self) -> bool {
        self.error_code() == 404
    }

    pub(super) fn broken(problem: impl std::error::Error) -> Self {
        // The causes matter more than the outermost text ("connection error"), and are short.
        let mut text = problem.to_string();
        let mut cause = problem.source();
        while let Some(next) = cause {
            text = format!("{text}: {next}");
            cause = next.source();
        }
        Self::Broken(text)
    }
}
