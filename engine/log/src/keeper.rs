//! What can be done beside the writing: the next segment's file, and the indexes of sealed ones.
//!
//! The spare segment lies ready, full of zeros, before the one in use is full. So a full disk is
//! noticed when the segment changes, never in the middle of a commit.

use std::{
    fs::File,
    io,
    path::PathBuf,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
};

use crate::{
    disk::Disk,
    index::IndexFile,
    segment,
    shared::{Lookup, Sealed, Shared},
};

pub(crate) const SPARE_NAME: &str = "spare";
const TAKEN_NAME: &str = "taken.new";

/// The next segment's file, as yet without a header.
#[derive(Debug)]
pub(crate) struct Spare {
    pub file: File,
    pub bytes: u64,
}

/// Where the spare is made and taken, one at a time.
#[derive(Debug)]
pub(crate) struct Spares {
    dir: PathBuf,
    disk: Arc<dyn Disk>,
    /// Held while a spare is made, so that who needs one waits for it instead of making another.
    ready: Mutex<Option<Spare>>,
    stop: AtomicBool,
}

impl Spares {
    pub(crate) fn new(dir: PathBuf, disk: Arc<dyn Disk>, ready: Option<Spare>) -> Self {
        Self { dir, disk, ready: Mutex::new(ready), stop: AtomicBool::new(false) }
    }

    fn path(&self) -> PathBuf {
        self.dir.join(SPARE_NAME)
    }

    /// Where a spare that was taken lies until it is renamed to what it becomes.
    pub(crate) fn taken_path(&self) -> PathBuf {
        self.dir.join(TAKEN_NAME)
    }

    /// Has a spare of at least `bytes` ready.
    pub(crate) fn prepare(&self, bytes: u64) -> io::Result<()> {
        let mut ready = self.ready.lock().expect("no holder panics");
        if ready.as_ref().is_none_or(|spare| spare.bytes < bytes) {
            *ready = None;
            *ready = Some(self.make(bytes)?);
        }
        Ok(())
    }

    /// Takes the spare out of here, to [`Spares::taken_path`]. It has at least `bytes`.
    pub(crate) fn take(&self, bytes: u64) -> io::Result<Spare> {
        let mut ready = self.ready.lock().expect("no holder panics");
        let spare = match ready.take() {
            Some(spare) if spare.bytes >= bytes => spare,
            Some(_) | None => self.make(bytes)?,
        };
        // Out of the way of the next spare, before anybody can make it.
        std::fs::rename(self.path(), self.taken_path())?;
        Ok(spare)
    }

    fn make(&self, bytes: u64) -> io::Result<Spare> {
        let temporary = self.dir.join(format!("{SPARE_NAME}.new"));
        let file = segment::private().create(true).truncate(true).open(&temporary)?;
        let made = self.disk.reserve(&file, bytes, &self.stop).and_then(|()| {
            std::fs::rename(&temporary, self.path())?;
            Ok(Spare { file, bytes })
        });
        if made.is_err() {
            // What could not be made whole must not keep the room that others need.
            let _ = std::fs::remove_file(&temporary);
        }
        made
    }

    pub(crate) fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

pub(crate) enum Chore {
    /// Have a spare of so many bytes ready.
    Spare(u64),
    /// Write the index of this segment and drop it from memory.
    Index(Arc<Sealed>),
}

/// Does what it is told until nobody is left to tell it.
pub(crate) fn run(chores: &mpsc::Receiver<Chore>, spares: &Spares, shared: &Shared) {
    for chore in chores {
        match chore {
            Chore::Spare(bytes) => {
                if let Err(error) = spares.prepare(bytes)
                    && error.kind() != io::ErrorKind::Interrupted
                {
                    tracing::warn!(%error, bytes, "the log has no spare segment yet");
                }
            }
            Chore::Index(sealed) => {
                if let Err(error) = write_index(&sealed, shared) {
                    let path = sealed.segment.path.display();
                    tracing::warn!(%error, segment = %path, "its index stays in memory");
                }
            }
        }
    }
}

fn write_index(sealed: &Sealed, shared: &Shared) -> io::Result<()> {
    let Lookup::Memory { offsets, ids, tails } = &sealed.lookup else { return Ok(()) };
    let path = sealed.segment.path.with_extension("idx");
    let index = IndexFile::write(&path, sealed.identity, offsets, ids, tails)?;
    let (segment, identity) = (sealed.segment.clone(), sealed.identity);
    let written = Arc::new(Sealed { segment, identity, lookup: Lookup::Disk(index) });
    let mut published = shared.write();
    let position = published.sealed.iter().position(|other| other.identity == sealed.identity);
    if let Some(position) = position {
        let mut all = Vec::clone(&published.sealed);
        all[position] = written;
        published.sealed = Arc::new(all);
    }
    Ok(())
}
