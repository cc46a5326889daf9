//! A disk that fails where it is told to, and what the log makes of it.

use std::{
    io,
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
};

use stapes_core::{
    ids::{CommitId, Revision, Sequence, StreamId, StreamKind},
    port::log::{AppendError, Commit, EventLog, Expected, Part},
};

use crate::{
    Options, SegmentLog,
    disk::{Disk, RealDisk},
    error::OpenError,
    open, verify,
};

const OPTIONS: Options = Options { segment_bytes: 16 << 10, recent_bytes: 1024, queue: 8 };

const SECTOR_BYTES: usize = 512;

#[derive(Debug, Default)]
struct FailingDisk {
    writes: Switch,
    syncs: Switch,
    /// A failing write leaves this much of itself, in bytes.
    torn_at: AtomicU32,
    /// A failing write leaves the sectors whose bits are set, in any order as disks do.
    sectors: AtomicU32,
    full: AtomicBool,
    /// Held by a test that wants writes to wait, and how many have come to it.
    gate: Mutex<()>,
    came: AtomicU32,
}

/// When something fails: after so many times, so many times.
#[derive(Debug)]
struct Switch {
    passes: AtomicU32,
    failures: AtomicU32,
}

impl Default for Switch {
    fn default() -> Self {
        Self { passes: AtomicU32::new(0), failures: AtomicU32::new(0) }
    }
}

const ALWAYS: u32 = u32::MAX;

impl Switch {
    fn fail(&self, after: u32, times: u32) {
        self.passes.store(after, Ordering::SeqCst);
        self.failures.store(times, Ordering::SeqCst);
    }

    fn passes(&self) -> bool {
        let one_less = |count: u32| count.checked_sub(1);
        let order = Ordering::SeqCst;
        self.passes.fetch_update(order, order, one_less).is_ok()
            || self.failures.fetch_update(order, order, one_less).is_err()
    }
}

impl Disk for FailingDisk {
    fn write(&self, file: &std::fs::File, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.came.fetch_add(1, Ordering::SeqCst);
        drop(self.gate.lock().unwrap());
        if self.writes.passes() {
            return RealDisk.write(file, bytes, offset);
        }
        let torn = bytes.len().min(self.torn_at.load(Ordering::SeqCst) as usize);
        RealDisk.write(file, &bytes[..torn], offset)?;
        let sectors = self.sectors.load(Ordering::SeqCst);
        for (number, sector) in bytes.chunks(SECTOR_BYTES).enumerate() {
            if number < 32 && sectors & (1 << number) != 0 {
                RealDisk.write(file, sector, offset + (number * SECTOR_BYTES) as u64)?;
            }
        }
        let full = self.full.load(Ordering::SeqCst);
        Err(if full { io::ErrorKind::StorageFull.into() } else { io::Error::other("EIO") })
    }

    fn sync(&self, file: &std::fs::File) -> io::Result<()> {
        if self.syncs.passes() { RealDisk.sync(file) } else { Err(io::Error::other("EIO")) }
    }

    fn reserve(&self, file: &std::fs::File, length: u64, stop: &AtomicBool) -> io::Result<()> {
        if self.full.load(Ordering::SeqCst) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        RealDisk.reserve(file, length, stop)
    }
}

fn open_on(disk: &Arc<FailingDisk>, dir: &Path) -> SegmentLog {
    open::open(dir, OPTIONS, disk.clone()).unwrap()
}

fn commit(number: u64) -> Commit {
    let part = Part {
        stream: StreamId::derive(StreamKind::Instance, &["one"]),
        expected: Expected::Exact(Revision(number)),
        payload: vec![7; 500].into(),
    };
    Commit { id: CommitId::derive(&[&number.to_string()]), parts: vec![part] }
}

async fn head(log: &SegmentLog) -> u64 {
    log.head().await.unwrap().0
}

/// After a failed sync nothing is written, what was acknowledged is read, and reopening tells.
#[tokio::test]
async fn a_failed_sync_ends_the_writing() {
    let (dir, disk) = (tempfile::tempdir().unwrap(), Arc::new(FailingDisk::default()));
    let log = open_on(&disk, dir.path());
    for number in 0..3 {
        log.append(commit(number)).await.unwrap();
    }
    disk.syncs.fail(0, ALWAYS);
    let unknown = log.append(commit(3)).await;
    assert!(matches!(unknown, Err(AppendError::OutcomeUnknown(_))), "{unknown:?}");
    // The disk is well again; the log does not believe it.
    disk.syncs.fail(0, 0);
    for number in [3, 4] {
        let refused = log.append(commit(number)).await;
        assert!(matches!(refused, Err(AppendError::Unavailable(_))), "{refused:?}");
    }
    assert_eq!(head(&log).await, 3);
    assert_eq!(log.read(Sequence(1), 10).await.unwrap().len(), 3);
    drop(log);
    // What the kernel shows of a failed sync is not on the disk before it was synced again.
    disk.syncs.fail(0, ALWAYS);
    let unsure = open::open(dir.path(), OPTIONS, disk.clone());
    assert!(matches!(unsure, Err(OpenError::Io { .. })), "{unsure:?}");
    disk.syncs.fail(0, 0);
    let log = open_on(&disk, dir.path());
    // The write had reached the file: the commit is there, once, and its id is known.
    let again = log.append(commit(3)).await.unwrap();
    assert_eq!((again.first, head(&log).await), (Sequence(4), 4));
}

/// A write that failed half way was never acknowledged; it is cut off by reopening.
#[tokio::test]
async fn a_torn_write_is_cut_by_reopening() {
    let (dir, disk) = (tempfile::tempdir().unwrap(), Arc::new(FailingDisk::default()));
    for torn_at in [0, 1, 40, 84, 200, 600] {
        let log = open_on(&disk, dir.path());
        let at = head(&log).await;
        log.append(commit(at)).await.unwrap();
        disk.torn_at.store(torn_at, Ordering::SeqCst);
        disk.writes.fail(0, ALWAYS);
        let unknown = log.append(commit(at + 1)).await;
        assert!(matches!(unknown, Err(AppendError::OutcomeUnknown(_))), "{unknown:?}");
        disk.writes.fail(0, 0);
        drop(log);
        let log = open_on(&disk, dir.path());
        assert_eq!((log.damage(), head(&log).await), (None, at + 1), "torn at {torn_at}");
        log.append(commit(at + 1)).await.unwrap();
    }
    assert_eq!(verify(dir.path()).unwrap().problems, []);
}

/// Failing at any write or sync of a change of segments loses nothing and leaves no wrong log.
#[tokio::test]
async fn changing_segments_can_fail_at_every_step() {
    for step in 0..6 {
        let (dir, disk) = (tempfile::tempdir().unwrap(), Arc::new(FailingDisk::default()));
        let log = open_on(&disk, dir.path());
        let mut acknowledged = 0;
        // As many as fit the first segment; the next changes it.
        while (acknowledged + 1) * 621 + 4096 + 84 <= OPTIONS.segment_bytes {
            log.append(commit(acknowledged)).await.unwrap();
            acknowledged += 1;
        }
        let switch = if step % 2 == 0 { &disk.writes } else { &disk.syncs };
        switch.fail(step / 2, ALWAYS);
        let mut number = acknowledged;
        while log.append(commit(number)).await.is_ok() {
            number += 1;
        }
        acknowledged = number;
        switch.fail(0, 0);
        drop(log);
        let log = open_on(&disk, dir.path());
        assert_eq!(log.damage(), None);
        let found = head(&log).await;
        assert!(found == acknowledged || found == acknowledged + 1, "{found} {acknowledged}");
        for number in found..found + 40 {
            log.append(commit(number)).await.unwrap();
        }
        drop(log);
        assert_eq!(verify(dir.path()).unwrap().problems, []);
    }
}

/// A full disk refuses what does not fit any more, and goes on when there is room.
#[tokio::test]
async fn a_full_disk_refuses_and_goes_on() {
    let (dir, disk) = (tempfile::tempdir().unwrap(), Arc::new(FailingDisk::default()));
    let log = open_on(&disk, dir.path());
    log.append(commit(0)).await.unwrap();
    for round in 0..3 {
        disk.full.store(true, Ordering::SeqCst);
        let refused = loop {
            match log.append(commit(head(&log).await)).await {
                Ok(_) => {}
                Err(refused) => break refused,
            }
        };
        assert!(matches!(refused, AppendError::Full(_)), "{refused:?}");
        let at = head(&log).await;
        assert_eq!(log.read(Sequence(1), usize::MAX).await.unwrap().len() as u64, at);
        if round == 1 {
            // Also over a restart.
            disk.full.store(false, Ordering::SeqCst);
            drop(log);
            let log = open_on(&disk, dir.path());
            assert_eq!(head(&log).await, at);
            log.append(commit(at)).await.unwrap();
            return assert_eq!(verify(dir.path()).unwrap().problems, []);
        }
        disk.full.store(false, Ordering::SeqCst);
        log.append(commit(at)).await.unwrap();
    }
}

/// A filesystem that copies on write can be full in the middle of a segment.
#[tokio::test]
async fn a_write_that_finds_no_room_leaves_nothing() {
    let (dir, disk) = (tempfile::tempdir().unwrap(), Arc::new(FailingDisk::default()));
    let log = open_on(&disk, dir.path());
    log.append(commit(0)).await.unwrap();
    disk.full.store(true, Ordering::SeqCst);
    disk.torn_at.store(10_000, Ordering::SeqCst);
    // The frame is there as a whole, the write failed all the same, and blanking it succeeds.
    disk.writes.fail(0, 1);
    let refused = log.append(commit(1)).await;
    assert!(matches!(refused, Err(AppendError::Full(_))), "{refused:?}");
    assert_eq!(head(&log).await, 1);
    let (crashed, well) = (tempfile::tempdir().unwrap(), Arc::new(FailingDisk::default()));
    for entry in std::fs::read_dir(dir.path()).unwrap() {
        let entry = entry.unwrap();
        match std::fs::copy(entry.path(), crashed.path().join(entry.file_name())) {
            // The next segment's file, which is being prepared and gets its name just now.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            copied => drop(copied.unwrap()),
        }
    }
    assert_eq!(head(&open_on(&well, crashed.path())).await, 1, "what was refused is not there");
    disk.full.store(false, Ordering::SeqCst);
    log.append(commit(1)).await.unwrap();
    // And when it cannot be blanked either, nobody knows.
    disk.full.store(true, Ordering::SeqCst);
    disk.writes.fail(0, ALWAYS);
    let unknown = log.append(commit(2)).await;
    assert!(matches!(unknown, Err(AppendError::OutcomeUnknown(_))), "{unknown:?}");
}

/// Power fails while several commits are written at once, and any of their sectors are there: later
/// commits whole and earlier ones not. None was acknowledged, so it is no damage.
#[tokio::test]
#[allow(clippy::await_holding_lock, reason = "it polls once, and nobody else runs on this thread")]
async fn a_torn_batch_is_no_damage() {
    for sectors in [0b1, 0b10, 0b1100, 0b1111_0000, 0b1111_1110, 0b1010_1010_1010, !0b100, !0] {
        let (dir, disk) = (tempfile::tempdir().unwrap(), Arc::new(FailingDisk::default()));
        let log = open_on(&disk, dir.path());
        for number in 0..3 {
            log.append(commit(number)).await.unwrap();
        }
        disk.sectors.store(sectors, Ordering::SeqCst);
        // The first goes alone, while the others queue for the batch that fails.
        disk.writes.fail(1, ALWAYS);
        let gate = disk.gate.lock().unwrap();
        let came = disk.came.load(Ordering::SeqCst);
        let mut first = log.append(commit(3));
        assert!(futures::poll!(&mut first).is_pending());
        while disk.came.load(Ordering::SeqCst) == came {
            std::thread::yield_now();
        }
        let mut others = futures::future::join_all((4..10).map(|n| log.append(commit(n))));
        assert!(futures::poll!(&mut others).is_pending());
        drop(gate);
        first.await.unwrap();
        let unknown = |answer: &_| matches!(answer, Err(AppendError::OutcomeUnknown(_)));
        assert!(others.await.iter().all(unknown));
        let acknowledged = 4;
        drop(log);
        let well = Arc::new(FailingDisk::default());
        let log = open_on(&well, dir.path());
        assert_eq!(log.damage(), None, "sectors {sectors:b}");
        let found = head(&log).await;
        assert!((acknowledged..=10).contains(&found), "{found} of {acknowledged}");
        log.append(commit(found)).await.unwrap();
        drop(log);
        assert_eq!(verify(dir.path()).unwrap().problems, []);
    }
}
