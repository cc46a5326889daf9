//! A frame: one commit as it lies in a segment, written whole and checked whole.
//!
//! ```text
//!  0 magic 4 | crc32c 4 | body length 4 | offset 4 | batch 4 | reserved 4
//! 24 chain 32
//! 56 first sequence 8 | commit 16 | records 4           ┐ chained: the same bytes in every
//! 84 body: kind 1, id 16, revision 8, previous 8,       │ segment, export and mirror of this log
//!          length 4, payload ... for each record        ┘
//! ```
//!
//! The checksum is seeded with the segment's salt, a random number, so that neither a payload that
//! looks like a frame nor a stale block of an earlier file passes for one. `offset` is where the
//! frame lies and `batch` where the write began that it was part of: what lay before `batch` was
//! durable when the frame was written, which tells a torn write from damage. `previous` is the
//! sequence of the stream's record before, so that a stream is read backwards without an index.
//!
//! The chain is BLAKE3 keyed with the chain before, over the chained bytes. A record that was
//! changed, removed or moved changes every chain after it.
//!
//! A frame without records is the seal: the segment ends here, on purpose.

use stapes_core::{
    ids::{CommitId, Revision, Sequence, StreamId, StreamKind},
    port::log::{COMMIT_BYTES_MAX, PARTS_MAX},
};
use uuid::Uuid;

const MAGIC: u32 = u32::from_le_bytes(*b"SFr1");
pub(crate) const HEADER_BYTES: usize = 84;
const RECORD_HEADER_BYTES: usize = 37;
const CHAINED_AT: usize = 56;
/// No frame is larger.
pub(crate) const FRAME_BYTES_MAX: usize =
    HEADER_BYTES + PARTS_MAX * RECORD_HEADER_BYTES + COMMIT_BYTES_MAX;

/// The hash of the log up to a commit.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Chain(pub [u8; 32]);

impl Chain {
    /// The chain of the empty log.
    pub(crate) fn genesis() -> Self {
        Self(*blake3::hash(b"stapes log, version 1").as_bytes())
    }

    fn next(self, chained: &[u8]) -> Self {
        Self(*blake3::keyed_hash(&self.0, chained).as_bytes())
    }
}

impl std::fmt::Debug for Chain {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Display::fmt(self, f)
    }
}

impl std::fmt::Display for Chain {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// Where in which segment a frame is written.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    pub salt: u64,
    pub offset: u32,
    pub batch: u32,
}

/// One record on its way into a frame, or out of it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Record<'a> {
    pub stream: StreamId,
    pub revision: Revision,
    /// The stream's record before; zero for the first.
    pub previous: Sequence,
    pub payload: &'a [u8],
}

/// The bytes of a frame whose records have these payloads.
pub(crate) fn size_of(payloads: impl Iterator<Item = usize>) -> usize {
    payloads.fold(HEADER_BYTES, |size, payload| size + RECORD_HEADER_BYTES + payload)
}

/// Writes frames after each other, each chained to the one before.
pub(crate) fn encode<'a>(
    out: &mut Vec<u8>,
    place: Place,
    chain: Chain,
    first: Sequence,
    commit: CommitId,
    records: impl Iterator<Item = Record<'a>>,
) -> Chain {
    let start = out.len();
    out.resize(start + CHAINED_AT, 0);
    out.extend_from_slice(&first.0.to_le_bytes());
    out.extend_from_slice(commit.0.as_bytes());
    out.extend_from_slice(&[0; 4]);
    let mut count = 0u32;
    for record in records {
        count += 1;
        out.push(record.stream.kind as u8);
        out.extend_from_slice(record.stream.id.as_bytes());
        out.extend_from_slice(&record.revision.0.to_le_bytes());
        out.extend_from_slice(&record.previous.0.to_le_bytes());
        out.extend_from_slice(&length32(record.payload.len()).to_le_bytes());
        out.extend_from_slice(record.payload);
    }
    let frame = &mut out[start..];
    frame[80..84].copy_from_slice(&count.to_le_bytes());
    // The seal repeats the chain: segments may be cut differently, the log is the same.
    let chain = if count == 0 { chain } else { chain.next(&frame[CHAINED_AT..]) };
    frame[0..4].copy_from_slice(&MAGIC.to_le_bytes());
    let length = length32(frame.len() - HEADER_BYTES);
    frame[8..12].copy_from_slice(&length.to_le_bytes());
    frame[12..16].copy_from_slice(&place.offset.to_le_bytes());
    frame[16..20].copy_from_slice(&place.batch.to_le_bytes());
    frame[24..56].copy_from_slice(&chain.0);
    let checksum = checksum(place.salt, frame);
    frame[4..8].copy_from_slice(&checksum.to_le_bytes());
    chain
}

/// Writes the frame that ends a segment after the record `last`.
pub(crate) fn encode_seal(out: &mut Vec<u8>, place: Place, chain: Chain, last: Sequence) {
    encode(out, place, chain, last.next(), CommitId(Uuid::nil()), std::iter::empty());
}

fn checksum(salt: u64, frame: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&salt.to_le_bytes()), &frame[8..])
}

fn length32(length: usize) -> u32 {
    u32::try_from(length).expect("a commit has at most a few MiB")
}

/// Why bytes are not a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BadFrame {
    #[error("the frame goes on after the end of the bytes: it has {0}")]
    Short(usize),
    #[error("no frame begins here")]
    Magic,
    #[error("the frame's length is impossible")]
    Length,
    #[error("the frame was written for another place")]
    Place,
    #[error("the checksum does not match")]
    Checksum,
    #[error("a record in the frame has a shape that was never written")]
    Record,
    #[error("the frame's sequence does not follow the one before")]
    Sequence,
    #[error("the frame's hash does not follow from the one before")]
    Chain,
}

/// A frame as read, its checksum verified.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Frame<'a> {
    bytes: &'a [u8],
    pub first: Sequence,
    pub commit: CommitId,
    pub records: u32,
    pub batch: u32,
    pub chain: Chain,
}

impl<'a> Frame<'a> {
    /// The frame at the beginning of `bytes`, which lie at `offset` of the segment with `salt`.
    pub(crate) fn parse(bytes: &'a [u8], salt: u64, offset: u32) -> Result<Self, BadFrame> {
        if bytes.len() < HEADER_BYTES {
            return Err(BadFrame::Short(HEADER_BYTES));
        }
        if u32_at(bytes, 0) != MAGIC {
            return Err(BadFrame::Magic);
        }
        if u32_at(bytes, 12) != offset {
            return Err(BadFrame::Place);
        }
        let size = HEADER_BYTES + u32_at(bytes, 8) as usize;
        if size > FRAME_BYTES_MAX {
            return Err(BadFrame::Length);
        }
        let Some(bytes) = bytes.get(..size) else { return Err(BadFrame::Short(size)) };
        if checksum(salt, bytes) != u32_at(bytes, 4) {
            return Err(BadFrame::Checksum);
        }
        Ok(Self {
            bytes,
            first: Sequence(u64_at(bytes, CHAINED_AT)),
            commit: CommitId(uuid_at(bytes, 64)),
            records: u32_at(bytes, 80),
            batch: u32_at(bytes, 16),
            chain: Chain(bytes[24..56].try_into().expect("32 bytes")),
        })
    }

    pub(crate) fn size(&self) -> u32 {
        length32(self.bytes.len())
    }

    pub(crate) fn is_seal(&self) -> bool {
        self.records == 0
    }

    /// The last sequence; before the first for a seal.
    pub(crate) fn last(&self) -> Sequence {
        Sequence(self.first.0 + u64::from(self.records) - 1)
    }

    pub(crate) fn follows(&self, chain: Chain) -> bool {
        let expected = if self.is_seal() { chain } else { chain.next(&self.bytes[CHAINED_AT..]) };
        expected == self.chain
    }

    /// The records, and where in the frame each payload lies.
    pub(crate) fn records(&self) -> Records<'a> {
        Records { bytes: self.bytes, at: HEADER_BYTES, left: self.records }
    }
}

/// The records of a frame in order. Ends early with an error when they do not fill the frame.
pub(crate) struct Records<'a> {
    bytes: &'a [u8],
    at: usize,
    left: u32,
}

impl<'a> Iterator for Records<'a> {
    type Item = Result<(Record<'a>, std::ops::Range<usize>), BadFrame>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.left == 0 {
            let all = self.at == self.bytes.len();
            self.at = self.bytes.len();
            return (!all).then_some(Err(BadFrame::Record));
        }
        self.left -= 1;
        let item = self.record();
        if item.is_err() {
            (self.left, self.at) = (0, self.bytes.len());
        }
        Some(item)
    }
}

impl<'a> Records<'a> {
    fn record(&mut self) -> Result<(Record<'a>, std::ops::Range<usize>), BadFrame> {
        let header = self.bytes.get(self.at..self.at + RECORD_HEADER_BYTES);
        let header = header.ok_or(BadFrame::Record)?;
        let start = self.at + RECORD_HEADER_BYTES;
        let range = start..start + u32_at(header, 33) as usize;
        let payload = self.bytes.get(range.clone()).ok_or(BadFrame::Record)?;
        let kind = StreamKind::from_byte(header[0]).ok_or(BadFrame::Record)?;
        let record = Record {
            stream: StreamId { kind, id: uuid_at(header, 1) },
            revision: Revision(u64_at(header, 17)),
            previous: Sequence(u64_at(header, 25)),
            payload,
        };
        self.at = range.end;
        Ok((record, range))
    }
}

pub(crate) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("4 bytes"))
}

pub(crate) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("8 bytes"))
}

pub(crate) fn uuid_at(bytes: &[u8], at: usize) -> Uuid {
    Uuid::from_bytes(bytes[at..at + 16].try_into().expect("16 bytes"))
}

/// Where after `from` a valid frame begins, and where the write began that it was part of.
pub(crate) fn find_frame(bytes: &[u8], salt: u64, from: usize) -> Option<(u32, u32)> {
    let magic = MAGIC.to_le_bytes();
    let mut at = from;
    while let Some(found) = bytes.get(at..)?.windows(4).position(|window| window == magic) {
        at += found;
        let offset = u32::try_from(at).ok()?;
        if let Ok(frame) = Frame::parse(&bytes[at..], salt, offset) {
            return Some((offset, frame.batch));
        }
        at += 1;
    }
    None
}
