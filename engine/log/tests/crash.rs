//! What a crash, a failing disk or a hand in the files can do to a log, and what it cannot.

#![allow(clippy::unwrap_used, reason = "a test may panic")]
#![allow(clippy::cast_possible_truncation, reason = "numbers in tests are small")]

mod common;

use std::{fs::OpenOptions, os::unix::fs::FileExt, path::Path};

use common::*;
use stapes_core::{
    ids::Sequence,
    port::log::{AppendError, EventLog, ReadError},
};
use stapes_log::{OpenError, SegmentLog};

fn open(dir: &Path) -> Result<SegmentLog, OpenError> {
    SegmentLog::open(dir, SMALL)
}

fn truncate(path: &Path, length: usize) {
    OpenOptions::new().write(true).open(path).unwrap().set_len(length as u64).unwrap();
}

fn flip(path: &Path, byte: usize, bit: u8) {
    let file = OpenOptions::new().read(true).write(true).open(path).unwrap();
    let mut buffer = [0];
    file.read_exact_at(&mut buffer, byte as u64).unwrap();
    file.write_all_at(&[buffer[0] ^ (1 << bit)], byte as u64).unwrap();
}

/// Power fails while the last commits are written: any part of them may be missing. They were not
/// acknowledged, so the log may have them or not, but whole, and the ones before for sure.
#[tokio::test]
async fn a_torn_end_is_cut_at_a_commit() {
    let source = tempdir();
    let log = open(source.path()).unwrap();
    fill(&log, 0..5).await;
    drop(log);
    let acknowledged = copy(source.path());
    let segment = segments(source.path()).pop().unwrap();
    let name = segment.file_name().unwrap();
    let before = used(&segment);
    let log = open(source.path()).unwrap();
    fill(&log, 5..9).await;
    drop(log);
    let after = used(&segment);
    for length in before..=after {
        for truncated in [true, false] {
            // The marker of before: a power failure may lose its newest state.
            let crashed = copy(acknowledged.path());
            let torn = crashed.path().join(name);
            let mut bytes = std::fs::read(&segment).unwrap();
            if truncated {
                bytes.truncate(length);
            } else {
                bytes[length..].fill(0);
            }
            std::fs::write(&torn, bytes).unwrap();
            let log = open(crashed.path()).unwrap();
            assert_eq!(log.damage(), None);
            let commits = whole_commits(&everything(&log).await);
            assert!((5..=9).contains(&commits), "{commits} at {length}");
            // What is there once stays, and writing goes on behind it.
            fill(&log, commits..commits + 3).await;
            drop(log);
            let log = open(crashed.path()).unwrap();
            assert_eq!(whole_commits(&everything(&log).await), commits + 3);
            if length % 16 == 0 {
                streams_agree(&log).await;
            }
        }
    }
}

/// The same end cut off a log whose marker knows that it was there.
#[tokio::test]
async fn acknowledged_commits_are_never_cut_silently() {
    let source = tempdir();
    let log = open(source.path()).unwrap();
    fill(&log, 0..8).await;
    drop(log);
    let segment = segments(source.path()).pop().unwrap();
    let (name, end) = (segment.file_name().unwrap(), used(&segment));
    for length in (4096..end).step_by(3) {
        let crashed = copy(source.path());
        truncate(&crashed.path().join(name), length);
        match open(crashed.path()) {
            Err(OpenError::Regressed { marked, found, .. }) => assert!(found < marked),
            Ok(log) => is_read_only(&log).await,
            Err(other) => panic!("{other}"),
        }
    }
}

async fn is_read_only(log: &SegmentLog) {
    assert!(log.damage().is_some());
    let head = log.head().await.unwrap();
    let readable = log.read(Sequence(1), head.0 as usize).await.unwrap();
    assert!(whole_commits(&readable) < 8);
    let refused = log.append(commit(100)).await;
    assert!(matches!(refused, Err(AppendError::Corrupt(_))), "{refused:?}");
    let beyond = log.read(Sequence(1), usize::MAX).await;
    assert!(matches!(beyond, Err(ReadError::Corrupt(_))), "{beyond:?}");
}

/// A bit that changes anywhere in the segment in use is told; what lies before it can be read.
#[tokio::test]
async fn a_flipped_bit_is_never_skipped() {
    let source = tempdir();
    let log = open(source.path()).unwrap();
    fill(&log, 0..8).await;
    drop(log);
    let segment = segments(source.path()).pop().unwrap();
    let (name, end) = (segment.file_name().unwrap(), used(&segment));
    for byte in 4096..end {
        let damaged = copy(source.path());
        flip(&damaged.path().join(name), byte, (byte % 8) as u8);
        // Four bytes of a frame's header are reserved, and the checksum covers them too.
        let log = open(damaged.path()).unwrap();
        is_read_only(&log).await;
    }
    // Either copy of the header does.
    for byte in 0..4096 {
        let damaged = copy(source.path());
        flip(&damaged.path().join(name), byte, 3);
        let log = open(damaged.path()).unwrap();
        assert_eq!(whole_commits(&everything(&log).await), 8);
    }
}

/// In a segment that was sealed long ago damage shows when it is read, and ends the writing.
#[tokio::test]
async fn damage_in_an_old_segment_is_told_by_who_reads_it() {
    let source = tempdir();
    let log = open(source.path()).unwrap();
    fill(&log, 0..300).await;
    drop(log);
    let oldest = segments(source.path()).remove(0);
    for (round, byte) in (4096..used(&oldest)).step_by(331).enumerate() {
        let damaged = copy(source.path());
        flip(&damaged.path().join(oldest.file_name().unwrap()), byte, 5);
        if round % 2 == 1 {
            std::fs::remove_file(
                damaged.path().join(oldest.with_extension("idx").file_name().unwrap()),
            )
            .unwrap();
        }
        let log = match open(damaged.path()) {
            Ok(log) => log,
            Err(error) => panic!("{error}"),
        };
        let read = log.read(Sequence(1), usize::MAX).await;
        let sealed = matches!(read, Err(ReadError::Corrupt(_)));
        assert!(sealed, "the bit at {byte} was skipped: {read:?}");
        let refused = log.append(commit(1000)).await;
        assert!(matches!(refused, Err(AppendError::Corrupt(_))), "{refused:?}");
    }
}

/// Indexes are derived: without them, or with damaged ones, the log is the same.
#[tokio::test]
async fn indexes_are_built_again() {
    let source = tempdir();
    let log = open(source.path()).unwrap();
    fill(&log, 0..400).await;
    let records = everything(&log).await;
    drop(log);
    let indexes: Vec<_> = segments(source.path())
        .into_iter()
        .map(|segment| segment.with_extension("idx"))
        .filter(|index| index.exists())
        .collect();
    assert!(indexes.len() > 2);
    let index = indexes[1].file_name().unwrap();
    let length = std::fs::metadata(&indexes[1]).unwrap().len() as usize;
    for byte in (0..length).step_by(37) {
        let damaged = copy(source.path());
        flip(&damaged.path().join(index), byte, 1);
        let log = open(damaged.path()).unwrap();
        assert!(log.append(commit(150)).await.unwrap().duplicate, "a commit was forgotten");
        drop(log);
        std::fs::remove_file(damaged.path().join(index)).unwrap();
        let log = open(damaged.path()).unwrap();
        assert_eq!(everything(&log).await, records);
        streams_agree(&log).await;
    }
}

/// Files that are missing, doubled or swapped are told apart and named.
#[tokio::test]
async fn a_log_with_wrong_files_is_refused() {
    let source = tempdir();
    let log = open(source.path()).unwrap();
    fill(&log, 0..400).await;
    drop(log);
    let names: Vec<_> =
        segments(source.path()).iter().map(|path| path.file_name().unwrap().to_owned()).collect();
    assert!(names.len() >= 4);
    let refused = |change: &dyn Fn(&Path)| {
        let changed = copy(source.path());
        change(changed.path());
        open(changed.path()).expect_err("it is not the log any more")
    };
    let missing = refused(&|dir| std::fs::remove_file(dir.join(&names[1])).unwrap());
    assert!(matches!(missing, OpenError::Missing { .. }), "{missing}");
    let first = refused(&|dir| std::fs::remove_file(dir.join(&names[0])).unwrap());
    assert!(matches!(first, OpenError::Missing { from: Sequence(1), .. }), "{first}");
    let last = refused(&|dir| std::fs::remove_file(dir.join(names.last().unwrap())).unwrap());
    assert!(matches!(last, OpenError::Regressed { .. }), "{last}");
    let all = refused(&|dir| {
        for name in &names {
            std::fs::remove_file(dir.join(name)).unwrap();
        }
    });
    assert!(matches!(all, OpenError::Regressed { found: Sequence(0), .. }), "{all}");
    let swapped = refused(&|dir| {
        std::fs::rename(dir.join(&names[1]), dir.join("other")).unwrap();
        std::fs::rename(dir.join(&names[2]), dir.join(&names[1])).unwrap();
        std::fs::rename(dir.join("other"), dir.join(&names[2])).unwrap();
    });
    assert!(matches!(swapped, OpenError::Misplaced { .. }), "{swapped}");
    let doubled = refused(&|dir| {
        std::fs::copy(dir.join(&names[1]), dir.join("seg-00000000000000000003.log")).unwrap();
    });
    assert!(matches!(doubled, OpenError::Misplaced { .. }), "{doubled}");
    let cut = refused(&|dir| truncate(&dir.join(&names[1]), 9000));
    assert!(matches!(cut, OpenError::Truncated { .. }), "{cut}");
    let marker = refused(&|dir| {
        flip(&dir.join("head"), 20, 1);
        flip(&dir.join("head"), 4096 + 20, 1);
    });
    assert!(matches!(marker, OpenError::Marker { .. }), "{marker}");
}

/// A segment of another log does not pass, though its numbers fit.
#[tokio::test]
async fn a_segment_of_another_log_is_refused() {
    let (one, other) = (tempdir(), tempdir());
    for (dir, id_offset) in [(&one, 0), (&other, 7_000_000)] {
        let log = open(dir.path()).unwrap();
        for number in 0..400 {
            let id = id(number + id_offset);
            let commit = stapes_core::port::log::Commit { id, ..commit(number) };
            log.append(commit).await.unwrap();
        }
    }
    let (ones, others) = (segments(one.path()), segments(other.path()));
    assert_eq!(ones[1].file_name(), others[1].file_name());
    std::fs::copy(&others[1], &ones[1]).unwrap();
    let refused = open(one.path()).expect_err("it is of another log");
    assert!(matches!(refused, OpenError::Foreign { .. }), "{refused}");
}

#[tokio::test]
async fn a_second_opener_is_told_who_has_it() {
    let dir = tempdir();
    let log = open(dir.path()).unwrap();
    let refused = open(dir.path()).expect_err("it is open").to_string();
    assert!(refused.contains(&format!("pid {}", std::process::id())), "{refused}");
    drop(log);
    open(dir.path()).unwrap();
}

#[tokio::test]
async fn only_the_owner_can_read() {
    use std::os::unix::fs::PermissionsExt;
    let parent = tempdir();
    let dir = parent.path().join("log");
    std::fs::create_dir(&dir).unwrap();
    std::fs::set_permissions(&dir, PermissionsExt::from_mode(0o755)).unwrap();
    let log = open(&dir).unwrap();
    fill(&log, 0..300).await;
    log.set_cursor("a", Sequence(1)).await.unwrap();
    drop(log);
    assert_eq!(dir.metadata().unwrap().permissions().mode() & 0o777, 0o700);
    for entry in std::fs::read_dir(&dir).unwrap() {
        let entry = entry.unwrap();
        let mode = entry.metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o600, "{:?}", entry.path());
    }
}
