//! Opening: what the files say the log is.
//!
//! ```text
//! header fits the one before ──► sealed? index or scan ──► ... ──► last: scan
//!                                                                    │
//!      seal: begin the next ◄── blank: write on ◄── torn: cut ◄──────┤
//!                                                  damaged: read-only┘
//! ```
//!
//! A write that was cut short by a crash was never acknowledged and is removed. It is told from
//! damage by what lies behind it: a frame whose write began behind the bad one was written when that
//! one was durable. So does the marker tell it, when it is beyond.

use std::{
    fs::File,
    path::{Path, PathBuf},
    sync::Arc,
};

use stapes_core::ids::Sequence;

use crate::{
    disk::{Disk, RealDisk},
    error::OpenError,
    frame::{BadFrame, Chain, Frame, HEADER_BYTES},
    index::{Identity, Index, IndexFile, Tails},
    marker::{Mark, Marker},
    segment::{self, Header, Walk, Walked},
    shared::{Lookup, Sealed, SegmentFile},
};

/// The log as it was found.
pub(crate) struct Found {
    pub sealed: Vec<Arc<Sealed>>,
    pub tails: Tails,
    pub next: Sequence,
    pub chain: Chain,
    pub last: Last,
}

/// How the log ends.
pub(crate) enum Last {
    /// With a seal, or there is nothing at all: the next segment is to be made.
    Sealed,
    /// Here the writing goes on.
    Open(Open),
    /// The log can be read up to here.
    Damaged(Open, String),
}

/// A segment without a seal.
pub(crate) struct Open {
    pub segment: SegmentFile,
    pub end: u32,
    pub capacity: u64,
    pub index: Index,
}

struct Scan {
    index: Index,
    end: u32,
    next: Sequence,
    chain: Chain,
    stop: Stop,
    /// The hash of the log at the marked record, when it is in this segment.
    marked: Option<Chain>,
    valid_after: Option<(u32, u32)>,
}

enum Stop {
    Seal,
    Blank,
    Bad(BadFrame),
}

pub(crate) fn recover(dir: &Path, disk: &dyn Disk, mark: Option<Mark>) -> Result<Found, OpenError> {
    let files = segment::list(dir).map_err(OpenError::io("cannot list", dir))?;
    recover_files(dir, &files, disk, mark, (Sequence(1), Chain::genesis()))
}

/// An archive, which may begin anywhere in its log.
pub(crate) fn recover_from_anywhere(dir: &Path) -> Result<Found, OpenError> {
    let files = segment::list(dir).map_err(OpenError::io("cannot list", dir))?;
    let mut base = (Sequence(1), Chain::genesis());
    if let Some((first, path)) = files.first().filter(|(first, _)| *first > Sequence(1)) {
        let file = File::open(path).map_err(OpenError::io("cannot open", path))?;
        let header = Header::read(&file)
            .map_err(OpenError::io("cannot read", path))?
            .map_err(OpenError::header(path))?;
        base = (*first, header.chain);
    }
    let mark = Marker::peek(dir).map_err(OpenError::io("cannot read `head` in", dir))?;
    recover_files(dir, &files, &RealDisk, mark, base)
}

fn recover_files(
    dir: &Path,
    files: &[(Sequence, PathBuf)],
    disk: &dyn Disk,
    mark: Option<Mark>,
    (next, chain): (Sequence, Chain),
) -> Result<Found, OpenError> {
    let sealed = Vec::new();
    let mut found = Found { sealed, tails: Tails::new(), next, chain, last: Last::Sealed };
    for (at, (first, path)) in files.iter().enumerate() {
        let (segment, header) = open_segment(dir, *first, path, &found)?;
        let following = files.get(at + 1).map(|(first, _)| *first);
        if following.is_some() && found.attach_by_index(&segment)? {
            continue;
        }
        let bytes = segment::load(&segment.file).map_err(OpenError::io("cannot read", path))?;
        let scan = scan(&bytes, &header, mark);
        if let (Some(mark), Some(chain)) = (mark, scan.marked)
            && mark.chain != chain
        {
            return Err(OpenError::Rewritten { dir: dir.to_owned(), at: mark.sequence });
        }
        let file = segment.file.clone();
        found.last = found.take_scan(segment, scan, bytes.len() as u64, following, mark, disk)?;
        if following.is_none() {
            found
                .make_durable(&file, *first, &bytes, mark, disk)
                .map_err(OpenError::io("cannot write", path))?;
        }
        if matches!(found.last, Last::Damaged(..)) {
            break;
        }
    }
    found.check_mark(dir, mark)?;
    Ok(found)
}

fn open_segment(
    dir: &Path,
    first: Sequence,
    path: &PathBuf,
    found: &Found,
) -> Result<(SegmentFile, Header), OpenError> {
    let file = segment::private().open(path).map_err(OpenError::io("cannot open", path))?;
    let header = Header::read(&file)
        .map_err(OpenError::io("cannot read", path))?
        .map_err(OpenError::header(path))?;
    if header.first != first {
        return Err(OpenError::Misplaced { path: path.clone(), says: header.first });
    }
    if first > found.next {
        let (from, to) = (found.next, Sequence(first.0 - 1));
        return Err(OpenError::Missing { dir: dir.to_owned(), from, to });
    }
    if first < found.next {
        return Err(OpenError::Overlap { path: path.clone() });
    }
    if header.chain != found.chain {
        return Err(OpenError::Foreign { path: path.clone() });
    }
    let segment =
        SegmentFile { file: Arc::new(file), path: path.clone(), first, salt: header.salt };
    Ok((segment, header))
}

impl Found {
    /// Takes a sealed segment as its index tells, without reading it. `false` when it has none that
    /// belongs to it.
    fn attach_by_index(&mut self, segment: &SegmentFile) -> Result<bool, OpenError> {
        let path = segment.path.with_extension("idx");
        let index = IndexFile::open(&path).map_err(OpenError::io("cannot read", &path))?;
        let Some((index, identity, tails)) = index else { return Ok(false) };
        let fits = identity.first == segment.first && identity.salt == segment.salt;
        if !fits || !has_seal(&segment.file, &identity) {
            return Ok(false);
        }
        self.attach(segment.clone(), identity, Lookup::Disk(index), &tails);
        Ok(true)
    }

    fn attach(&mut self, segment: SegmentFile, identity: Identity, lookup: Lookup, tails: &Tails) {
        self.tails.reserve(tails.len().saturating_sub(self.tails.len()));
        self.tails.extend(tails.iter());
        self.next = Sequence(identity.first.0 + identity.records);
        self.chain = identity.chain;
        self.sealed.push(Arc::new(Sealed { segment, identity, lookup }));
    }

    /// Takes a segment as it was scanned.
    fn take_scan(
        &mut self,
        segment: SegmentFile,
        scan: Scan,
        capacity: u64,
        following: Option<Sequence>,
        mark: Option<Mark>,
        disk: &dyn Disk,
    ) -> Result<Last, OpenError> {
        let path = segment.path.clone();
        let damage = scan.damage(&path, following, mark);
        if let Stop::Seal = scan.stop {
            self.attach_scanned(segment, scan);
            return Ok(Last::Sealed);
        }
        if let (Stop::Blank | Stop::Bad(BadFrame::Short(_)), Some(following)) =
            (&scan.stop, following)
        {
            let to = Sequence(following.0 - 1);
            return Err(OpenError::Truncated { path, from: scan.next, to });
        }
        (self.next, self.chain) = (scan.next, scan.chain);
        self.tails.extend(scan.index.tails.iter());
        let torn = matches!(scan.stop, Stop::Bad(_));
        let open = Open { segment, end: scan.end, capacity, index: scan.index };
        match damage {
            Some(damage) => Ok(Last::Damaged(open, damage)),
            None => {
                if torn {
                    cut(&open, disk).map_err(OpenError::io("cannot cut the torn end of", path))?;
                }
                Ok(Last::Open(open))
            }
        }
    }

    fn attach_scanned(&mut self, segment: SegmentFile, scan: Scan) {
        let identity = Identity {
            first: segment.first,
            salt: segment.salt,
            end: scan.end,
            chain: scan.chain,
            records: scan.next.0 - segment.first.0,
        };
        let Index { offsets, ids, tails } = scan.index;
        let path = segment.path.with_extension("idx");
        let lookup = match IndexFile::write(&path, identity, &offsets, &ids, &tails) {
            Ok(index) => Lookup::Disk(index),
            Err(error) => {
                tracing::warn!(%error, path = %path.display(), "the index stays in memory");
                Lookup::Memory { offsets, ids, tails: Tails::new() }
            }
        };
        self.attach(segment, identity, lookup, &tails);
    }

    /// What was found behind the marker may be in the kernel's memory only, and after a sync that
    /// failed the kernel may even take it for written. So it is written again, and synced.
    fn make_durable(
        &self,
        file: &File,
        first: Sequence,
        bytes: &[u8],
        mark: Option<Mark>,
        disk: &dyn Disk,
    ) -> std::io::Result<()> {
        let end = match &self.last {
            Last::Open(open) => open.end as usize,
            Last::Sealed => bytes.len(),
            Last::Damaged(..) => return Ok(()),
        };
        let known = mark.filter(|mark| mark.segment == first).map_or(0, |mark| mark.offset);
        match bytes.get(known as usize..end) {
            Some(doubtful) if !doubtful.is_empty() => {
                disk.write(file, doubtful, known.into())?;
                disk.sync(file)
            }
            Some(_) | None => Ok(()),
        }
    }

    /// Whether the log goes as far as it certainly got.
    fn check_mark(&self, dir: &Path, mark: Option<Mark>) -> Result<(), OpenError> {
        let Some(mark) = mark else { return Ok(()) };
        let found = Sequence(self.next.0 - 1);
        let damaged = matches!(self.last, Last::Damaged(..));
        if mark.sequence > found && !damaged {
            return Err(OpenError::Regressed { dir: dir.to_owned(), marked: mark.sequence, found });
        }
        let ends = self.sealed.iter().find(|sealed| sealed.last() == mark.sequence);
        if ends.is_some_and(|sealed| sealed.identity.chain != mark.chain) {
            return Err(OpenError::Rewritten { dir: dir.to_owned(), at: mark.sequence });
        }
        Ok(())
    }
}

impl Scan {
    /// What is wrong with the segment, unless it just ends or was torn by a crash.
    fn damage(
        &self,
        path: &Path,
        following: Option<Sequence>,
        mark: Option<Mark>,
    ) -> Option<String> {
        let Stop::Bad(bad) = self.stop else { return None };
        let behind = if let Some(first) = following {
            format!("records {} to {} are lost", self.next, first.0 - 1)
        } else if let Some((offset, _)) = self.valid_after.filter(|(_, batch)| *batch > self.end) {
            format!("records from {} on are lost, though more follow at offset {offset}", self.next)
        } else if let Some(mark) = mark.filter(|mark| mark.sequence >= self.next) {
            format!("records {} to {} are lost", self.next, mark.sequence)
        } else {
            match bad {
                BadFrame::Short(_)
                | BadFrame::Magic
                | BadFrame::Length
                | BadFrame::Place
                | BadFrame::Checksum => return None,
                // Its checksum is right: it was not torn.
                BadFrame::Record | BadFrame::Sequence | BadFrame::Chain => {
                    format!("records from {} on cannot be trusted", self.next)
                }
            }
        };
        Some(format!(
            "{} at offset {}: {bad}; {behind}. The log is read up to there and not written: restore \
             the file from a backup, or export what can be read",
            path.display(),
            self.end,
        ))
    }
}

fn scan(bytes: &[u8], header: &Header, mark: Option<Mark>) -> Scan {
    let mut index = Index::default();
    let mut walk = Walk::new(bytes, header);
    let mut marked = None;
    let stop = loop {
        let offset = walk.offset;
        match walk.step() {
            Walked::Frame(frame) => {
                index.add(&frame, offset);
                if mark.is_some_and(|mark| mark.sequence == frame.last()) {
                    marked = Some(frame.chain);
                }
            }
            Walked::Seal => break Stop::Seal,
            Walked::Blank => break Stop::Blank,
            Walked::Bad(bad) => break Stop::Bad(bad),
        }
    };
    let valid_after = match stop {
        Stop::Bad(_) => walk.valid_after(),
        Stop::Seal | Stop::Blank => None,
    };
    Scan { index, end: walk.offset, next: walk.next, chain: walk.chain, stop, marked, valid_after }
}

fn has_seal(file: &File, identity: &Identity) -> bool {
    let mut bytes = Vec::new();
    if segment::read_up_to(file, &mut bytes, identity.end.into(), HEADER_BYTES).is_err() {
        return false;
    }
    Frame::parse(&bytes, identity.salt, identity.end).is_ok_and(|frame| {
        frame.is_seal()
            && frame.first.0 == identity.first.0 + identity.records
            && frame.chain == identity.chain
    })
}

/// Removes what a crash left half written, so that it is never taken for a commit later.
fn cut(open: &Open, disk: &dyn Disk) -> std::io::Result<()> {
    tracing::info!(
        segment = %open.segment.path.display(), offset = open.end,
        "a write that was never acknowledged is removed"
    );
    let length = usize::try_from(open.capacity.saturating_sub(open.end.into()))
        .map_err(std::io::Error::other)?;
    disk.write(&open.segment.file, &vec![0; length], open.end.into())?;
    disk.sync(&open.segment.file)
}
