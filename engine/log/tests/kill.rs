//! A process that writes is killed at any moment; what it was told is durable, is.

#![allow(clippy::unwrap_used, reason = "a test may panic")]
#![allow(clippy::cast_possible_truncation, reason = "numbers in tests are small")]
#![allow(clippy::print_stdout, reason = "how the child tells what was acknowledged")]

mod common;

use std::{
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Child, Command, Stdio},
    sync::Arc,
    time::Duration,
};

use common::*;
use stapes_core::{
    ids::Sequence,
    port::log::{Appended, EventLog},
};
use stapes_log::{Options, SegmentLog, verify};

const DIRECTORY: &str = "STAPES_LOG_KILLED_IN";
const FIRST: &str = "STAPES_LOG_KILLED_FROM";
const WRITERS: u64 = 4;
const KILLS: u64 = 25;
/// Large enough that the roll takes a moment, small enough that it happens often.
const OPTIONS: Options = Options { segment_bytes: 64 << 10, recent_bytes: 4096, queue: 16 };

/// Not a test of its own: the process that is killed. It appends for ever and tells what it was
/// answered.
#[test]
fn child() {
    let (Ok(dir), Ok(first)) = (std::env::var(DIRECTORY), std::env::var(FIRST)) else { return };
    let first: u64 = first.parse().unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let log = Arc::new(SegmentLog::open(dir, OPTIONS).unwrap());
        let writers: Vec<_> = (0..WRITERS)
            .map(|writer| {
                let log = log.clone();
                tokio::spawn(async move {
                    for number in 0.. {
                        let number = first + number * WRITERS + writer;
                        let Appended { first, .. } = log.append(commit(number)).await.unwrap();
                        let mut stdout = std::io::stdout().lock();
                        // A parent that is gone wants no more.
                        if writeln!(stdout, "acknowledged {number} {first}").is_err() {
                            return;
                        }
                    }
                })
            })
            .collect();
        for writer in writers {
            writer.await.unwrap();
        }
    });
}

/// Kills what is left of a test that failed.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Lets a child write until it has told `lines`, waits a moment more and kills it. Tells all that
/// it was answered.
fn write_and_kill(dir: &Path, first: u64, lines: usize, moment: Duration) -> Vec<(u64, Sequence)> {
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child", "--nocapture"])
        .env(DIRECTORY, dir)
        .env(FIRST, first.to_string())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut child = Killed(child);
    let mut told = BufReader::new(child.0.stdout.take().unwrap());
    let mut answers = Vec::new();
    let mut line = String::new();
    let mut killed = false;
    loop {
        line.clear();
        if told.read_line(&mut line).unwrap() == 0 {
            return answers;
        }
        // The last line may be torn: then it was not told.
        if let Some(answer) = line.strip_suffix('\n').and_then(|l| l.strip_prefix("acknowledged "))
        {
            let (number, at) = answer.split_once(' ').unwrap();
            answers.push((number.parse().unwrap(), Sequence(at.parse().unwrap())));
        }
        if answers.len() >= lines && !killed {
            std::thread::sleep(moment);
            child.0.kill().unwrap();
            killed = true;
        }
    }
}

#[test]
fn what_was_acknowledged_survives_every_kill() {
    let dir = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let mut acknowledged = Vec::new();
    for kill in 0..KILLS {
        // Spread over where in a batch and in a segment the end comes, the opening included.
        let (lines, moment) =
            ((kill * 37 % 211) as usize, Duration::from_micros(kill * 619 % 4001));
        acknowledged.extend(write_and_kill(dir.path(), kill * 1_000_000, lines, moment));
        let report = verify(dir.path()).unwrap();
        let log = SegmentLog::open(dir.path(), OPTIONS).unwrap();
        assert_eq!(log.damage(), None, "{:?}", report.problems);
        let records = runtime.block_on(everything(&log));
        for (number, first) in &acknowledged {
            let commit = commit(*number);
            let start = first.0 as usize - 1;
            let stored = &records[start..start + commit.parts.len()];
            for (stored, part) in stored.iter().zip(&commit.parts) {
                assert_eq!((stored.commit, &stored.payload), (commit.id, &part.payload));
            }
            assert!(stored.last().unwrap().last_in_commit);
        }
        // Known after the crash too.
        if let Some((number, first)) = acknowledged.last() {
            let again = runtime.block_on(log.append(commit(*number))).unwrap();
            assert!(again.duplicate && again.first == *first);
        }
        drop(log);
        assert_eq!(verify(dir.path()).unwrap().problems, []);
    }
    assert!(acknowledged.len() > KILLS as usize, "nothing was written");
}
