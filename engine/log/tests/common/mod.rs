//! What the tests of the embedded log share.

#![allow(clippy::unwrap_used, reason = "a test may panic")]
#![allow(clippy::cast_possible_truncation, reason = "numbers in tests are small")]
#![allow(unreachable_pub, reason = "a module of each test")]
#![allow(dead_code, reason = "each test uses its part")]

use std::path::{Path, PathBuf};

use stapes_core::{
    ids::{CommitId, Revision, Sequence, StreamId, StreamKind},
    port::log::{Commit, EventLog, Expected, Part, Stored},
};
use stapes_log::{Options, SegmentLog};
use uuid::Uuid;

/// Small enough that a few commits fill a segment.
pub const SMALL: Options = Options { segment_bytes: 16 << 10, recent_bytes: 2048, queue: 64 };

pub fn stream(number: u128) -> StreamId {
    StreamId::new(StreamKind::Instance, Uuid::from_u128(number))
}

pub fn id(number: u64) -> CommitId {
    CommitId::derive(&[&number.to_string()])
}

/// The commit number `number`: one to three records, which `number` alone decides.
pub fn commit(number: u64) -> Commit {
    let part = |offset: u64| Part {
        stream: stream(u128::from((number + offset) % 7)),
        expected: Expected::Any,
        payload: format!("{number} {offset} {}", "x".repeat(number as usize % 97)).into(),
    };
    Commit { id: id(number), parts: (0..=number % 3).map(part).collect() }
}

/// Appends the commits `numbers` one by one.
pub async fn fill(log: &SegmentLog, numbers: std::ops::Range<u64>) {
    for number in numbers {
        log.append(commit(number)).await.unwrap();
    }
}

pub async fn everything(log: &SegmentLog) -> Vec<Stored> {
    log.read(Sequence(1), usize::MAX).await.unwrap()
}

/// The log holds the commits `0..` in order, whole; tells how many.
pub fn whole_commits(records: &[Stored]) -> u64 {
    let mut number = 0;
    let mut rest = records;
    while !rest.is_empty() {
        let parts = commit(number).parts;
        let (these, others) = rest.split_at(parts.len());
        for (stored, part) in these.iter().zip(&parts) {
            assert_eq!((stored.commit, stored.stream), (id(number), part.stream));
            assert_eq!(stored.payload, part.payload);
        }
        rest = others;
        number += 1;
    }
    number
}

/// Each stream's revisions as `read_stream` tells them are those of the whole log.
pub async fn streams_agree(log: &SegmentLog) {
    let records = everything(log).await;
    for stream in (0..7).map(stream) {
        let own: Vec<_> = records.iter().filter(|r| r.stream == stream).cloned().collect();
        assert_eq!(log.read_stream(stream, Revision(0)).await.unwrap(), own);
    }
}

pub fn segments(dir: &Path) -> Vec<PathBuf> {
    let mut found: Vec<_> = std::fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "log"))
        .collect();
    found.sort();
    found
}

/// A directory in memory where there is one: these tests open logs by the thousand, and a crash is
/// made by what is in the files, not by pulling a plug.
pub fn tempdir() -> tempfile::TempDir {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() }.unwrap()
}

/// A copy of the log's files, as a crash at this moment would leave them.
pub fn copy(from: &Path) -> tempfile::TempDir {
    let to = tempdir();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), to.path().join(entry.file_name())).unwrap();
    }
    to
}

/// How many bytes of the file are not the zeros at its end.
pub fn used(path: &Path) -> usize {
    let bytes = std::fs::read(path).unwrap();
    bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1)
}
