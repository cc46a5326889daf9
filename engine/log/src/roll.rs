//! From one segment to the next.

use std::{io, path::Path, sync::Arc};

use stapes_core::ids::Sequence;

use crate::{
    disk::Disk,
    frame::{Chain, HEADER_BYTES},
    index::{Identity, Ids, Tails},
    keeper::Spare,
    segment::{self, DATA_AT, Header},
    shared::{Lookup, Sealed, SegmentFile},
};

/// The first segment of a log is not larger than this, and each after it at most twice as large as
/// the one before: a young log is small and quick to make.
const FIRST_BYTES_MAX: u64 = 4 << 20;

/// How large the segment after `sealed` others is, with room for a frame of `frame` bytes.
pub(crate) fn size(segment_bytes: u64, sealed: usize, frame: usize) -> u64 {
    let doublings = u32::try_from(sealed.min(16)).expect("small");
    let grown = segment_bytes.min(FIRST_BYTES_MAX << doublings);
    let needed = u64::from(DATA_AT) + (frame + HEADER_BYTES) as u64;
    grown.max(needed.next_multiple_of(4096))
}

/// Turns the spare into the segment that begins with `first`. On the disk when it returns.
pub(crate) fn begin(
    disk: &dyn Disk,
    dir: &Path,
    spare: Spare,
    spare_path: &Path,
    first: Sequence,
    chain: Chain,
) -> io::Result<(SegmentFile, u64)> {
    let header = Header::new(first, chain);
    disk.write(&spare.file, &header.encode(), 0)?;
    disk.sync(&spare.file)?;
    let path = dir.join(segment::file_name(first));
    std::fs::rename(spare_path, &path)?;
    segment::sync_directory(dir)?;
    let segment = SegmentFile { file: Arc::new(spare.file), path, first, salt: header.salt };
    Ok((segment, spare.bytes))
}

pub(crate) fn sealed(
    segment: SegmentFile,
    identity: Identity,
    offsets: Vec<u32>,
    ids: Ids,
    tails: Tails,
) -> Sealed {
    Sealed { segment, identity, lookup: Lookup::Memory { offsets, ids, tails } }
}
