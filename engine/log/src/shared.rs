//! What the writer has published and every reader sees: only what is durable.

use std::{
    collections::VecDeque,
    fs::File,
    io,
    path::PathBuf,
    sync::{Arc, OnceLock, RwLock, RwLockReadGuard, RwLockWriteGuard},
};

use stapes_core::{
    ids::{CommitId, Sequence},
    port::log::{AppendError, ReadError, Stored},
};

use crate::{
    index::{Identity, Ids, IndexFile, Place, Tail, Tails},
    segment::{self, Header, Walk, Walked},
};

/// The file of one segment, open for reading at any position.
#[derive(Clone, Debug)]
pub(crate) struct SegmentFile {
    pub file: Arc<File>,
    pub path: PathBuf,
    pub first: Sequence,
    pub salt: u64,
}

/// A segment that is complete.
#[derive(Debug)]
pub(crate) struct Sealed {
    pub segment: SegmentFile,
    pub identity: Identity,
    pub lookup: Lookup,
}

/// How the records and commits of a sealed segment are found.
#[derive(Debug)]
pub(crate) enum Lookup {
    /// Just sealed: its index is not written yet.
    Memory {
        offsets: Vec<u32>,
        ids: Ids,
        tails: Tails,
    },
    Disk(IndexFile),
}

impl Sealed {
    pub(crate) fn last(&self) -> Sequence {
        Sequence(self.identity.first.0 + self.identity.records - 1)
    }

    pub(crate) fn find(&self, id: CommitId) -> io::Result<Option<Place>> {
        match &self.lookup {
            Lookup::Memory { ids, .. } => Ok(ids.get(&id).copied()),
            Lookup::Disk(index) => match index.find(id) {
                Err(error) if error.kind() == io::ErrorKind::InvalidData => self.search(id),
                found => found,
            },
        }
    }

    /// Whether the id is certainly not in this segment, as far as that is known without reading.
    pub(crate) fn lacks(&self, id: CommitId) -> bool {
        match &self.lookup {
            Lookup::Memory { ids, .. } => !ids.contains_key(&id),
            Lookup::Disk(index) => index.lacks(id),
        }
    }

    /// Looks for the commit in the segment itself, because its index is damaged.
    fn search(&self, id: CommitId) -> io::Result<Option<Place>> {
        tracing::warn!(segment = %self.segment.path.display(), "its index is damaged");
        let bytes = segment::load(&self.segment.file)?;
        let header = Header::parse(&bytes).map_err(io::Error::other)?;
        let mut walk = Walk::new(&bytes, &header);
        loop {
            match walk.step() {
                Walked::Frame(frame) if frame.commit == id => {
                    return Ok(Some((frame.first, frame.records)));
                }
                Walked::Frame(_) => {}
                Walked::Seal => return Ok(None),
                Walked::Blank => return Err(io::Error::other("the segment was cut")),
                Walked::Bad(bad) => return Err(io::Error::other(bad)),
            }
        }
    }

    pub(crate) fn offset(&self, sequence: Sequence) -> io::Result<u32> {
        let index = sequence.0 - self.identity.first.0;
        match &self.lookup {
            Lookup::Memory { offsets, .. } => {
                let offset = usize::try_from(index).ok().and_then(|index| offsets.get(index));
                offset.copied().ok_or_else(|| io::ErrorKind::InvalidData.into())
            }
            Lookup::Disk(index_file) => index_file.offset(index),
        }
    }
}

/// The newest records, in memory.
#[derive(Debug)]
pub(crate) struct Recent {
    /// With the sequence of the stream's record before.
    records: VecDeque<(Stored, Sequence)>,
    bytes: usize,
    bytes_max: usize,
}

/// What a record costs besides its payload.
const RECORD_BYTES: usize = size_of::<(Stored, Sequence)>() + 64;

impl Recent {
    pub(crate) fn new(bytes_max: usize) -> Self {
        Self { records: VecDeque::new(), bytes: 0, bytes_max }
    }

    pub(crate) fn push(&mut self, record: Stored, previous: Sequence) {
        self.bytes += record.payload.len() + RECORD_BYTES;
        self.records.push_back((record, previous));
        while self.bytes > self.bytes_max
            && let Some((oldest, _)) = self.records.pop_front()
        {
            self.bytes -= oldest.payload.len() + RECORD_BYTES;
        }
    }

    pub(crate) fn get(&self, sequence: Sequence) -> Option<&(Stored, Sequence)> {
        self.records.get(self.index(sequence)?)
    }

    /// The records from `first` on, when they are all here.
    pub(crate) fn from(&self, first: Sequence) -> Option<impl Iterator<Item = &Stored>> {
        let start = self.index(first)?;
        Some(self.records.range(start..).map(|(record, _)| record))
    }

    fn index(&self, sequence: Sequence) -> Option<usize> {
        let oldest = self.records.front()?.0.sequence;
        let index = usize::try_from(sequence.0.checked_sub(oldest.0)?).ok()?;
        (index < self.records.len()).then_some(index)
    }
}

#[derive(Debug)]
pub(crate) struct Published {
    pub head: Sequence,
    pub sealed: Arc<Vec<Arc<Sealed>>>,
    /// The segment that is written to.
    pub active: SegmentFile,
    /// Where its durable frames end.
    pub end: u32,
    /// Of each of its records' frames.
    pub offsets: Vec<u32>,
    pub tails: Tails,
    pub recent: Recent,
}

impl Published {
    pub(crate) fn tail(&self, stream: stapes_core::ids::StreamId) -> Tail {
        self.tails.get(&stream).copied().unwrap_or_default()
    }
}

/// Why nothing more is written.
#[derive(Clone, Debug)]
pub(crate) enum Fault {
    /// A write or a sync failed: what the disk holds is known again only after reopening.
    Failed(String),
    /// The log is damaged.
    Damaged(String),
}

impl Fault {
    pub(crate) fn refuse(&self) -> AppendError {
        match self {
            Self::Failed(cause) => AppendError::Unavailable(cause.clone().into()),
            Self::Damaged(what) => AppendError::Corrupt(what.clone()),
        }
    }
}

#[derive(Debug)]
pub(crate) struct Shared {
    published: RwLock<Published>,
    fault: OnceLock<Fault>,
    /// When the log can only be read up to its head: what is wrong behind it.
    pub damage: Option<String>,
}

impl Shared {
    pub(crate) fn new(published: Published, damage: Option<String>) -> Self {
        let fault = OnceLock::new();
        if let Some(what) = &damage {
            fault.get_or_init(|| Fault::Damaged(what.clone()));
        }
        Self { published: RwLock::new(published), fault, damage }
    }

    pub(crate) fn read(&self) -> RwLockReadGuard<'_, Published> {
        self.published.read().expect("no holder panics")
    }

    pub(crate) fn write(&self) -> RwLockWriteGuard<'_, Published> {
        self.published.write().expect("no holder panics")
    }

    pub(crate) fn fault(&self) -> Option<&Fault> {
        self.fault.get()
    }

    /// Ends all writing. The first fault stays.
    pub(crate) fn fail(&self, fault: Fault) {
        tracing::error!(?fault, "the log is not written to any more");
        self.fault.get_or_init(|| fault);
    }

    /// Damage that a reader met: it is told, and nothing is built on top of it.
    pub(crate) fn damaged(&self, what: String) -> ReadError {
        self.fail(Fault::Damaged(what.clone()));
        ReadError::Corrupt(what)
    }
}
