//! The client: what the CLI, the scenarios and other programs use to speak the dialect.
//!
//! A [`Client`] is cheap to clone and keeps connections. Plain requests are [`Client::get`],
//! [`Client::send`] and [`Client::raw`]; what runs in the background is begun with
//! [`Client::begin`], which listens to the events before it asks, so that nothing is missed, and
//! hands out a [`Pending`] to wait for.

mod error;
mod events;
mod exec;
mod images;
mod log;
mod operation;
mod request;
mod transport;

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

pub use error::{ApiError, ClientError};
pub use events::EventStream;
pub use exec::{ConsoleSession, ExecHandle, ExecOutput, ExecReceiver, ExecSender, ExecSocket};
pub use hyper::Method;
pub use images::{Downloaded, UploadOptions};
pub use log::LogStream;
pub use operation::Pending;
pub use request::{Answer, Download, escape};
pub use transport::Transport;

/// Where the daemon keeps everything unless told otherwise.
pub const DEFAULT_DIRECTORY: &str = "/var/lib/stapes";

/// A connection to one daemon, and the project that requests are about.
#[derive(Clone, Debug)]
pub struct Client {
    transport: Transport,
    project: Option<String>,
    all_projects: bool,
    reason: Option<String>,
    /// Since when answers may be old, as the last one said.
    stale: Arc<Mutex<Option<String>>>,
}

impl Client {
    /// Over this unix socket. Nothing is connected before the first request.
    #[must_use]
    pub fn unix(socket: impl AsRef<Path>) -> Self {
        Self {
            transport: Transport::unix(socket.as_ref()),
            project: None,
            all_projects: false,
            reason: None,
            stale: Arc::default(),
        }
    }

    /// Over `$STAPES_SOCKET`, or `unix.socket` in `$STAPES_DIR`, or in the default directory.
    #[must_use]
    pub fn local() -> Self {
        Self::unix(default_socket())
    }

    /// The same connections, for things in `project`.
    #[must_use]
    pub fn project(&self, project: impl Into<String>) -> Self {
        Self { project: Some(project.into()), all_projects: false, ..self.clone() }
    }

    /// The same connections; lists are of all projects.
    #[must_use]
    pub fn all_projects(&self) -> Self {
        Self { project: None, all_projects: true, ..self.clone() }
    }

    /// The same connections; what is asked for is recorded with this reason.
    #[must_use]
    pub fn reason(&self, reason: impl Into<String>) -> Self {
        Self { reason: Some(reason.into()), ..self.clone() }
    }

    /// Since when what was read may be old (RFC 3339), if the daemon said so: it does not hear the
    /// rest of its cluster.
    #[must_use]
    pub fn stale_since(&self) -> Option<String> {
        self.stale.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn note_stale(&self, since: Option<&str>) {
        if let Some(since) = since {
            *self.stale.lock().unwrap_or_else(PoisonError::into_inner) = Some(since.to_owned());
        }
    }

    #[must_use]
    pub fn socket(&self) -> &Path {
        self.transport.socket()
    }
}

/// The socket that [`Client::local`] uses.
#[must_use]
pub fn default_socket() -> PathBuf {
    if let Some(socket) = std::env::var_os("STAPES_SOCKET").filter(|path| !path.is_empty()) {
        return PathBuf::from(socket);
    }
    let directory = std::env::var_os("STAPES_DIR").filter(|path| !path.is_empty());
    directory.map_or_else(|| PathBuf::from(DEFAULT_DIRECTORY), PathBuf::from).join("unix.socket")
}
