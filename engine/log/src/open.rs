//! From files to a log that runs: lock, recover, begin a segment if there is none, start the
//! threads.

use std::{
    io,
    path::Path,
    sync::{Arc, mpsc as chores},
    thread::{Builder, JoinHandle},
};

use stapes_core::ids::Sequence;
use tokio::sync::{mpsc, watch};

use crate::{
    Options, SegmentLog, Writing,
    cursors::Cursors,
    disk::Disk,
    error::OpenError,
    index::Index,
    keeper::{self, Chore, Spare, Spares},
    lock,
    marker::{self, Mark, Marker},
    recover::{self, Found, Last, Open},
    roll,
    segment::{self, DATA_AT},
    shared::{Published, Recent, Shared},
    writer::{End, Writer},
};

const SEGMENT_BYTES: std::ops::RangeInclusive<u64> = (16 << 10)..=(1 << 30);

pub(crate) fn open(
    dir: &Path,
    options: Options,
    disk: Arc<dyn Disk>,
) -> Result<SegmentLog, OpenError> {
    if !SEGMENT_BYTES.contains(&options.segment_bytes) {
        return Err(OpenError::Options("a segment has between 16 KiB and 1 GiB"));
    }
    if options.queue == 0 {
        return Err(OpenError::Options("the queue has room for at least one append"));
    }
    lock::own_directory(dir)?;
    let lock = lock::lock(dir)?;
    remove_unfinished(dir).map_err(OpenError::io("cannot tidy up", dir))?;
    let known = open_marker(dir)?;
    let mark = known.as_ref().map(|(_, mark)| *mark);
    let found = recover::recover(dir, &*disk, mark)?;
    let cursors = Cursors::open(dir).map_err(OpenError::io("cannot open the cursors in", dir))?;
    let spare = existing_spare(dir).map_err(OpenError::io("cannot open the spare in", dir))?;
    let spares = Arc::new(Spares::new(dir.to_owned(), disk.clone(), spare));
    let (found, open, damage) = settle(dir, options, &*disk, &spares, found)?;
    let mark = Mark {
        sequence: Sequence(found.next.0 - 1),
        segment: open.segment.first,
        offset: open.end,
        chain: found.chain,
    };
    let marker = match known {
        Some((marker, _)) => marker,
        None => Marker::create(dir, &mark).map_err(OpenError::io("cannot make `head` in", dir))?,
    };
    let sequence = mark.sequence;
    let read_only = damage.is_some();
    let Index { offsets, ids, tails } = open.index;
    let end = End {
        segment: open.segment.clone(),
        capacity: open.capacity,
        offset: open.end,
        next: found.next,
        chain: found.chain,
        ids,
        tails,
    };
    let published = Published {
        head: sequence,
        sealed: Arc::new(found.sealed),
        active: open.segment,
        end: open.end,
        offsets,
        tails: found.tails,
        recent: Recent::new(options.recent_bytes),
    };
    let shared = Arc::new(Shared::new(published, damage));
    let head = watch::Sender::new(sequence);
    let mut log = SegmentLog {
        dir: dir.to_owned(),
        shared: shared.clone(),
        head: head.clone(),
        cursors,
        writing: None,
        _lock: lock,
    };
    if !read_only {
        let (sender, receiver) = chores::channel();
        let (dir, segment_bytes) = (dir.to_owned(), options.segment_bytes);
        let writer = Writer {
            shared,
            head,
            disk,
            dir,
            marker,
            spares: spares.clone(),
            chores: sender,
            segment_bytes,
            end,
        };
        log.writing = Some(start(writer, receiver, spares, options)?);
    }
    Ok(log)
}

/// The segment that is written to, made now if the log has none, and what is damaged.
fn settle(
    dir: &Path,
    options: Options,
    disk: &dyn Disk,
    spares: &Spares,
    mut found: Found,
) -> Result<(Found, Open, Option<String>), OpenError> {
    match std::mem::replace(&mut found.last, Last::Sealed) {
        Last::Open(open) => Ok((found, open, None)),
        Last::Damaged(open, damage) => Ok((found, open, Some(damage))),
        Last::Sealed => {
            let bytes = roll::size(options.segment_bytes, found.sealed.len(), 0);
            let begun = spares.take(bytes).and_then(|spare| {
                roll::begin(disk, dir, spare, &spares.taken_path(), found.next, found.chain)
            });
            let (segment, capacity) =
                begun.map_err(OpenError::io("cannot make a segment in", dir))?;
            let open = Open { segment, end: DATA_AT, capacity, index: Index::default() };
            Ok((found, open, None))
        }
    }
}

fn start(
    writer: Writer,
    chores: chores::Receiver<Chore>,
    spares: Arc<Spares>,
    options: Options,
) -> Result<Writing, OpenError> {
    let dir = writer.dir.clone();
    let failed = || OpenError::io("cannot start a thread for", &dir);
    let next = roll::size(options.segment_bytes, writer.shared.read().sealed.len() + 1, 0);
    // The receiver is here: the chore is taken.
    let _ = writer.chores.send(Chore::Spare(next));
    let (queue, requests) = mpsc::channel(options.queue);
    let (kept, shared) = (spares.clone(), writer.shared.clone());
    let keeper =
        spawn("log-keeper", move || keeper::run(&chores, &kept, &shared)).map_err(failed())?;
    let writer = spawn("log-writer", move || writer.run(requests)).map_err(failed())?;
    Ok(Writing { queue, writer, keeper, spares })
}

fn spawn(name: &str, run: impl FnOnce() + Send + 'static) -> io::Result<JoinHandle<()>> {
    Builder::new().name(name.to_owned()).spawn(run)
}

fn open_marker(dir: &Path) -> Result<Option<(Marker, Mark)>, OpenError> {
    let path = dir.join(marker::FILE_NAME);
    match Marker::open(dir) {
        Ok(known) => {
            let segments = segment::list(dir).map_err(OpenError::io("cannot list", dir))?;
            if known.is_none() && !segments.is_empty() {
                tracing::warn!(path = %path.display(), "missing: the log is taken as it is");
            }
            Ok(known)
        }
        Err(error) if error.kind() == io::ErrorKind::InvalidData => Err(OpenError::Marker { path }),
        Err(error) => Err(OpenError::io("cannot read", path)(error)),
    }
}

/// Files that a crash left unfinished.
fn remove_unfinished(dir: &Path) -> io::Result<()> {
    for entry in std::fs::read_dir(dir)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "new") {
            std::fs::remove_file(path)?;
        }
    }
    Ok(())
}

fn existing_spare(dir: &Path) -> io::Result<Option<Spare>> {
    match segment::private().open(dir.join(keeper::SPARE_NAME)) {
        Ok(file) => {
            let bytes = file.metadata()?.len();
            Ok(Some(Spare { file, bytes }))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}
