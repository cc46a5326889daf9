//! Ids, positions and counters: newtypes, so that no two can be confused.

use std::fmt;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// All ids that are derived rather than drawn hang below this namespace.
const NAMESPACE: Uuid = Uuid::from_u128(0x7374_6170_6573_4000_8000_6c6f_6769_7369);

macro_rules! uuid_id {
    ($($(#[$doc:meta])* $name:ident;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub Uuid);

        impl $name {
            /// The id that follows from `parts`: the same parts always give the same id.
            #[must_use]
            pub fn derive(parts: &[&str]) -> Self {
                Self(derive_uuid(stringify!($name), parts))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.hyphenated().fmt(f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({})", stringify!($name), self.0.simple())
            }
        }

        impl std::str::FromStr for $name {
            type Err = uuid::Error;
            fn from_str(text: &str) -> Result<Self, Self::Err> {
                Uuid::parse_str(text).map(Self)
            }
        }

        impl From<$name> for Uuid {
            fn from(id: $name) -> Self {
                id.0
            }
        }
    )*};
}

uuid_id! {
    /// A machine that runs `stapes daemon`.
    NodeId;
    /// A container or a virtual machine. Also names its root volume, its cgroup and its processes.
    InstanceId;
    /// A point in time of one instance's root volume and configuration.
    SnapshotId;
    /// A project: the scope of names.
    ProjectId;
    /// A profile of a project.
    ProfileId;
    /// An image in a project; follows from the project and the fingerprint.
    ImageId;
    /// A managed network.
    NetworkId;
    /// A storage pool.
    PoolId;
    /// A volume in a pool; an instance's root volume has the instance's own uuid.
    VolumeId;
    /// What a user asked for; the correlation id of every commit that it causes.
    OperationId;
    /// A work order for a node; follows from the commit that ordered it.
    TaskId;
    /// One decision: the unit of the log.
    CommitId;
}

fn derive_uuid(kind: &str, parts: &[&str]) -> Uuid {
    let mut name = String::from(kind);
    for part in parts {
        // A separator that no name may contain keeps ("a", "bc") and ("ab", "c") apart.
        name.push('\u{1f}');
        name.push_str(part);
    }
    Uuid::new_v5(&NAMESPACE, name.as_bytes())
}

impl From<InstanceId> for VolumeId {
    fn from(id: InstanceId) -> Self {
        Self(id.0)
    }
}

impl OperationId {
    #[must_use]
    pub fn stream(self) -> StreamId {
        StreamId::new(StreamKind::Operation, self)
    }
}

impl InstanceId {
    #[must_use]
    pub fn stream(self) -> StreamId {
        StreamId::new(StreamKind::Instance, self)
    }
}

impl CommitId {
    /// The id of the `ordinal`-th task that this commit orders.
    #[must_use]
    pub fn task(self, ordinal: usize) -> TaskId {
        TaskId::derive(&[&self.0.simple().to_string(), &ordinal.to_string()])
    }
}

macro_rules! counter {
    ($($(#[$doc:meta])* $name:ident;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub u64);

        impl $name {
            /// The one after this.
            #[must_use]
            pub const fn next(self) -> Self {
                Self(self.0 + 1)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    )*};
}

counter! {
    /// Position in the whole log, gapless from 1; zero is "before everything".
    Sequence;
    /// Position in one stream, gapless from 1; zero is "nothing yet".
    Revision;
    /// Counts the requests made of a thing on a node, so that an old task or report is recognised.
    Generation;
    /// Counts the owners of an instance: the fence.
    Epoch;
}

/// What a stream is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[repr(u8)]
pub enum StreamKind {
    Server = 1,
    Node = 2,
    Project = 3,
    Profile = 4,
    Network = 5,
    Pool = 6,
    Volume = 7,
    Image = 8,
    Instance = 9,
    Operation = 10,
    Name = 11,
    /// The tasks of one node; the stream's id is the node's.
    Task = 12,
}

impl StreamKind {
    pub const ALL: [Self; 12] = [
        Self::Server,
        Self::Node,
        Self::Project,
        Self::Profile,
        Self::Network,
        Self::Pool,
        Self::Volume,
        Self::Image,
        Self::Instance,
        Self::Operation,
        Self::Name,
        Self::Task,
    ];

    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Server => "server",
            Self::Node => "node",
            Self::Project => "project",
            Self::Profile => "profile",
            Self::Network => "network",
            Self::Pool => "pool",
            Self::Volume => "volume",
            Self::Image => "image",
            Self::Instance => "instance",
            Self::Operation => "operation",
            Self::Name => "name",
            Self::Task => "task",
        }
    }

    /// From the byte that a stored log holds.
    #[must_use]
    pub fn from_byte(byte: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| *kind as u8 == byte)
    }
}

/// The name of one stream: the records of one aggregate, or the tasks of one node.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct StreamId {
    pub kind: StreamKind,
    pub id: Uuid,
}

impl StreamId {
    #[must_use]
    pub fn new(kind: StreamKind, id: impl Into<Uuid>) -> Self {
        Self { kind, id: id.into() }
    }

    /// The stream of a thing that has a name and no id of its own.
    #[must_use]
    pub fn derive(kind: StreamKind, parts: &[&str]) -> Self {
        Self { kind, id: derive_uuid(kind.as_str(), parts) }
    }
}

impl fmt::Display for StreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.kind.as_str(), self.id.simple())
    }
}

impl fmt::Debug for StreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The sha256 of an image, as 64 lower-case hexadecimal digits.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Fingerprint(String);

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a fingerprint is 64 lower-case hexadecimal digits")]
pub struct NotAFingerprint;

impl Fingerprint {
    /// # Errors
    /// When `text` is not 64 lower-case hexadecimal digits.
    pub fn new(text: impl Into<String>) -> Result<Self, NotAFingerprint> {
        let text = text.into();
        let hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        if text.len() == 64 && text.bytes().all(hex) {
            Ok(Self(text))
        } else {
            Err(NotAFingerprint)
        }
    }

    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for Fingerprint {
    type Error = NotAFingerprint;
    fn try_from(text: String) -> Result<Self, NotAFingerprint> {
        Self::new(text)
    }
}

impl From<Fingerprint> for String {
    fn from(fingerprint: Fingerprint) -> Self {
        fingerprint.0
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn derived_ids_depend_on_every_part() {
        assert_eq!(InstanceId::derive(&["a", "b"]), InstanceId::derive(&["a", "b"]));
        assert_ne!(InstanceId::derive(&["a", "bc"]), InstanceId::derive(&["ab", "c"]));
        assert_ne!(InstanceId::derive(&["a"]).0, NetworkId::derive(&["a"]).0);
    }

    #[test]
    fn a_fingerprint_never_holds_a_path() {
        assert!(Fingerprint::new("ab".repeat(32)).is_ok());
        for bad in ["", "../etc/passwd", &"AB".repeat(32), &"a".repeat(65)] {
            assert_eq!(Fingerprint::new(bad), Err(NotAFingerprint), "{bad}");
        }
    }

    #[test]
    fn every_stream_kind_survives_its_byte() {
        for kind in StreamKind::ALL {
            assert_eq!(StreamKind::from_byte(kind as u8), Some(kind));
        }
    }
}
