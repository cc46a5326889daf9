//! Why a command is refused. Nothing has changed when one is answered.
//!
//! The texts are the dialect's where its clients read them (`reference: Incus 6.0`), and each has a
//! hint: what to type next.

use serde::{Deserialize, Serialize};

use crate::operation::Verb;

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Rejection {
    #[error("{} not found", noun.title())]
    NotFound { noun: Noun, name: String },
    #[error("{} \"{name}\" already exists", noun.title())]
    AlreadyExists { noun: Noun, name: String },
    #[error("Instance is busy running a \"{}\" operation", verb.action())]
    Busy { verb: Verb },
    /// The instance's state does not allow it.
    #[error("{message}")]
    WrongState { message: &'static str, hint: String },
    #[error("{0}")]
    Invalid(String),
    #[error("{} is currently in use", noun.title())]
    InUse { noun: Noun, by: Vec<String> },
    #[error("{message}")]
    NotAllowed { message: String, hint: String },
    /// The thing changed since the client read it.
    #[error("ETag doesn't match: {wanted} vs {actual}")]
    Stale { wanted: u64, actual: u64 },
    /// There is nothing left to give out.
    #[error("{0}")]
    Exhausted(String),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Noun {
    Instance,
    Snapshot,
    Image,
    ImageAlias,
    Profile,
    Project,
    Network,
    Pool,
    Volume,
    Node,
    ClusterGroup,
    JoinToken,
    Operation,
}

impl Noun {
    #[must_use]
    pub const fn title(self) -> &'static str {
        match self {
            Self::Instance => "Instance",
            Self::Snapshot => "Instance snapshot",
            Self::Image => "Image",
            Self::ImageAlias => "Image alias",
            Self::Profile => "Profile",
            Self::Project => "Project",
            Self::Network => "Network",
            Self::Pool => "Storage pool",
            Self::Volume => "Storage volume",
            Self::Node => "Cluster member",
            Self::ClusterGroup => "Cluster group",
            Self::JoinToken => "Join token",
            Self::Operation => "Operation",
        }
    }

    const fn list_command(self) -> &'static str {
        match self {
            Self::Instance => "stapes list",
            Self::Snapshot => "stapes snapshot list INSTANCE",
            Self::Image => "stapes image list, or make one: stapes image build debian/12",
            Self::ImageAlias => "stapes image alias list",
            Self::Profile => "stapes profile list",
            Self::Project => "stapes project list",
            Self::Network => "stapes network list",
            Self::Pool => "stapes storage list",
            Self::Volume => "stapes storage volume list POOL",
            Self::Node => "stapes cluster list",
            Self::ClusterGroup => "stapes cluster group list",
            Self::JoinToken => "stapes cluster list-tokens",
            Self::Operation => "stapes op list",
        }
    }
}

/// What kind of refusal it is: the transport turns this into its own status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    BadRequest,
    NotFound,
    Conflict,
    Forbidden,
    PreconditionFailed,
}

impl Rejection {
    #[must_use]
    pub const fn kind(&self) -> Kind {
        match self {
            Self::NotFound { .. } => Kind::NotFound,
            Self::AlreadyExists { .. } => Kind::Conflict,
            Self::Busy { .. }
            | Self::WrongState { .. }
            | Self::Invalid(_)
            | Self::InUse { .. }
            | Self::Exhausted(_) => Kind::BadRequest,
            Self::NotAllowed { .. } => Kind::Forbidden,
            Self::Stale { .. } => Kind::PreconditionFailed,
        }
    }

    /// Stable, for programs and for `stapes explain`.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::NotFound { .. } => "not-found",
            Self::AlreadyExists { .. } => "already-exists",
            Self::Busy { .. } => "busy",
            Self::WrongState { .. } => "wrong-state",
            Self::Invalid(_) => "invalid",
            Self::InUse { .. } => "in-use",
            Self::NotAllowed { .. } => "not-allowed",
            Self::Stale { .. } => "changed-meanwhile",
            Self::Exhausted(_) => "exhausted",
        }
    }

    /// What to type next, if there is something to say.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::NotFound { noun, name } => {
                Some(format!("no \"{name}\" here; see: {}", noun.list_command()))
            }
            Self::AlreadyExists { noun, .. } => {
                Some(format!("choose another name; see: {}", noun.list_command()))
            }
            Self::Busy { .. } => Some("wait for it or watch it: stapes op list".to_owned()),
            Self::WrongState { hint, .. } | Self::NotAllowed { hint, .. } => Some(hint.clone()),
            Self::InUse { .. } => Some("take it out of what uses it first".to_owned()),
            Self::Stale { .. } => Some("read it again, then repeat the change".to_owned()),
            Self::Invalid(_) | Self::Exhausted(_) => None,
        }
    }
}
