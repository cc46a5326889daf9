//! Exporting: any log as segment files. They are an archive, and a log that can be opened.
//!
//! An archive that is there already is continued, so that a backup costs what is new. Each segment
//! gets its name when it is complete and on the disk: an export that was interrupted leaves a
//! shorter archive, never a broken one.

use std::{
    fs::File,
    io,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

use futures::StreamExt;
use stapes_core::{
    ids::Sequence,
    port::log::{EventLog, Followed, ReadError, Stored},
};

use crate::{
    error::OpenError,
    frame::{self, Chain, HEADER_BYTES, Place, Record},
    index::{Tail, Tails},
    lock,
    marker::{Mark, Marker},
    recover::{self, Last},
    segment::{self, DATA_AT, Header},
};

const SEGMENT_BYTES: usize = 64 << 20;
const WRITE_BYTES: usize = 1 << 20;
const UNFINISHED_NAME: &str = "segment.new";

/// Which part of a log is exported: whole commits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Range {
    /// The first record; without it, what follows the archive, or the beginning.
    pub from: Option<Sequence>,
    /// The last record; without it, the newest at the time.
    pub to: Option<Sequence>,
}

/// What was exported, this time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exported {
    pub records: u64,
    pub commits: u64,
    /// The archive's last record.
    pub head: Sequence,
    /// The hash of the log up to there, in hexadecimal.
    pub hash: String,
}

/// Why an export ended. The archive is complete up to where it got.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    #[error("the archive cannot be continued: {0}")]
    Archive(#[from] OpenError),
    #[error("{0} holds a log in use, not an archive: export to another directory")]
    NotAnArchive(PathBuf),
    #[error("the archive ends at record {head}: export from {next} on, or to another directory", next = head.next())]
    Elsewhere { head: Sequence },
    #[error("record {0} does not begin a commit: begin with one that does")]
    InsideACommit(Sequence),
    #[error("the log cannot be read")]
    Read(#[from] ReadError),
    #[error("record {0} of the log does not follow from those before it: it is not exported")]
    Inconsistent(Sequence),
    #[error("the archive cannot be written")]
    Io(#[from] io::Error),
}

/// Writes the commits in `range` to the archive in `dir`, which is made if it is not there.
///
/// # Errors
/// See [`ExportError`].
pub async fn export(
    log: &dyn EventLog,
    dir: impl AsRef<Path>,
    range: Range,
) -> Result<Exported, ExportError> {
    let (dir, head) = (dir.as_ref().to_owned(), log.head().await?);
    let to = range.to.unwrap_or(head).min(head);
    let mut archive = blocking(move || Archive::open(dir, range.from)).await?;
    // The hash and the streams' ends follow from all that came before.
    let mut follower = log.follow(Sequence(archive.next.0 - 1)).await?;
    while archive.next <= to && !archive.ended {
        let records = match follower.next().await {
            Some(Ok(Followed::Records(records))) => records,
            Some(Ok(Followed::CaughtUp(_))) | None => break,
            Some(Err(error)) => return Err(error.into()),
        };
        archive = blocking(move || archive.add(&records, to)).await?;
    }
    blocking(move || archive.finish()).await
}

async fn blocking<T: Send + 'static>(
    act: impl FnOnce() -> Result<T, ExportError> + Send + 'static,
) -> Result<T, ExportError> {
    tokio::task::spawn_blocking(act).await.map_err(io::Error::other)?
}

struct Archive {
    dir: PathBuf,
    from: Sequence,
    next: Sequence,
    /// Nothing more is in the range.
    ended: bool,
    chain: Chain,
    tails: Tails,
    segment: Option<Unfinished>,
    records: u64,
    commits: u64,
    /// The last complete segment.
    last: Option<Mark>,
    _lock: File,
}

/// A segment that is being written.
struct Unfinished {
    file: File,
    header: Header,
    written: u64,
    buffer: Vec<u8>,
}

impl Archive {
    fn open(dir: PathBuf, from: Option<Sequence>) -> Result<Self, ExportError> {
        lock::own_directory(&dir)?;
        let lock = lock::lock(&dir)?;
        let found = recover::recover_from_anywhere(&dir)?;
        match found.last {
            Last::Sealed => {}
            Last::Open(_) => return Err(ExportError::NotAnArchive(dir)),
            Last::Damaged(open, reason) => {
                let path = open.segment.path;
                return Err(OpenError::Header { path, reason }.into());
            }
        }
        let head = Sequence(found.next.0 - 1);
        let begins = found.sealed.first().map(|sealed| sealed.identity.first);
        let from = match (begins, from) {
            (Some(_), Some(from)) if from != found.next => {
                return Err(ExportError::Elsewhere { head });
            }
            (Some(_), _) => found.next,
            (None, from) => from.unwrap_or(Sequence(1)).max(Sequence(1)),
        };
        let whole = begins.is_none_or(|first| first == Sequence(1));
        let (next, chain, tails) = if whole {
            (found.next, found.chain, found.tails)
        } else {
            (Sequence(1), Chain::genesis(), Tails::new())
        };
        let (records, commits) = (0, 0);
        Ok(Self {
            dir,
            from,
            next,
            ended: false,
            chain,
            tails,
            segment: None,
            records,
            commits,
            last: None,
            _lock: lock,
        })
    }

    /// Takes in whole commits up to the record `to`.
    fn add(mut self, records: &[Stored], to: Sequence) -> Result<Self, ExportError> {
        for commit in records.split_inclusive(|record| record.last_in_commit) {
            if commit.last().is_some_and(|last| last.sequence > to) {
                // Only whole commits: one that goes beyond the range is left out.
                self.ended = true;
                return Ok(self);
            }
            self.commit(commit)?;
        }
        Ok(self)
    }

    fn commit(&mut self, commit: &[Stored]) -> Result<(), ExportError> {
        let first = commit[0].sequence;
        let mut previous = Vec::with_capacity(commit.len());
        for stored in commit {
            let tail = self.tails.entry(stored.stream).or_default();
            if stored.sequence != self.next || stored.revision != tail.revision.next() {
                return Err(ExportError::Inconsistent(stored.sequence));
            }
            previous.push(tail.sequence);
            *tail = Tail { revision: stored.revision, sequence: stored.sequence };
            self.next = self.next.next();
        }
        if first < self.from && self.next > self.from {
            return Err(ExportError::InsideACommit(self.from));
        }
        let size = frame::size_of(commit.iter().map(|stored| stored.payload.len()));
        let exported = first >= self.from;
        if exported {
            self.make_room(first, size)?;
        }
        let records = commit.iter().zip(previous).map(|(stored, previous)| Record {
            stream: stored.stream,
            revision: stored.revision,
            previous,
            payload: &stored.payload,
        });
        let mut passed_over = Vec::new();
        let (place, out) = match &mut self.segment {
            Some(segment) if exported => (segment.place(), &mut segment.buffer),
            Some(_) | None => (Place { salt: 0, offset: 0, batch: 0 }, &mut passed_over),
        };
        self.chain = frame::encode(out, place, self.chain, first, commit[0].commit, records);
        if exported {
            self.records += commit.len() as u64;
            self.commits += 1;
        }
        Ok(())
    }

    /// A segment that a frame of `size` fits in.
    fn make_room(&mut self, first: Sequence, size: usize) -> io::Result<()> {
        if let Some(segment) = &mut self.segment {
            if segment.length() + size + HEADER_BYTES <= SEGMENT_BYTES {
                return segment.flush(WRITE_BYTES);
            }
            self.seal(first)?;
        }
        let header = Header::new(first, self.chain);
        let path = self.dir.join(UNFINISHED_NAME);
        let file = segment::private().create(true).truncate(true).open(path)?;
        let buffer = header.encode().to_vec();
        self.segment = Some(Unfinished { file, header, written: 0, buffer });
        Ok(())
    }

    /// Completes the segment before the record `next`.
    fn seal(&mut self, next: Sequence) -> io::Result<()> {
        let Some(mut segment) = self.segment.take() else { return Ok(()) };
        let (place, sequence) = (segment.place(), Sequence(next.0 - 1));
        frame::encode_seal(&mut segment.buffer, place, self.chain, sequence);
        segment.flush(0)?;
        segment.file.sync_all()?;
        let first = segment.header.first;
        let path = self.dir.join(segment::file_name(first));
        std::fs::rename(self.dir.join(UNFINISHED_NAME), path)?;
        segment::sync_directory(&self.dir)?;
        let mark = Mark { sequence, segment: first, offset: place.offset, chain: self.chain };
        self.last = Some(mark);
        Ok(())
    }

    fn finish(mut self) -> Result<Exported, ExportError> {
        let end = self.segment.is_some().then_some(self.next);
        let head = Sequence(self.next.0 - 1);
        if let Some(next) = end {
            self.seal(next)?;
        }
        if let Some(mark) = &self.last {
            Marker::create(&self.dir, mark)?;
        }
        let (records, commits) = (self.records, self.commits);
        Ok(Exported { records, commits, head, hash: self.chain.to_string() })
    }
}

impl Unfinished {
    fn length(&self) -> usize {
        usize::try_from(self.written).expect("a segment is small") + self.buffer.len()
    }

    fn place(&self) -> Place {
        let offset = u32::try_from(self.length()).expect("a segment is small");
        Place { salt: self.header.salt, offset, batch: DATA_AT }
    }

    /// Writes out what is buffered when it is more than `bytes`.
    fn flush(&mut self, bytes: usize) -> io::Result<()> {
        if self.buffer.len() > bytes {
            self.file.write_all_at(&self.buffer, self.written)?;
            self.written += self.buffer.len() as u64;
            self.buffer.clear();
        }
        Ok(())
    }
}
