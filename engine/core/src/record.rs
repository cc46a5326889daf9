//! What lies in the log: one record, its envelope and its codec.
//!
//! MessagePack with named fields, so that fields can be added. A record's `prev` is the digest of
//! its stream's previous record: editing, dropping or reordering one shows in all that follow.

use std::fmt;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{SeqAccess, Visitor},
};
use uuid::Uuid;

use crate::{
    event::Event,
    ids::{Epoch, OperationId, Revision, Sequence, StreamId, StreamKind},
    port::log::Stored,
    task::Task,
};

/// The digest of a record's bytes: the first half of their BLAKE3 hash.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest(pub [u8; 16]);

impl Digest {
    #[must_use]
    pub fn of(payload: &[u8]) -> Self {
        let mut half = [0; 16];
        half.copy_from_slice(&blake3::hash(payload).as_bytes()[..16]);
        Self(half)
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_bytes(DigestBytes)
    }
}

/// Takes the bytes from where they are. A digest of another length is no digest of anything: it
/// matches nothing.
struct DigestBytes;

impl<'de> Visitor<'de> for DigestBytes {
    type Value = Digest;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the bytes of a digest")
    }

    fn visit_bytes<E: serde::de::Error>(self, bytes: &[u8]) -> Result<Digest, E> {
        Ok(Digest(bytes.try_into().unwrap_or_default()))
    }

    /// As JSON has bytes.
    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Digest, A::Error> {
        let mut bytes = Vec::with_capacity(16);
        while let Some(byte) = seq.next_element()? {
            bytes.push(byte);
        }
        self.visit_bytes(&bytes)
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// Who asked.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Actor {
    pub protocol: Protocol,
    /// The user's, the certificate's or the node's name.
    pub name: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Protocol {
    /// A user of the host, by the unix socket.
    Unix,
    /// A client certificate.
    Tls,
    /// A node's report.
    Node,
    /// A policy: a timer, autostart, a reboot from inside.
    System,
}

impl Protocol {
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unix => "unix",
            Self::Tls => "tls",
            Self::Node => "node",
            Self::System => "system",
        }
    }
}

impl Actor {
    #[must_use]
    pub fn system() -> Self {
        Self { protocol: Protocol::System, name: "stapes".to_owned() }
    }
}

/// What is written for one aggregate or one task of a decision.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// Follows from the commit and the place in it.
    pub id: Uuid,
    #[serde(with = "chrono::serde::ts_microseconds")]
    pub time: DateTime<Utc>,
    pub actor: Actor,
    /// What this belongs to: the correlation id.
    pub operation: OperationId,
    /// The task or the commit that led to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub caused_by: Option<Uuid>,
    /// The user's own words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    pub epoch: Epoch,
    /// Of the stream's previous record; none for the first and for tasks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prev: Option<Digest>,
    pub body: Body,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Body {
    Events(Vec<Event>),
    Task(Box<Task>),
}

/// A record with its place in the log.
#[derive(Clone, Debug, PartialEq)]
pub struct Recorded {
    pub sequence: Sequence,
    pub stream: StreamId,
    pub revision: Revision,
    pub last_in_commit: bool,
    pub digest: Digest,
    pub record: Record,
}

/// An event that this version cannot read. A reader stops here: skipping it would be a lie.
#[derive(Debug, thiserror::Error)]
#[error(
    "record {sequence} ({stream}, revision {revision}) was written by another version: {cause}"
)]
pub struct Undecodable {
    pub sequence: Sequence,
    pub stream: StreamId,
    pub revision: Revision,
    pub cause: String,
}

impl Record {
    #[must_use]
    pub fn encode(&self) -> Bytes {
        // Encoding to memory fails only for types that MessagePack lacks, and these have none.
        Bytes::from(rmp_serde::to_vec_named(self).expect("a record is encodable"))
    }

    /// # Errors
    /// When the bytes are not a record that this version knows.
    pub fn decode(payload: &[u8]) -> Result<Self, rmp_serde::decode::Error> {
        rmp_serde::from_slice(payload)
    }

    /// The events, none if it is a task.
    #[must_use]
    pub fn events(&self) -> &[Event] {
        match &self.body {
            Body::Events(events) => events,
            Body::Task(_) => &[],
        }
    }
}

impl Recorded {
    /// # Errors
    /// [`Undecodable`] when another version wrote it.
    pub fn read(stored: &Stored) -> Result<Self, Undecodable> {
        let record = Record::decode(&stored.payload).map_err(|cause| Undecodable {
            sequence: stored.sequence,
            stream: stored.stream,
            revision: stored.revision,
            cause: cause.to_string(),
        })?;
        Ok(Self {
            sequence: stored.sequence,
            stream: stored.stream,
            revision: stored.revision,
            last_in_commit: stored.last_in_commit,
            digest: Digest::of(&stored.payload),
            record,
        })
    }

    /// The task, if it is one.
    #[must_use]
    pub fn task(&self) -> Option<&Task> {
        match &self.record.body {
            Body::Task(task) if self.stream.kind == StreamKind::Task => Some(task),
            Body::Task(_) | Body::Events(_) => None,
        }
    }
}
