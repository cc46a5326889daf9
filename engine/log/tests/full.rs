//! A disk that is really full: a small filesystem in a mount namespace of its own.

#![allow(clippy::unwrap_used, reason = "a test may panic")]
#![allow(clippy::cast_possible_truncation, reason = "numbers in tests are small")]

mod common;

use std::{path::Path, process::Command};

use common::*;
use stapes_core::port::log::{AppendError, EventLog};
use stapes_log::{Options, SegmentLog, verify};

const DIRECTORY: &str = "STAPES_LOG_FULL_IN";
const OPTIONS: Options = Options { segment_bytes: 64 << 10, recent_bytes: 4096, queue: 16 };
/// Of the log there is room for some segments, of this file for a few more when it goes.
const BALLAST_BYTES: usize = 300 << 10;

/// Not a test of its own: what is run in the namespace, which takes the mount with it.
#[tokio::test]
async fn inside() {
    let Ok(dir) = std::env::var(DIRECTORY) else { return };
    let mounted = Command::new("mount")
        .args(["-t", "tmpfs", "-o", "size=800k", "stapes-log-test", &dir])
        .status()
        .unwrap();
    assert!(mounted.success());
    let (log_dir, ballast) = (Path::new(&dir).join("log"), Path::new(&dir).join("ballast"));
    std::fs::write(&ballast, vec![1; BALLAST_BYTES]).unwrap();
    let log = SegmentLog::open(&log_dir, OPTIONS).unwrap();
    let acknowledged = fill_up(&log, 0).await;
    assert!(acknowledged > 100, "{acknowledged}");
    // As often as one likes.
    assert_eq!(fill_up(&log, acknowledged).await, acknowledged);
    assert_eq!(whole_commits(&everything(&log).await), acknowledged);
    streams_agree(&log).await;
    // Over a restart on the full disk too.
    drop(log);
    let log = SegmentLog::open(&log_dir, OPTIONS).unwrap();
    assert_eq!(whole_commits(&everything(&log).await), acknowledged);
    assert_eq!(fill_up(&log, acknowledged).await, acknowledged);
    // Room again: it goes on by itself.
    std::fs::remove_file(&ballast).unwrap();
    let more = fill_up(&log, acknowledged).await;
    assert!(more > acknowledged + 100, "{more}");
    drop(log);
    let report = verify(&log_dir).unwrap();
    assert_eq!((report.problems, report.commits), (vec![], more));
}

/// Appends the commits from `number` on until the disk is full; tells the first that was refused.
async fn fill_up(log: &SegmentLog, mut number: u64) -> u64 {
    loop {
        match log.append(commit(number)).await {
            Ok(appended) => assert!(!appended.duplicate),
            Err(AppendError::Full(_)) => return number,
            Err(other) => panic!("{other:?}"),
        }
        number += 1;
    }
}

#[test]
fn a_full_disk_refuses_cleanly() {
    let mounts = || std::fs::read_to_string("/proc/self/mounts").unwrap();
    let before = mounts();
    let dir = tempfile::tempdir().unwrap();
    let status = Command::new("unshare")
        .args(["--mount", "--propagation", "private"])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "inside", "--nocapture"])
        .env(DIRECTORY, dir.path())
        .status()
        .unwrap();
    assert!(status.success());
    assert_eq!(mounts(), before);
}
