//! What the pure core asks of the rest of the world, each as a trait with its laws and its fake.
//!
//! A law is a function that any implementation is run against; the fake (the simulator's part)
//! passes the same laws as the real thing.

pub mod guest;
pub mod image;
pub mod log;
pub mod network;
pub mod peer;
pub mod presence;
pub mod queue;
pub mod report;
pub mod secret;
pub mod storage;

/// Why a driver could not do what it was asked. The world is as it was, or repeating the request
/// finishes or undoes what was begun.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DriverError {
    /// The request cannot succeed however often it is repeated; the text tells the user why and
    /// what to do.
    #[error("{0}")]
    Refused(String),
    /// The thing that the request is about is not there.
    #[error("{0} not found")]
    NotFound(String),
    /// There is no room: of which kind and where.
    #[error("{0}")]
    Full(String),
    /// Something outside failed; the same request may succeed later.
    #[error("{0}")]
    Failed(String),
}

impl DriverError {
    /// Whether the same request may succeed later without anybody changing anything.
    #[must_use]
    pub const fn retryable(&self) -> bool {
        match self {
            Self::Failed(_) => true,
            Self::Refused(_) | Self::NotFound(_) | Self::Full(_) => false,
        }
    }
}
