//! A record as a message: its subject, its headers, and back.
//!
//! ```text
//! subject      e.<cluster>.<kind>.<uuid>           one exact subject a stream
//! Nats-Msg-Id  <commit>.<index>                    the servers' own check against doubles
//! Stapes-Part  <index>/<count> <revision or ->     the place in the commit and in the stream
//! ```
//!
//! The revision of a part that expects its stream somewhere is claimed by its writer, and the
//! servers' comparison of the stream's last sequence makes the claim true. A part that fits anywhere
//! claims none: its revision is its place among the stream's records, which every reader counts alike.

use async_nats::{HeaderMap, HeaderName, header};
use bytes::Bytes;
use stapes_core::{
    ids::{CommitId, Revision, Sequence, StreamId, StreamKind},
    port::log::{Commit, Expected, PARTS_MAX, Stored},
};
use uuid::Uuid;

const PART: HeaderName = HeaderName::from_static("Stapes-Part");

/// The names of one cluster's things on JetStream.
#[derive(Clone, Debug)]
pub(crate) struct Names {
    /// The JetStream stream that is the log.
    pub log: String,
    /// The one that holds the cursors.
    pub cursors: String,
    /// What every subject of the log begins with, its dot included.
    prefix: String,
    cursor_prefix: String,
}

impl Names {
    pub(crate) fn new(cluster: Uuid) -> Self {
        let cluster = cluster.simple();
        Self {
            log: format!("STAPES_{cluster}"),
            cursors: format!("STAPES_{cluster}_CURSORS"),
            prefix: format!("e.{cluster}."),
            cursor_prefix: format!("c.{cluster}."),
        }
    }

    /// What all records' subjects match.
    pub(crate) fn all(&self) -> String {
        format!("{}>", self.prefix)
    }

    pub(crate) fn all_cursors(&self) -> String {
        format!("{}>", self.cursor_prefix)
    }

    pub(crate) fn subject(&self, stream: StreamId) -> String {
        format!("{}{}.{}", self.prefix, stream.kind.as_str(), stream.id.simple())
    }

    fn stream(&self, subject: &str) -> Option<StreamId> {
        let (kind, id) = subject.strip_prefix(&self.prefix)?.split_once('.')?;
        let kind = StreamKind::ALL.into_iter().find(|known| known.as_str() == kind)?;
        Some(StreamId::new(kind, Uuid::try_parse(id).ok()?))
    }

    /// The subject of a cursor. Names may hold anything; a subject's token may not.
    pub(crate) fn cursor(&self, name: &str) -> String {
        let mut subject = self.cursor_prefix.clone();
        for byte in name.bytes() {
            if byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_' {
                subject.push(byte.into());
            } else {
                subject.push_str(&format!("={byte:02x}"));
            }
        }
        subject
    }
}

/// A record as it came from JetStream, before it is counted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Arrived {
    pub sequence: Sequence,
    pub stream: StreamId,
    pub commit: CommitId,
    pub index: usize,
    pub count: usize,
    pub claimed: Option<Revision>,
    pub payload: Bytes,
}

impl Arrived {
    pub(crate) fn is_last(&self) -> bool {
        self.index + 1 == self.count
    }

    pub(crate) fn stored(self, revision: Revision) -> Stored {
        Stored {
            sequence: self.sequence,
            stream: self.stream,
            revision,
            commit: self.commit,
            last_in_commit: self.is_last(),
            payload: self.payload,
        }
    }

    /// # Errors
    /// What is odd about a message that stapes did not write.
    pub(crate) fn parse(
        names: &Names,
        sequence: u64,
        subject: &str,
        headers: Option<&HeaderMap>,
        payload: Bytes,
    ) -> Result<Self, String> {
        let odd = |what: &str| format!("message {sequence} on {subject} has no {what} of stapes");
        let stream = names.stream(subject).ok_or_else(|| odd("subject"))?;
        let header =
            |name| headers.and_then(|headers| headers.get(name)).map(|value| value.as_str());
        let id = header(header::NATS_MESSAGE_ID).and_then(|id| id.split_once('.'));
        let commit = id.and_then(|(commit, _)| Uuid::try_parse(commit).ok());
        let commit = CommitId(commit.ok_or_else(|| odd("commit id"))?);
        let place = header(PART).and_then(parse_part).ok_or_else(|| odd("place"))?;
        let (index, count, claimed) = place;
        Ok(Self { sequence: Sequence(sequence), stream, commit, index, count, claimed, payload })
    }
}

/// Where a delivery stands: in the log, and among those of its consumer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub sequence: u64,
    /// Gapless from 1, those that come again included.
    pub delivered: u64,
}

impl Place {
    /// From a delivery's reply subject, in either of its two forms: `$JS.ACK.<stream>.<consumer>.
    /// <attempts>.<sequence>.<delivered>. ...`, or with two tokens more after `ACK`.
    pub(crate) fn parse(reply: &str) -> Option<Self> {
        let tokens = reply.strip_prefix("$JS.ACK.")?.split('.');
        let mut tokens = tokens.clone().skip(if tokens.count() >= 9 { 5 } else { 3 });
        let sequence = tokens.next()?.parse().ok()?;
        Some(Self { sequence, delivered: tokens.next()?.parse().ok()? })
    }
}

fn parse_part(text: &str) -> Option<(usize, usize, Option<Revision>)> {
    let (place, revision) = text.split_once(' ')?;
    let (index, count) = place.split_once('/')?;
    let (index, count) = (index.parse().ok()?, count.parse().ok()?);
    let claimed = match revision {
        "-" => None,
        revision => Some(Revision(revision.parse().ok()?)),
    };
    (index < count && count <= PARTS_MAX).then_some((index, count, claimed))
}

/// The headers of one part; `last` is the sequence of its stream's last record, for those that
/// expect it somewhere.
pub(crate) fn headers(commit: &Commit, index: usize, last: Option<Sequence>) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(header::NATS_MESSAGE_ID, format!("{}.{index}", commit.id.0.simple()));
    let count = commit.parts.len();
    let part = match commit.parts[index].expected {
        Expected::Exact(revision) => format!("{index}/{count} {}", revision.next()),
        Expected::Any => format!("{index}/{count} -"),
    };
    headers.insert(PART, part);
    if let Some(last) = last {
        headers.insert(header::NATS_EXPECTED_LAST_SUBJECT_SEQUENCE, last.0.to_string());
    }
    headers
}

/// What arrives of a commit that lies from `first` on.
pub(crate) fn appended(commit: &Commit, first: Sequence) -> Vec<Arrived> {
    let arrived = |(index, part): (usize, &stapes_core::port::log::Part)| Arrived {
        sequence: Sequence(first.0 + index as u64),
        stream: part.stream,
        commit: commit.id,
        index,
        count: commit.parts.len(),
        claimed: match part.expected {
            Expected::Exact(revision) => Some(revision.next()),
            Expected::Any => None,
        },
        payload: part.payload.clone(),
    };
    commit.parts.iter().enumerate().map(arrived).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use stapes_core::port::log::Part;

    #[test]
    fn a_record_survives_the_wire() {
        let names = Names::new(Uuid::from_u128(5));
        let stream = StreamId::new(StreamKind::Instance, Uuid::from_u128(7));
        let tasks = StreamId::new(StreamKind::Task, Uuid::from_u128(8));
        let part = |stream, expected| Part { stream, expected, payload: "p".into() };
        let commit = Commit {
            id: CommitId::derive(&["a"]),
            parts: vec![part(stream, Expected::Exact(Revision(4))), part(tasks, Expected::Any)],
        };
        for (index, expected) in appended(&commit, Sequence(10)).into_iter().enumerate() {
            let subject = names.subject(expected.stream);
            let headers = headers(&commit, index, None);
            let sequence = expected.sequence.0;
            let parsed =
                Arrived::parse(&names, sequence, &subject, Some(&headers), "p".into()).unwrap();
            assert_eq!(parsed, expected);
        }
    }

    #[test]
    fn what_others_wrote_is_no_record() {
        let names = Names::new(Uuid::from_u128(5));
        let subject = names.subject(StreamId::new(StreamKind::Name, Uuid::from_u128(7)));
        let other = Names::new(Uuid::from_u128(6));
        assert!(Arrived::parse(&names, 1, &subject, None, Bytes::new()).is_err());
        for part in ["", "1/1 -", "0/1001 -", "0/1 x", "0/1"] {
            let mut headers = HeaderMap::new();
            headers.insert(header::NATS_MESSAGE_ID, format!("{}.0", Uuid::nil().simple()));
            headers.insert(PART, "0/1 -");
            assert!(Arrived::parse(&names, 1, &subject, Some(&headers), Bytes::new()).is_ok());
            assert!(Arrived::parse(&other, 1, &subject, Some(&headers), Bytes::new()).is_err());
            headers.insert(PART, part);
            assert!(Arrived::parse(&names, 1, &subject, Some(&headers), Bytes::new()).is_err());
        }
    }

    #[test]
    fn deliveries_tell_their_place() {
        let place = Some(Place { sequence: 7001, delivered: 3 });
        assert_eq!(Place::parse("$JS.ACK.LOG.tail.1.7001.3.1700000000.0"), place);
        assert_eq!(Place::parse("$JS.ACK._.hash.LOG.tail.1.7001.3.1700000000.0.token"), place);
        assert_eq!(Place::parse("$JS.ACK.LOG"), None);
        assert_eq!(Place::parse("_INBOX.x"), None);
    }

    #[test]
    fn cursors_may_have_any_name() {
        let names = Names::new(Uuid::from_u128(5));
        let cluster = Uuid::from_u128(5).simple();
        assert_eq!(names.cursor("b-of.another_n *"), format!("c.{cluster}.b-of=2eanother_n=20=2a"));
    }
}
