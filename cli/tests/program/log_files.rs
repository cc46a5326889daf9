//! `log export`, `log verify` and `log import` on the files of a real log, one that is in use.

use std::path::Path;

use crate::pretend::stapes;
use stapes_core::{
    ids::{CommitId, Revision, StreamId, StreamKind},
    port::log::{Commit, EventLog as _, Expected, Part},
};
use stapes_log::{Options, SegmentLog};

/// Appends `count` commits of one record each.
async fn append(log: &SegmentLog, from: u64, count: u64) {
    let stream = StreamId::derive(StreamKind::Instance, &["web"]);
    for revision in from..from + count {
        let part = Part {
            stream,
            expected: Expected::Exact(Revision(revision)),
            payload: format!("payload {revision}").into(),
        };
        let id = CommitId::derive(&[&revision.to_string()]);
        log.append(Commit { id, parts: vec![part] }).await.unwrap();
    }
}

fn run(dir: &Path, args: &[&str]) -> (Option<i32>, String) {
    let output = stapes(dir, args).output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8_lossy(&text).into_owned())
}

#[tokio::test]
async fn a_log_in_use_is_exported_verified_and_imported() {
    let home = tempfile::tempdir().unwrap();
    let log = SegmentLog::open(home.path().join("log"), Options::default()).unwrap();
    append(&log, 0, 20).await;
    let archive = home.path().join("backup");
    let archive = archive.to_str().unwrap();

    let (code, said) = run(home.path(), &["log", "export", archive]);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("20 records in 20 commits exported"), "{said}");

    append(&log, 20, 5).await;
    let (code, said) = run(home.path(), &["log", "export", archive]);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("5 records in 5 commits exported"), "{said}");

    let (code, said) = run(home.path(), &["log", "verify", archive]);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("head: 25") && said.contains("problems: []"), "{said}");
    let (code, said) = run(home.path(), &["audit", "verify"]);
    assert_eq!(code, Some(0), "{said}");

    // A daemon holds this log: nothing is imported into it.
    let (code, said) = run(home.path(), &["log", "import", archive]);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("stapes shutdown") && said.contains("Nothing was imported."), "{said}");

    let other = tempfile::tempdir().unwrap();
    let (code, said) = run(other.path(), &["log", "import", archive]);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("the log ends at seq 25"), "{said}");
    // The copy that the export worked on is gone.
    assert_eq!(std::fs::read_dir(home.path()).unwrap().count(), 2);
}

#[tokio::test]
async fn a_flipped_bit_is_found() {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join("log");
    let log = SegmentLog::open(&dir, Options::default()).unwrap();
    append(&log, 0, 20).await;
    drop(log);
    let segment = std::fs::read_dir(&dir)
        .unwrap()
        .flatten()
        .map(|entry| entry.path())
        .find(|path| path.extension().is_some_and(|ending| ending == "log"))
        .unwrap();
    let mut bytes = std::fs::read(&segment).unwrap();
    let place = bytes.windows(9).position(|window| window == b"payload 7").unwrap();
    bytes[place + 8] ^= 1;
    std::fs::write(&segment, bytes).unwrap();
    let (code, said) = run(home.path(), &["log", "verify"]);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("error[log-broken]"), "{said}");
}
