//! The embedded log keeps the laws of the port, whatever the size of its segments.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use stapes_core::port::log::{EventLog, laws};
use stapes_log::{Options, SegmentLog};
use tempfile::TempDir;

/// Each log in a directory of its own, which a log takes with it over reopening.
struct OnDisk {
    options: Options,
    dirs: Mutex<Vec<TempDir>>,
}

#[async_trait]
impl laws::Maker for OnDisk {
    async fn fresh(&self) -> Arc<dyn EventLog> {
        let dir = tempfile::tempdir().unwrap();
        let log = SegmentLog::open(dir.path(), self.options).unwrap();
        self.dirs.lock().unwrap().push(dir);
        Arc::new(log)
    }

    async fn reopen(&self, log: Arc<dyn EventLog>) -> Option<Arc<dyn EventLog>> {
        drop(log);
        let dirs = self.dirs.lock().unwrap();
        let dir = dirs.last().expect("a log was made before");
        Some(Arc::new(SegmentLog::open(dir.path(), self.options).unwrap()))
    }
}

async fn keeps_the_laws(options: Options) {
    laws::all(&OnDisk { options, dirs: Mutex::default() }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_one_segment() {
    keeps_the_laws(Options::default()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_many_segments_and_little_memory() {
    keeps_the_laws(Options { segment_bytes: 64 << 10, recent_bytes: 4096, queue: 2 }).await;
}

#[tokio::test]
async fn on_one_thread() {
    keeps_the_laws(Options { segment_bytes: 16 << 10, recent_bytes: 0, queue: 64 }).await;
}
