//! The words of moving a guest while it runs.
//!
//! ```text
//!            checkpoint                          restore
//!  running ─────────────► held at the source   nothing ─────────► held at the target
//!     ▲                     │        │                               │          │
//!     └── release(Resume) ──┘        └─ release(Kill) ─► gone ◄──────┘          └─ activate ─► running
//! ```
//!
//! A held guest executes nothing and hears nothing of the network, so that it may be held in two
//! places at once and still be one guest: it is let go in one of them only. Nothing but a decision
//! lets it go, least of all a clock; it stays held when the daemon is restarted.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::super::DriverError;
use crate::ids::InstanceId;

/// How a guest could move to another node, as far as the guest is concerned.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Preflight {
    pub verdict: Mobility,
    /// Why not better, in the user's words; and what to mind, with [`Mobility::Live`] too.
    pub reasons: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mobility {
    /// Stopped, moved, started.
    StopCopy,
    /// Most is sent while it runs; stopped for the rest.
    NearLive,
    /// With its processes and connections.
    Live,
}

/// A guest whose memory, processes and connections are in files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checkpointed {
    /// Of all the files.
    pub bytes: u64,
    /// Since then it stands still.
    pub frozen_at: DateTime<Utc>,
    /// From then until everything was in the files.
    pub took_ms: u64,
}

/// Which half of a move a guest is held in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Held {
    /// At the source, until [`super::Guests::release`].
    Checkpointed,
    /// At the target, until [`super::Guests::activate`].
    Restored,
}

/// What becomes of a held guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Release {
    /// It goes on where it was checkpointed.
    Resume,
    /// Nothing of it is left here: it goes on elsewhere.
    Kill,
}

/// The refusal to do with a held guest what only one that is not held can do.
#[must_use]
pub fn is_held(instance: InstanceId, held: Held) -> DriverError {
    let (why, then) = match held {
        Held::Checkpointed => ("moves to another node", "it runs there, or here again"),
        Held::Restored => ("arrives from another node", "it runs here"),
    };
    DriverError::Refused(format!("{instance} {why} and stands still; try again when {then}"))
}

/// The refusal to restore from files that hold no guest, or another one.
#[must_use]
pub fn holds_no_guest(instance: InstanceId, from: &std::path::Path, why: &str) -> DriverError {
    let from = from.display();
    DriverError::Refused(format!("{instance} cannot be restored from {from}: {why}"))
}
