//! What the log costs beside the disk's own price.
//!
//! `cargo run --release -p stapes-log --example log_bench [DIRECTORY] [RECORDS]`
//!
//! Without records it measures the latency of one append only.

#![allow(clippy::print_stdout, reason = "the figures are what it is for")]
#![allow(clippy::unwrap_used, reason = "a benchmark may panic")]
#![allow(clippy::cast_possible_truncation, reason = "an index of a share of a list")]

use std::{
    fs::File,
    os::unix::fs::FileExt,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use futures::StreamExt;
use stapes_core::{
    ids::{CommitId, Revision, Sequence, StreamId, StreamKind},
    port::log::{Commit, EventLog, Expected, Followed, Part},
};
use stapes_log::{Options, SegmentLog};
use uuid::Uuid;

const PAYLOAD_BYTES: usize = 256;
/// A commit of one such record on the disk.
const FRAME_BYTES: usize = PAYLOAD_BYTES + 121;
const ROUNDS: u64 = 80;
const PER_ROUND: u64 = 50;

fn commit(stream: u64, revision: u64) -> Commit {
    Commit {
        id: CommitId(Uuid::new_v4()),
        parts: vec![Part {
            stream: StreamId::new(StreamKind::Instance, Uuid::from_u64_pair(7, stream)),
            expected: Expected::Exact(Revision(revision)),
            payload: Bytes::from_static(&[42; PAYLOAD_BYTES]),
        }],
    }
}

/// The disk alone: a write into a file of zeros and a sync, as large as a commit.
struct Bare {
    file: File,
    at: u64,
}

impl Bare {
    const FILE_BYTES: usize = 8 << 20;

    fn new(dir: &Path) -> Self {
        let file = File::create_new(dir.join("bare")).unwrap();
        file.write_all_at(&vec![0; Self::FILE_BYTES], 0).unwrap();
        file.sync_all().unwrap();
        Self { file, at: 0 }
    }

    fn write(&mut self) {
        self.file.write_all_at(&[42; FRAME_BYTES], self.at).unwrap();
        self.file.sync_data().unwrap();
        self.at += FRAME_BYTES as u64;
    }
}

fn show(what: &str, times: &mut [Duration]) -> f64 {
    times.sort_unstable();
    let at = |share: f64| times[(times.len() as f64 * share) as usize].as_secs_f64() * 1e6;
    println!("{what:<28} p50 {:>7.1} us   p99 {:>7.1} us", at(0.5), at(0.99));
    at(0.5)
}

/// One writer, one commit at a time, in turns with the bare disk.
async fn latency(dir: &Path) {
    let log = SegmentLog::open(dir.join("one"), Options::default()).unwrap();
    let mut bare = Bare::new(dir);
    let (mut bare_times, mut append_times) = (Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        for _ in 0..PER_ROUND {
            let start = Instant::now();
            bare.write();
            bare_times.push(start.elapsed());
        }
        for number in 0..PER_ROUND {
            let commit = commit(0, round * PER_ROUND + number);
            let start = Instant::now();
            log.append(commit).await.unwrap();
            append_times.push(start.elapsed());
        }
    }
    let bare = show("bare write + fdatasync", &mut bare_times);
    let append = show("one durable append", &mut append_times);
    println!("{:<28} {:.2}", "ratio of the two p50", append / bare);
}

/// Many writers, each on a stream of its own, one commit at a time.
async fn throughput(log: &Arc<SegmentLog>, writers: u64, records: u64) {
    let start = Instant::now();
    let base = log.head().await.unwrap().0;
    let tasks: Vec<_> = (0..writers)
        .map(|writer| {
            let log = log.clone();
            tokio::spawn(async move {
                for number in 0..records / writers {
                    log.append(commit(base + writer + 1, number)).await.unwrap();
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    let rate = records as f64 / start.elapsed().as_secs_f64();
    println!("{:<28} {rate:>9.0} appends/s", format!("{writers} writers"));
}

async fn replay(log: &SegmentLog) {
    let start = Instant::now();
    let (mut records, mut bytes) = (0, 0);
    let mut follower = log.follow(Sequence(0)).await.unwrap();
    while let Followed::Records(batch) = follower.next().await.unwrap().unwrap() {
        records += batch.len();
        bytes += batch.iter().map(|record| record.payload.len()).sum::<usize>();
    }
    let took = start.elapsed().as_secs_f64();
    println!(
        "{:<28} {:>9.0} records/s ({records} records, {:.0} MiB of payload)",
        "replay",
        records as f64 / took,
        bytes as f64 / f64::from(1 << 20)
    );
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    let mut arguments = std::env::args().skip(1);
    let parent = arguments.next().unwrap_or_else(|| ".".to_owned());
    let records: u64 = arguments.next().map_or(1_000_000, |count| count.parse().unwrap());
    let temporary = tempfile::tempdir_in(parent).unwrap();
    let dir = temporary.path();
    latency(dir).await;
    if records == 0 {
        return;
    }
    let many = dir.join("many");
    let start = Instant::now();
    let log = Arc::new(SegmentLog::open(&many, Options::default()).unwrap());
    println!("{:<28} {:>9.1} ms", "a new log", start.elapsed().as_secs_f64() * 1e3);
    for _ in 0..3 {
        throughput(&log, 64, 100_000).await;
    }
    let left = records.saturating_sub(log.head().await.unwrap().0);
    throughput(&log, 256, left / 256 * 256).await;
    replay(&log).await;
    drop(log);
    let start = Instant::now();
    let log = SegmentLog::open(&many, Options::default()).unwrap();
    let took = start.elapsed().as_secs_f64() * 1e3;
    println!("{:<28} {took:>9.1} ms ({} records)", "opening again", log.head().await.unwrap());
    replay(&log).await;
}
