//! How far the views are, and why they stopped if they did.

use serde::Serialize;
use stapes_core::{
    ids::Sequence,
    port::log::ReadError,
    record::{Recorded, Undecodable},
    world::Broken,
};

/// Whether what is read is what the log says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "state")]
pub enum Status {
    /// Records are folded that were there before; what is read is older than the log.
    CatchingUp {
        at: Sequence,
        head: Sequence,
    },
    Live {
        at: Sequence,
    },
    /// The record after `at` cannot be taken. Nothing is skipped, so the views stay as they are.
    Blocked {
        at: Sequence,
        why: Blocked,
    },
}

impl Status {
    #[must_use]
    pub const fn sequence(&self) -> Sequence {
        match self {
            Self::CatchingUp { at, .. } | Self::Live { at } | Self::Blocked { at, .. } => *at,
        }
    }

    #[must_use]
    pub const fn blocked(&self) -> Option<&Blocked> {
        match self {
            Self::CatchingUp { .. } | Self::Live { .. } => None,
            Self::Blocked { why, .. } => Some(why),
        }
    }
}

/// Why a view cannot go on. An operator must look; a restart alone does not help.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, thiserror::Error)]
#[serde(rename_all = "kebab-case", tag = "kind")]
pub enum Blocked {
    #[error(
        "record {missing} is missing from the log; compare it with an archive: stapes log verify"
    )]
    Gap { missing: Sequence },
    #[error(
        "the log ends at {head}, before {asked} that had been read: it went backwards; restore it from an archive"
    )]
    Regressed { asked: Sequence, head: Sequence },
    #[error("{message}; upgrade this node")]
    Undecodable { sequence: Sequence, message: String },
    #[error("{message}; compare the log with an archive: stapes log verify")]
    Broken { sequence: Sequence, message: String },
    #[error("{message}; restore it from an archive")]
    Corrupt { message: String },
}

impl Blocked {
    pub(crate) fn by_record(recorded: &Recorded, broken: &Broken) -> Self {
        match broken {
            Broken::Gap { known, .. } => Self::Gap { missing: known.next() },
            Broken::Revision { .. } | Broken::Chain { .. } => {
                Self::Broken { sequence: recorded.sequence, message: broken.to_string() }
            }
        }
    }
}

impl From<Undecodable> for Blocked {
    fn from(error: Undecodable) -> Self {
        Self::Undecodable { sequence: error.sequence, message: error.to_string() }
    }
}

/// What a failed read means: nothing for good when the log is merely away.
pub(crate) fn blocked_by(error: &ReadError) -> Option<Blocked> {
    match error {
        ReadError::Unavailable(_) => None,
        ReadError::Corrupt(_) => Some(Blocked::Corrupt { message: error.to_string() }),
        ReadError::Gap { missing } => Some(Blocked::Gap { missing: *missing }),
        ReadError::Regressed { asked, head } => {
            Some(Blocked::Regressed { asked: *asked, head: *head })
        }
    }
}

/// The views do not hold what was asked for, and will not in time.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the views are at {at}, not yet at {asked}{}", blocked.as_ref().map(|why| format!(": {why}")).unwrap_or_default())]
pub struct Behind {
    pub asked: Sequence,
    pub at: Sequence,
    /// Waiting longer does not help.
    pub blocked: Option<Blocked>,
}

/// Why a question has no answer.
#[derive(Debug, thiserror::Error)]
pub enum QueryError {
    #[error("the log ends at {head}: {asked} is still to come")]
    Future { asked: Sequence, head: Sequence },
    #[error(transparent)]
    Blocked(#[from] Blocked),
    #[error("the log cannot be read now")]
    Log(#[source] ReadError),
    /// It is rebuilt by itself.
    #[error("the store of the views failed: {0}")]
    Store(String),
}

impl From<ReadError> for QueryError {
    fn from(error: ReadError) -> Self {
        blocked_by(&error).map_or_else(|| Self::Log(error), Self::Blocked)
    }
}
