//! Any log is exported to segment files, which are verified, opened and imported as the same log.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::{os::unix::fs::FileExt, path::Path};

use common::*;
use stapes_core::{
    ids::Sequence,
    port::log::{EventLog, MemoryLog},
};
use stapes_log::{ExportError, ImportError, Range, SegmentLog, export, import, verify};

async fn fill_any(log: &dyn EventLog, numbers: std::ops::Range<u64>) {
    for number in numbers {
        log.append(commit(number)).await.unwrap();
    }
}

async fn read(log: &dyn EventLog) -> Vec<stapes_core::port::log::Stored> {
    log.read(Sequence(1), usize::MAX).await.unwrap()
}

fn sound(dir: &Path) -> stapes_log::Report {
    let report = verify(dir).unwrap();
    assert_eq!(report.problems, []);
    report
}

/// A log in memory, archived, opened as an embedded log, archived again: the same records and hash.
#[tokio::test]
async fn an_archive_is_the_log() {
    let memory = MemoryLog::default();
    fill_any(&memory, 0..200).await;
    let (first, second) = (tempdir(), tempdir());
    let exported = export(&memory, first.path(), Range::default()).await.unwrap();
    let report = sound(first.path());
    assert_eq!((exported.records, exported.commits), (report.records, report.commits));
    assert_eq!((exported.commits, report.streams, report.first), (200, 7, Sequence(1)));
    assert_eq!((&exported.hash, exported.head), (&report.hash, report.head));

    let opened = SegmentLog::open(first.path(), SMALL).unwrap();
    assert_eq!(read(&opened).await, read(&memory).await);
    streams_agree(&opened).await;
    let again = export(&opened, second.path(), Range::default()).await.unwrap();
    assert_eq!(again.hash, exported.hash, "the hash does not depend on how segments are cut");
    fill_any(&opened, 200..210).await;
    drop(opened);
    assert_eq!(sound(first.path()).commits, 210);
}

/// An archive grows by what is new, and its hash is that of a whole export.
#[tokio::test]
async fn an_archive_is_continued() {
    let memory = MemoryLog::default();
    let dir = tempdir();
    for end in [0, 50, 50, 51, 120] {
        let begin = whole_commits(&read(&memory).await);
        fill_any(&memory, begin..end).await;
        let exported = export(&memory, dir.path(), Range::default()).await.unwrap();
        assert_eq!(exported.commits, end - begin);
        assert_eq!(exported.head, memory.head().await.unwrap());
    }
    let whole = tempdir();
    let exported = export(&memory, whole.path(), Range::default()).await.unwrap();
    assert_eq!(exported.hash, sound(dir.path()).hash);
    let wrong = Range { from: Some(Sequence(3)), to: None };
    let refused = export(&memory, dir.path(), wrong).await;
    assert!(matches!(refused, Err(ExportError::Elsewhere { .. })), "{refused:?}");
}

/// Two parts in two directories are imported one after the other, and only in that order.
#[tokio::test]
async fn parts_join() {
    let memory = MemoryLog::default();
    fill_any(&memory, 0..100).await;
    let (first, second, wrong) = (tempdir(), tempdir(), tempdir());
    // Commit number 50 has three records; the range ends inside it, so it is left out.
    let fifty = read(&memory).await.iter().find(|r| r.commit == id(50)).unwrap().sequence;
    let range = Range { from: None, to: Some(fifty.next()) };
    let one = export(&memory, first.path(), range).await.unwrap();
    assert_eq!((one.commits, one.head.next()), (50, fifty));
    let inside = Range { from: Some(fifty.next()), to: None };
    let refused = export(&memory, wrong.path(), inside).await;
    assert!(matches!(refused, Err(ExportError::InsideACommit(_))), "{refused:?}");
    let rest = Range { from: Some(fifty), to: None };
    let two = export(&memory, second.path(), rest).await.unwrap();
    assert_eq!((two.commits, sound(second.path()).first), (50, fifty));
    fill_any(&memory, 100..110).await;
    let more = export(&memory, second.path(), Range::default()).await.unwrap();
    assert_eq!((more.commits, sound(second.path()).commits), (10, 60));

    let other = MemoryLog::default();
    let refused = import(second.path(), &other).await;
    assert!(matches!(refused, Err(ImportError::Gap { .. })), "{refused:?}");
    assert_eq!(import(first.path(), &other).await.unwrap().commits, 50);
    assert_eq!(import(second.path(), &other).await.unwrap().commits, 60);
    assert_eq!(read(&other).await, read(&memory).await);
}

/// An import can be repeated and goes on where it was interrupted; into another log it is refused.
#[tokio::test]
async fn an_import_lands_at_the_same_place_or_not_at_all() {
    let memory = MemoryLog::default();
    fill_any(&memory, 0..60).await;
    let (dir, target) = (tempdir(), tempdir());
    export(&memory, dir.path(), Range::default()).await.unwrap();
    let begun = SegmentLog::open(target.path(), SMALL).unwrap();
    fill(&begun, 0..20).await;
    assert_eq!(import(dir.path(), &begun).await.unwrap().commits, 40);
    assert_eq!(import(dir.path(), &begun).await.unwrap().commits, 0);
    assert_eq!(read(&begun).await, read(&memory).await);
    let other = MemoryLog::default();
    fill_any(&other, 500..501).await;
    let before = read(&other).await;
    let refused = import(dir.path(), &other).await;
    assert!(matches!(refused, Err(ImportError::Different(_))), "{refused:?}");
    assert_eq!(read(&other).await, before);
}

/// Every changed bit of an archive is found, and such an archive is not imported.
#[tokio::test]
async fn damage_is_found() {
    let memory = MemoryLog::default();
    fill_any(&memory, 0..12).await;
    let dir = tempdir();
    export(&memory, dir.path(), Range::default()).await.unwrap();
    let segment = segments(dir.path()).remove(0);
    let bytes = std::fs::read(&segment).unwrap();
    for (byte, value) in bytes.iter().enumerate().skip(4096) {
        let damaged = copy(dir.path());
        let path = damaged.path().join(segment.file_name().unwrap());
        let file = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
        file.write_all_at(&[value ^ 16], byte as u64).unwrap();
        assert!(!verify(damaged.path()).unwrap().problems.is_empty(), "byte {byte}");
        if byte % 64 == 0 {
            let target = MemoryLog::default();
            let refused = import(damaged.path(), &target).await;
            assert!(matches!(refused, Err(ImportError::Damaged { .. })), "{refused:?}");
            assert_eq!(target.head().await.unwrap(), Sequence(0));
        }
    }
}

/// A log in use can be verified and archived while it is written.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_in_use_is_sound() {
    let (dir, archive) = (tempdir(), tempdir());
    let log = std::sync::Arc::new(SegmentLog::open(dir.path(), SMALL).unwrap());
    let writer = {
        let log = log.clone();
        tokio::spawn(async move { fill(&log, 0..400).await })
    };
    while !writer.is_finished() {
        let dir = dir.path().to_owned();
        tokio::task::spawn_blocking(move || sound(&dir)).await.unwrap();
        export(&*log, archive.path(), Range::default()).await.unwrap();
    }
    writer.await.unwrap();
    export(&*log, archive.path(), Range::default()).await.unwrap();
    assert_eq!(sound(archive.path()).hash, sound(dir.path()).hash);
    let refused = export(&*log, dir.path(), Range::default()).await;
    assert!(matches!(refused, Err(ExportError::Archive(_))), "{refused:?}");
}
