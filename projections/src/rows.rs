//! The rows of the index: their keys, and what a run of records adds.
//!
//! | key | value |
//! |---|---|
//! | `B` last sequence | a block: the entries of consecutive records, compressed |
//! | `S` stream, last sequence | where the entries of one stream are in a run of records |
//! | `N` kind, scope, name, sequence | who held the name from then on |
//! | `O` first sequence | an operation |
//! | `T` time | the last sequence up to which nothing is later |
//! | `C` sequence, part | a checkpoint of the state |
//! | `P` | the position: all that is above holds the log up to here |
//!
//! Blocks keep the number of rows low, which is what sled's speed depends on.

use std::{collections::BTreeMap, sync::Arc};

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use stapes_core::{
    event::Event,
    ids::{Sequence, StreamId},
    name::{self, Name, NameKind},
    record::Digest,
};
use uuid::Uuid;

use crate::{
    feed::Entry,
    store::{Batch, Damaged, Key, Span},
    told::Told,
};

/// Records of one block at most.
const BLOCK_RECORDS: usize = 256;

/// How far the index holds the log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Position {
    pub(crate) sequence: Sequence,
    /// Of the record there: whether it is the same log is seen by it.
    pub(crate) digest: Option<Digest>,
    /// The latest time of all records up to there.
    pub(crate) latest: Option<DateTime<Utc>>,
}

/// Where an entry is: the record, and the place in it.
pub(crate) type Place = (Sequence, u16);

pub(crate) fn encode<T: Serialize>(value: &T) -> Vec<u8> {
    // Encoding to memory fails only for types that MessagePack lacks, and these have none.
    rmp_serde::to_vec_named(value).expect("a row is encodable")
}

pub(crate) fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Damaged> {
    rmp_serde::from_slice(bytes).map_err(|error| Damaged(format!("a row is unreadable: {error}")))
}

pub(crate) fn unpack(bytes: &[u8]) -> Result<Vec<u8>, Damaged> {
    lz4_flex::decompress_size_prepended(bytes)
        .map_err(|error| Damaged(format!("a block is unreadable: {error}")))
}

pub(crate) fn position() -> Key {
    b"P".to_vec()
}

fn key(letter: u8, parts: &[&[u8]]) -> Key {
    let mut key = vec![letter];
    parts.iter().for_each(|part| key.extend(*part));
    key
}

fn big(sequence: Sequence) -> [u8; 8] {
    sequence.0.to_be_bytes()
}

/// The sequence that a key ends with.
pub(crate) fn sequence_of(key: &[u8]) -> Result<Sequence, Damaged> {
    let last = key.last_chunk::<8>().ok_or_else(|| Damaged("a key is too short".to_owned()))?;
    Ok(Sequence(u64::from_be_bytes(*last)))
}

fn block(last: Sequence) -> Key {
    key(b'B', &[&big(last)])
}

/// The blocks from the one that holds `sequence` on.
pub(crate) fn blocks_from(sequence: Sequence) -> Span {
    Span { from: block(sequence), to: vec![b'B' + 1] }
}

fn of_stream(stream: StreamId) -> Key {
    key(b'S', &[&[stream.kind as u8], stream.id.as_bytes()])
}

/// A stream's postings before `before`, and one that may go beyond it.
pub(crate) fn postings(stream: StreamId) -> Span {
    Span::prefix(&of_stream(stream))
}

fn of_name(kind: NameKind, scope: Uuid, name: &str) -> Key {
    let kind = format!("{kind:?}");
    key(b'N', &[kind.as_bytes(), &[0], scope.as_bytes(), name.as_bytes(), &[0]])
}

pub(crate) fn holders(kind: NameKind, scope: Uuid, name: &str) -> Span {
    Span::prefix(&of_name(kind, scope, name))
}

pub(crate) fn operation(first: Sequence) -> Key {
    key(b'O', &[&big(first)])
}

/// Operations that began before `before`.
pub(crate) fn operations(before: Sequence) -> Span {
    Span { from: vec![b'O'], to: operation(before) }
}

fn time(time: DateTime<Utc>) -> Key {
    // Flipping the sign's bit makes the order of the bytes that of the times.
    let micros = time.timestamp_micros().cast_unsigned() ^ (1 << 63);
    key(b'T', &[&micros.to_be_bytes()])
}

/// The marks up to a time.
pub(crate) fn marks_until(until: DateTime<Utc>) -> Span {
    let mut to = time(until);
    to.push(0);
    Span { from: vec![b'T'], to }
}

pub(crate) fn checkpoint(sequence: Sequence, part: u32) -> Key {
    key(b'C', &[&part.to_be_bytes(), &big(sequence)])
}

/// The first parts of all checkpoints up to `until`.
pub(crate) fn checkpoints(until: Sequence) -> Span {
    Span { from: checkpoint(Sequence(0), 0), to: checkpoint(until.next(), 0) }
}

/// What a run of records adds, with the position after it.
pub(crate) fn of_run(told: &[Arc<Told>], position: &mut Position) -> Batch {
    let mut batch = Batch::default();
    let mut streams: BTreeMap<StreamId, Vec<Place>> = BTreeMap::new();
    for run in told.chunks(BLOCK_RECORDS) {
        let Some(last) = run.last() else { continue };
        let entries: Vec<&Entry> = run.iter().flat_map(|told| &told.entries).collect();
        if !entries.is_empty() {
            let packed = lz4_flex::compress_prepend_size(&encode(&entries));
            batch.put(block(last.recorded.sequence), packed);
        }
        for told in run {
            of_record(told, position, &mut batch, &mut streams);
        }
    }
    for (stream, places) in streams {
        let Some((last, _)) = places.last() else { continue };
        let mut key = of_stream(stream);
        key.extend(big(*last));
        batch.put(key, encode(&places));
    }
    batch.put(self::position(), encode(position));
    batch
}

fn of_record(
    told: &Told,
    position: &mut Position,
    batch: &mut Batch,
    streams: &mut BTreeMap<StreamId, Vec<Place>>,
) {
    let recorded = &told.recorded;
    let sequence = recorded.sequence;
    for entry in &told.entries {
        for stream in std::iter::once(&entry.subject.stream).chain(&entry.also) {
            streams.entry(*stream).or_default().push((sequence, entry.index));
        }
    }
    for event in recorded.record.events() {
        let Event::Name(event) = event else { continue };
        let (Name { kind, scope, name }, holder) = match event {
            name::Event::Reserved { name, holder, .. } => (name, Some(*holder)),
            name::Event::Released { name } => (name, None),
        };
        let mut key = of_name(*kind, *scope, name);
        key.extend(big(sequence));
        batch.put(key, encode(&holder));
    }
    if let Some(view) = &told.operation {
        batch.put(operation(view.first), encode(view));
    }
    let latest = position.latest.max(Some(recorded.record.time));
    // Only the last mark of a time is kept: it is the same row.
    if let Some(latest) = latest {
        let new = position.latest.is_none_or(|known| known.timestamp() != latest.timestamp());
        if new && let Some(known) = position.latest {
            batch.put(time(known), encode(&position.sequence));
        }
    }
    *position = Position { sequence, digest: Some(recorded.digest), latest };
}
