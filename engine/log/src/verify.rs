//! Verifying: every byte of a log or an archive is read and everything that can be checked is.
//!
//! It changes nothing and needs no lock, so a log that is in use can be verified too: up to where
//! it was when its last segment was read.

use std::{
    collections::HashSet,
    fs::File,
    io,
    path::{Path, PathBuf},
};

use stapes_core::ids::{CommitId, Sequence};

use crate::{
    frame::{Chain, Frame},
    index::{Tail, Tails},
    lock,
    marker::{Mark, Marker},
    segment::{self, Header, Walk, Walked},
};

/// What a log holds, and what is wrong with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// The first record: 1, unless it is an archive of a later part.
    pub first: Sequence,
    /// The last record; zero when there is none.
    pub head: Sequence,
    pub records: u64,
    pub commits: u64,
    pub streams: u64,
    /// The hash of the whole log up to its head, in hexadecimal: the same in every copy.
    pub hash: String,
    pub problems: Vec<Problem>,
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    pub path: PathBuf,
    pub what: String,
}

/// Verifies the log or archive in `dir`. Blocks, for about a second for each GiB.
///
/// # Errors
/// When the files cannot be read. What is wrong with the log is in the report.
pub fn verify(dir: impl AsRef<Path>) -> io::Result<Report> {
    let dir = dir.as_ref();
    // First: a log in use only grows behind it.
    let mark = Marker::peek(dir)?;
    let in_use = lock::is_locked(dir);
    let files = segment::list(dir)?;
    let mut check = Check::new();
    for (at, (first, path)) in files.iter().enumerate() {
        let last = at + 1 == files.len();
        check.segment(*first, path, last, last && in_use, mark)?;
    }
    let marked = mark.map_or(Sequence(0), |mark| mark.sequence);
    let head = Sequence(check.next.0 - 1);
    if marked > head {
        let what = format!("the log had reached record {marked} and ends at {head}");
        check.problem(dir, what);
    }
    Ok(check.report(head))
}

struct Check {
    first: Option<Sequence>,
    next: Sequence,
    chain: Chain,
    /// Whether all records of all streams were seen, so that a stream's first is known as such.
    complete: bool,
    tails: Tails,
    ids: HashSet<CommitId>,
    records: u64,
    problems: Vec<Problem>,
}

impl Check {
    fn new() -> Self {
        Self {
            first: None,
            next: Sequence(1),
            chain: Chain::genesis(),
            complete: true,
            tails: Tails::new(),
            ids: HashSet::new(),
            records: 0,
            problems: Vec::new(),
        }
    }

    fn problem(&mut self, path: &Path, what: impl Into<String>) {
        self.problems.push(Problem { path: path.to_owned(), what: what.into() });
    }

    fn segment(
        &mut self,
        first: Sequence,
        path: &Path,
        last: bool,
        in_use: bool,
        mark: Option<Mark>,
    ) -> io::Result<()> {
        let bytes = segment::load(&File::open(path)?)?;
        let header = match Header::parse(&bytes) {
            Ok(header) => header,
            Err(bad) => {
                self.problem(path, bad.to_string());
                return Ok(());
            }
        };
        if header.first != first {
            self.problem(path, format!("it begins with record {}", header.first));
        }
        self.join(path, &header);
        let mut walk = Walk::new(&bytes, &header);
        loop {
            match walk.step() {
                Walked::Frame(frame) => self.frame(path, &frame, mark),
                Walked::Seal => break,
                Walked::Blank if last => break,
                Walked::Blank => {
                    self.problem(path, "its end is missing");
                    break;
                }
                // What is written right now is not there yet.
                Walked::Bad(_) if in_use => break,
                Walked::Bad(bad) => {
                    let at = walk.offset;
                    self.problem(path, format!("record {} at offset {at}: {bad}", walk.next));
                    self.complete = false;
                    break;
                }
            }
        }
        (self.next, self.chain) = (walk.next, walk.chain);
        Ok(())
    }

    /// Checks that a segment goes on where the one before it ended.
    fn join(&mut self, path: &Path, header: &Header) {
        match self.first {
            None => {
                self.first = Some(header.first);
                // An archive may begin anywhere, and its hash is that of the whole log nevertheless.
                self.complete = header.first == Sequence(1);
                if self.complete && header.chain != Chain::genesis() {
                    self.problem(path, "its hash is not that of a beginning");
                }
            }
            Some(_) if header.first != self.next => {
                let (next, first) = (self.next, header.first);
                self.problem(path, format!("record {next} should follow, and {first} does"));
                self.complete = false;
            }
            Some(_) if header.chain != self.chain => {
                self.problem(path, "its hash does not follow from the segment before it");
            }
            Some(_) => {}
        }
        if !self.complete {
            // After a hole nothing is known about where a stream is.
            self.tails.clear();
        }
    }

    fn frame(&mut self, path: &Path, frame: &Frame<'_>, mark: Option<Mark>) {
        if !self.ids.insert(frame.commit) {
            self.problem(path, format!("commit {} is there twice", frame.commit));
        }
        if mark.is_some_and(|mark| mark.sequence == frame.last() && mark.chain != frame.chain) {
            let what = format!("record {} is not the one that was written", frame.last());
            self.problem(path, what);
        }
        let mut sequence = frame.first;
        for (record, _) in frame.records().flatten() {
            let known = self.tails.get(&record.stream).copied();
            let before = known.or_else(|| self.complete.then(Tail::default));
            let follows = before.is_none_or(|before| {
                record.revision == before.revision.next() && record.previous == before.sequence
            });
            if !follows {
                let (stream, revision) = (record.stream, record.revision);
                let what = format!("record {sequence}: {stream} cannot be at revision {revision}");
                self.problem(path, what);
            }
            self.tails.insert(record.stream, Tail { revision: record.revision, sequence });
            sequence = sequence.next();
            self.records += 1;
        }
    }

    fn report(self, head: Sequence) -> Report {
        Report {
            first: self.first.unwrap_or(Sequence(1)),
            head,
            records: self.records,
            commits: self.ids.len() as u64,
            streams: self.tails.len() as u64,
            hash: self.chain.to_string(),
            problems: self.problems,
        }
    }
}
