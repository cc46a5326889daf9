//! Names and other things that only one may hold: each is a stream of its own, so that the log
//! itself refuses a second holder.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::ids::{StreamId, StreamKind};

/// What is unique, and where.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Name {
    pub kind: NameKind,
    /// The project, pool, network or node in which it is unique; nil: everywhere.
    pub scope: Uuid,
    pub name: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NameKind {
    Project,
    Profile,
    Network,
    Pool,
    Volume,
    Instance,
    ImageAlias,
    /// An IP address in a network.
    Address,
    /// A range of host ids on a node; the name is the slot's number.
    IdMap,
    /// A cluster member's.
    Node,
}

impl NameKind {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Project => "project",
            Self::Profile => "profile",
            Self::Network => "network",
            Self::Pool => "pool",
            Self::Volume => "volume",
            Self::Instance => "instance",
            Self::ImageAlias => "image-alias",
            Self::Address => "address",
            Self::IdMap => "id-map",
            Self::Node => "node",
        }
    }
}

impl Name {
    pub fn new(kind: NameKind, scope: impl Into<Uuid>, name: impl Into<String>) -> Self {
        Self { kind, scope: scope.into(), name: name.into() }
    }

    #[must_use]
    pub fn stream(&self) -> StreamId {
        let scope = self.scope.simple().to_string();
        StreamId::derive(StreamKind::Name, &[self.kind.as_str(), &scope, &self.name])
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Event {
    Reserved {
        name: Name,
        holder: Uuid,
        /// Of an image alias.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        description: String,
    },
    Released {
        name: Name,
    },
}

impl Event {
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Reserved { .. } => "reserved",
            Self::Released { .. } => "released",
        }
    }
}

/// Who holds a name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    pub holder: Uuid,
    pub description: String,
}
