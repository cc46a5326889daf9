//! The index of a sealed segment: where each record lies, which commits there are, and where each
//! stream ends.
//!
//! It is derived: an index file that is missing or damaged is built again from its segment. Only
//! the filter over the ids is kept in memory; the rest is read when it is asked for.
//!
//! ```text
//! header 128 | offsets 4 a record | ids 28 a commit, sorted | filter | tails 33 a stream
//! ```

use std::{collections::HashMap, fs::File, io, os::unix::fs::FileExt, path::Path};

use stapes_core::ids::{CommitId, Revision, Sequence, StreamId, StreamKind};

use crate::{
    filter::Filter,
    frame::{Chain, Frame, u32_at, u64_at, uuid_at},
    segment,
};

const MAGIC: [u8; 8] = *b"STAPESIX";
const HEADER_BYTES: usize = 128;
const ID_BYTES: usize = 28;
const TAIL_BYTES: usize = 33;

/// Where a stream ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tail {
    pub revision: Revision,
    pub sequence: Sequence,
}

/// Where a commit lies: its first sequence and how many records it has.
pub(crate) type Place = (Sequence, u32);
pub(crate) type Ids = HashMap<CommitId, Place>;
pub(crate) type Tails = HashMap<StreamId, Tail>;

/// What there is to know about a segment, in memory.
#[derive(Debug, Default)]
pub(crate) struct Index {
    /// Of each record's frame, by sequence.
    pub offsets: Vec<u32>,
    pub ids: Ids,
    pub tails: Tails,
}

impl Index {
    /// Takes in a frame that was found at `offset`.
    pub(crate) fn add(&mut self, frame: &Frame<'_>, offset: u32) {
        self.ids.insert(frame.commit, (frame.first, frame.records));
        let mut sequence = frame.first;
        for (record, _) in frame.records().flatten() {
            self.offsets.push(offset);
            self.tails.insert(record.stream, Tail { revision: record.revision, sequence });
            sequence = sequence.next();
        }
    }
}

/// Which segment an index belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    pub first: Sequence,
    pub salt: u64,
    /// Where the seal lies.
    pub end: u32,
    /// The hash of the log after the segment.
    pub chain: Chain,
    pub records: u64,
}

/// An index on the disk.
#[derive(Debug)]
pub(crate) struct IndexFile {
    file: File,
    filter: Filter,
    ids_at: u64,
    ids_bytes: usize,
    ids_checksum: u32,
}

/// Sections of an index file, as its header tells.
struct Layout {
    identity: Identity,
    ids: u64,
    filter_bytes: u64,
    tails: u64,
    ids_checksum: u32,
    rest_checksum: u32,
}

impl Layout {
    fn encode(&self) -> [u8; HEADER_BYTES] {
        let mut header = [0; HEADER_BYTES];
        header[..8].copy_from_slice(&MAGIC);
        header[8..16].copy_from_slice(&self.identity.first.0.to_le_bytes());
        header[16..24].copy_from_slice(&self.identity.salt.to_le_bytes());
        header[24..28].copy_from_slice(&self.identity.end.to_le_bytes());
        header[32..64].copy_from_slice(&self.identity.chain.0);
        header[64..72].copy_from_slice(&self.identity.records.to_le_bytes());
        header[72..80].copy_from_slice(&self.ids.to_le_bytes());
        header[80..88].copy_from_slice(&self.filter_bytes.to_le_bytes());
        header[88..96].copy_from_slice(&self.tails.to_le_bytes());
        header[96..100].copy_from_slice(&self.ids_checksum.to_le_bytes());
        header[100..104].copy_from_slice(&self.rest_checksum.to_le_bytes());
        let checksum = crc32c::crc32c(&header[..124]);
        header[124..].copy_from_slice(&checksum.to_le_bytes());
        header
    }

    fn parse(header: &[u8]) -> Option<Self> {
        let whole = header.len() == HEADER_BYTES
            && header[..8] == MAGIC
            && crc32c::crc32c(&header[..124]) == u32_at(header, 124);
        whole.then(|| Self {
            identity: Identity {
                first: Sequence(u64_at(header, 8)),
                salt: u64_at(header, 16),
                end: u32_at(header, 24),
                chain: Chain(header[32..64].try_into().expect("32 bytes")),
                records: u64_at(header, 64),
            },
            ids: u64_at(header, 72),
            filter_bytes: u64_at(header, 80),
            tails: u64_at(header, 88),
            ids_checksum: u32_at(header, 96),
            rest_checksum: u32_at(header, 100),
        })
    }
}

impl IndexFile {
    /// Writes the index of the segment `identity`. Not synced: it can be built again.
    pub(crate) fn write(
        path: &Path,
        identity: Identity,
        offsets: &[u32],
        ids: &Ids,
        tails: &Tails,
    ) -> io::Result<Self> {
        let mut sorted: Vec<_> = ids.iter().collect();
        sorted.sort_unstable_by_key(|(id, _)| **id);
        let filter = Filter::new(ids.len(), ids.keys());
        let mut id_bytes = Vec::with_capacity(ids.len() * ID_BYTES);
        for (id, (first, records)) in sorted {
            id_bytes.extend_from_slice(id.0.as_bytes());
            id_bytes.extend_from_slice(&first.0.to_le_bytes());
            id_bytes.extend_from_slice(&records.to_le_bytes());
        }
        let mut rest = filter.to_bytes();
        let filter_bytes = rest.len() as u64;
        for (stream, tail) in tails {
            rest.push(stream.kind as u8);
            rest.extend_from_slice(stream.id.as_bytes());
            rest.extend_from_slice(&tail.revision.0.to_le_bytes());
            rest.extend_from_slice(&tail.sequence.0.to_le_bytes());
        }
        let layout = Layout {
            identity,
            ids: ids.len() as u64,
            filter_bytes,
            tails: tails.len() as u64,
            ids_checksum: crc32c::crc32c(&id_bytes),
            rest_checksum: crc32c::crc32c(&rest),
        };
        let mut bytes = layout.encode().to_vec();
        bytes.extend(offsets.iter().flat_map(|offset| offset.to_le_bytes()));
        let ids_at = bytes.len() as u64;
        bytes.extend_from_slice(&id_bytes);
        bytes.extend_from_slice(&rest);
        let temporary = path.with_extension("idx.new");
        let file = segment::private().create(true).truncate(true).open(&temporary)?;
        file.write_all_at(&bytes, 0)?;
        std::fs::rename(&temporary, path)?;
        let (ids_bytes, ids_checksum) = (id_bytes.len(), layout.ids_checksum);
        Ok(Self { file, filter, ids_at, ids_bytes, ids_checksum })
    }

    /// The index at `path`, whose segment it is, and the tails in it. `None` when there is none, or
    /// none that can be trusted.
    pub(crate) fn open(path: &Path) -> io::Result<Option<(Self, Identity, Tails)>> {
        let file = match segment::private().open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let mut header = Vec::new();
        segment::read_up_to(&file, &mut header, 0, HEADER_BYTES)?;
        let Some(layout) = Layout::parse(&header) else { return Ok(None) };
        let size = |count: u64, each: usize| usize::try_from(count).map(|count| count * each);
        let (Ok(ids_bytes), Ok(filter_bytes), Ok(tails_bytes)) = (
            size(layout.ids, ID_BYTES),
            size(layout.filter_bytes, 1),
            size(layout.tails, TAIL_BYTES),
        ) else {
            return Ok(None);
        };
        let ids_at = HEADER_BYTES as u64 + layout.identity.records * 4;
        let mut rest = Vec::new();
        let rest_at = ids_at + ids_bytes as u64;
        segment::read_up_to(&file, &mut rest, rest_at, filter_bytes + tails_bytes)?;
        if rest.len() != filter_bytes + tails_bytes || crc32c::crc32c(&rest) != layout.rest_checksum
        {
            return Ok(None);
        }
        let (filter, tails) = rest.split_at(filter_bytes);
        let (Some(filter), Some(tails)) = (Filter::from_bytes(filter), parse_tails(tails)) else {
            return Ok(None);
        };
        let ids_checksum = layout.ids_checksum;
        Ok(Some((Self { file, filter, ids_at, ids_bytes, ids_checksum }, layout.identity, tails)))
    }

    /// The offset of the frame that holds the segment's record number `index`, from zero.
    pub(crate) fn offset(&self, index: u64) -> io::Result<u32> {
        let mut bytes = [0; 4];
        self.file.read_exact_at(&mut bytes, HEADER_BYTES as u64 + index * 4)?;
        Ok(u32::from_le_bytes(bytes))
    }

    /// Whether the commit is certainly not in the segment.
    pub(crate) fn lacks(&self, id: CommitId) -> bool {
        !self.filter.may_hold(id)
    }

    /// Where the commit lies. An error of kind `InvalidData` when the ids are damaged.
    pub(crate) fn find(&self, id: CommitId) -> io::Result<Option<Place>> {
        if !self.filter.may_hold(id) {
            return Ok(None);
        }
        // Read whole, for its checksum. The filter lets hardly anybody come here who is not in it.
        let mut bytes = Vec::new();
        segment::read_up_to(&self.file, &mut bytes, self.ids_at, self.ids_bytes)?;
        if bytes.len() != self.ids_bytes || crc32c::crc32c(&bytes) != self.ids_checksum {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "an index is damaged"));
        }
        let (ids, _) = bytes.as_chunks::<ID_BYTES>();
        let found = ids.binary_search_by_key(&id.0, |entry| uuid_at(entry, 0)).ok();
        Ok(found.map(|at| (Sequence(u64_at(&ids[at], 16)), u32_at(&ids[at], 24))))
    }
}

fn parse_tails(bytes: &[u8]) -> Option<Tails> {
    let (tails, _) = bytes.as_chunks::<TAIL_BYTES>();
    let tail = |bytes: &[u8; TAIL_BYTES]| {
        let stream = StreamId { kind: StreamKind::from_byte(bytes[0])?, id: uuid_at(bytes, 1) };
        let (revision, sequence) = (Revision(u64_at(bytes, 17)), Sequence(u64_at(bytes, 25)));
        Some((stream, Tail { revision, sequence }))
    };
    tails.iter().map(tail).collect()
}
