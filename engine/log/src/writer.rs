//! The writer: one thread that owns the end of the log.
//!
//! It takes all appends that wait, decides them in the order of the queue, writes those that fit
//! with one write and one sync, publishes them and answers. So a commit costs a fraction of a sync
//! when many write, and expectations are never judged by what another batch might still do.
//!
//! A failed write or sync ends all writing: after it nobody knows what the disk holds (the kernel
//! may drop the pages and say so only once), so it is never tried again. Reading goes on.

use std::{
    collections::HashMap,
    io,
    path::PathBuf,
    sync::{Arc, mpsc as chores},
};

use stapes_core::{
    ids::{Sequence, StreamId},
    port::log::{AppendError, Appended, Commit, Expected, Stored},
};
use tokio::sync::{mpsc, oneshot, watch};

use crate::{
    disk::{Disk, is_full},
    frame::{self, Chain, HEADER_BYTES, Place, Record},
    index::{Identity, Ids, Tail, Tails},
    keeper::{Chore, Spares},
    marker::{Mark, Marker},
    roll,
    shared::{Fault, SegmentFile, Shared},
};

/// Bytes written with one sync, unless a single commit is larger.
const BATCH_BYTES_MAX: usize = 4 << 20;
/// Appends taken from the queue at once.
const TAKE_MAX: usize = 1024;

type Answer = Result<Appended, AppendError>;

/// An append that waits for the writer.
pub(crate) struct Request {
    pub commit: Commit,
    /// In how many sealed segments the id was looked for already.
    pub sealed_checked: usize,
    pub reply: oneshot::Sender<Answer>,
}

pub(crate) struct Writer {
    pub shared: Arc<Shared>,
    pub head: watch::Sender<Sequence>,
    pub disk: Arc<dyn Disk>,
    pub dir: PathBuf,
    pub marker: Marker,
    pub spares: Arc<Spares>,
    pub chores: chores::Sender<Chore>,
    pub segment_bytes: u64,
    pub end: End,
}

/// The end of the log: the segment that is written to and what it holds.
pub(crate) struct End {
    pub segment: SegmentFile,
    pub capacity: u64,
    pub offset: u32,
    pub next: Sequence,
    pub chain: Chain,
    pub ids: Ids,
    pub tails: Tails,
}

/// Commits that are written together, and everything that is decided on top of them.
#[derive(Default)]
struct Batch {
    bytes: Vec<u8>,
    records: Vec<(Stored, Sequence)>,
    offsets: Vec<u32>,
    ids: Ids,
    tails: HashMap<StreamId, Tail>,
    chain: Option<Chain>,
    answers: Vec<(oneshot::Sender<Answer>, Answer)>,
}

enum Planned {
    /// Answered once the batch is durable.
    Answer(Answer),
    /// The segment has no room for it.
    NoRoom,
}

impl Writer {
    /// Writes until nobody can append any more.
    pub(crate) fn run(mut self, mut queue: mpsc::Receiver<Request>) {
        let mut requests = Vec::with_capacity(TAKE_MAX);
        let mut batch = Batch::default();
        while queue.blocking_recv_many(&mut requests, TAKE_MAX) > 0 {
            for request in requests.drain(..) {
                self.take(&mut batch, request);
            }
            self.commit(&mut batch);
        }
        if self.shared.fault().is_none()
            && let Err(error) = self.marker.sync()
        {
            tracing::warn!(%error, "the log's marker could not be synced");
        }
    }

    fn take(&mut self, batch: &mut Batch, request: Request) {
        let Request { commit, sealed_checked, reply } = request;
        if let Some(fault) = self.shared.fault() {
            return answer(reply, Err(fault.refuse()));
        }
        let planned = match self.plan(batch, &commit, sealed_checked) {
            Planned::Answer(answer) => answer,
            Planned::NoRoom => {
                self.commit(batch);
                match self.roll(&commit) {
                    Ok(()) => match self.plan(batch, &commit, sealed_checked) {
                        Planned::Answer(answer) => answer,
                        Planned::NoRoom => unreachable!("a segment has room for any one commit"),
                    },
                    Err(refused) => Err(refused),
                }
            }
        };
        batch.answers.push((reply, planned));
        if batch.bytes.len() >= BATCH_BYTES_MAX {
            self.commit(batch);
        }
    }

    /// Decides one commit on top of all that came before it.
    fn plan(&self, batch: &mut Batch, commit: &Commit, sealed_checked: usize) -> Planned {
        match self.find(batch, commit, sealed_checked) {
            Ok(None) => {}
            Ok(Some((first, count))) => {
                let last = Sequence(first.0 + u64::from(count) - 1);
                return Planned::Answer(Ok(Appended { first, last, duplicate: true }));
            }
            Err(error) => {
                let what = format!("the commits of a sealed segment cannot be read: {error}");
                return Planned::Answer(Err(AppendError::Unavailable(what.into())));
            }
        }
        let published = self.shared.read();
        let tail = |batch: &Batch, stream| {
            batch.tails.get(&stream).copied().unwrap_or_else(|| published.tail(stream))
        };
        for part in &commit.parts {
            let actual = tail(batch, part.stream).revision;
            match part.expected {
                Expected::Exact(expected) if expected != actual => {
                    let conflict = AppendError::Conflict { stream: part.stream, actual };
                    return Planned::Answer(Err(conflict));
                }
                Expected::Exact(_) | Expected::Any => {}
            }
        }
        let size = frame::size_of(commit.parts.iter().map(|part| part.payload.len()));
        let used = self.end.offset as usize + batch.bytes.len();
        // The seal needs room behind it.
        if (used + size + HEADER_BYTES) as u64 > self.end.capacity {
            return Planned::NoRoom;
        }
        let first = Sequence(self.end.next.0 + batch.records.len() as u64);
        let offset = u32::try_from(used).expect("a segment has less than 4 GiB");
        let start = batch.records.len();
        for (index, part) in commit.parts.iter().enumerate() {
            let before = tail(batch, part.stream);
            let sequence = Sequence(first.0 + index as u64);
            let revision = before.revision.next();
            batch.tails.insert(part.stream, Tail { revision, sequence });
            let stored = Stored {
                sequence,
                stream: part.stream,
                revision,
                commit: commit.id,
                last_in_commit: index + 1 == commit.parts.len(),
                payload: part.payload.clone(),
            };
            batch.records.push((stored, before.sequence));
            batch.offsets.push(offset);
        }
        drop(published);
        let records = batch.records[start..].iter().map(|(stored, previous)| Record {
            stream: stored.stream,
            revision: stored.revision,
            previous: *previous,
            payload: &stored.payload,
        });
        let place = Place { salt: self.end.segment.salt, offset, batch: self.end.offset };
        let chain = batch.chain.unwrap_or(self.end.chain);
        batch.chain =
            Some(frame::encode(&mut batch.bytes, place, chain, first, commit.id, records));
        let count = u32::try_from(commit.parts.len()).expect("the shape was checked");
        batch.ids.insert(commit.id, (first, count));
        let last = Sequence(first.0 + u64::from(count) - 1);
        Planned::Answer(Ok(Appended { first, last, duplicate: false }))
    }

    fn find(
        &self,
        batch: &Batch,
        commit: &Commit,
        sealed_checked: usize,
    ) -> io::Result<Option<crate::index::Place>> {
        let known = batch.ids.get(&commit.id).or_else(|| self.end.ids.get(&commit.id));
        if let Some(place) = known {
            return Ok(Some(*place));
        }
        let sealed = self.shared.read().sealed.clone();
        for sealed in sealed.iter().skip(sealed_checked) {
            if let Some(place) = sealed.find(commit.id)? {
                return Ok(Some(place));
            }
        }
        Ok(None)
    }

    /// Makes the batch durable, publishes it and answers all who wait for it.
    fn commit(&mut self, batch: &mut Batch) {
        if !batch.bytes.is_empty() {
            let (file, offset) = (&self.end.segment.file, self.end.offset);
            let written = self
                .disk
                .write(file, &batch.bytes, offset.into())
                .and_then(|()| self.disk.sync(file));
            if let Err(error) = written {
                return self.give_up(batch, &error);
            }
            self.publish(batch);
        }
        let moved = !batch.bytes.is_empty();
        for (reply, outcome) in batch.answers.drain(..) {
            answer(reply, outcome);
        }
        if moved {
            self.head.send_replace(Sequence(self.end.next.0 - 1));
            self.mark();
        }
        batch.clear();
    }

    fn publish(&mut self, batch: &mut Batch) {
        let length = u32::try_from(batch.bytes.len()).expect("a batch fits a segment");
        self.end.offset += length;
        self.end.next = Sequence(self.end.next.0 + batch.records.len() as u64);
        self.end.chain = batch.chain.take().expect("a batch with bytes has a chain");
        self.end.ids.extend(batch.ids.drain());
        self.end.tails.extend(batch.tails.iter());
        let mut published = self.shared.write();
        published.head = Sequence(self.end.next.0 - 1);
        published.end = self.end.offset;
        published.offsets.append(&mut batch.offsets);
        published.tails.extend(batch.tails.drain());
        for (record, previous) in batch.records.drain(..) {
            published.recent.push(record, previous);
        }
    }

    /// A write or a sync failed: who waited cannot be told what the disk holds.
    fn give_up(&self, batch: &mut Batch, error: &io::Error) {
        let path = self.end.segment.path.display();
        let cause = format!(
            "{path}: writing failed ({error}); nothing more is written until the log is opened again"
        );
        for (reply, outcome) in batch.answers.drain(..) {
            let outcome = match outcome {
                Ok(appended) if !appended.duplicate || appended.first >= self.end.next => {
                    Err(AppendError::OutcomeUnknown(cause.clone().into()))
                }
                Ok(duplicate) => Ok(duplicate),
                Err(AppendError::Conflict { .. }) => {
                    Err(AppendError::Unavailable(cause.clone().into()))
                }
                Err(other) => Err(other),
            };
            answer(reply, outcome);
        }
        self.shared.fail(Fault::Failed(cause));
        batch.clear();
    }

    fn mark(&mut self) {
        let mark = Mark {
            sequence: Sequence(self.end.next.0 - 1),
            segment: self.end.segment.first,
            offset: self.end.offset,
            chain: self.end.chain,
        };
        if let Err(error) = self.marker.write(&mark) {
            tracing::warn!(%error, "the log's marker could not be written");
        }
    }

    /// Goes on in a new segment that has room for `commit`.
    fn roll(&mut self, commit: &Commit) -> Result<(), AppendError> {
        if let Some(fault) = self.shared.fault() {
            return Err(fault.refuse());
        }
        let size = frame::size_of(commit.parts.iter().map(|part| part.payload.len()));
        let bytes = roll::size(self.segment_bytes, self.shared.read().sealed.len(), size);
        let spare = self.spares.take(bytes).map_err(|error| {
            let what = format!("{}: no room for the next segment: {error}", self.dir.display());
            if is_full(&error) {
                AppendError::Full(what)
            } else {
                AppendError::Unavailable(what.into())
            }
        })?;
        // A segment without records is replaced by a larger one of the same name.
        let sealed = if self.is_empty() { Ok(()) } else { self.seal() };
        let rolled = sealed.and_then(|()| {
            let next = &self.end;
            roll::begin(
                &*self.disk,
                &self.dir,
                spare,
                &self.spares.taken_path(),
                next.next,
                next.chain,
            )
        });
        match rolled {
            Ok((segment, capacity)) => {
                self.enter(segment, capacity);
                Ok(())
            }
            Err(error) => {
                let cause = format!("the log's segment could not be changed: {error}");
                self.shared.fail(Fault::Failed(cause.clone()));
                Err(AppendError::Unavailable(cause.into()))
            }
        }
    }

    fn is_empty(&self) -> bool {
        self.end.next == self.end.segment.first
    }

    fn seal(&self) -> io::Result<()> {
        let end = &self.end;
        let place = Place { salt: end.segment.salt, offset: end.offset, batch: end.offset };
        let mut seal = Vec::new();
        frame::encode_seal(&mut seal, place, end.chain, Sequence(end.next.0 - 1));
        self.disk.write(&end.segment.file, &seal, end.offset.into())?;
        self.disk.sync(&end.segment.file)?;
        // The zeros behind the seal are of no use any more; whether they go now does not matter.
        let _ = end.segment.file.set_len(u64::from(end.offset) + seal.len() as u64);
        Ok(())
    }

    /// Makes the old segment a sealed one and `segment` the one that is written to.
    fn enter(&mut self, segment: SegmentFile, capacity: u64) {
        let identity = Identity {
            first: self.end.segment.first,
            salt: self.end.segment.salt,
            end: self.end.offset,
            chain: self.end.chain,
            records: self.end.next.0 - self.end.segment.first.0,
        };
        let empty = self.is_empty();
        let old = std::mem::replace(&mut self.end.segment, segment.clone());
        let (ids, tails) = (std::mem::take(&mut self.end.ids), std::mem::take(&mut self.end.tails));
        self.end.capacity = capacity;
        self.end.offset = crate::segment::DATA_AT;
        let sealed = {
            let mut published = self.shared.write();
            published.active = segment;
            published.end = self.end.offset;
            let offsets = std::mem::take(&mut published.offsets);
            (!empty).then(|| {
                let sealed = Arc::new(roll::sealed(old, identity, offsets, ids, tails));
                let mut all = Vec::clone(&published.sealed);
                all.push(sealed.clone());
                published.sealed = Arc::new(all);
                sealed
            })
        };
        self.mark();
        if let Err(error) = self.marker.sync() {
            tracing::warn!(%error, "the log's marker could not be synced");
        }
        let next = roll::size(self.segment_bytes, self.shared.read().sealed.len(), 0);
        for chore in sealed.map(Chore::Index).into_iter().chain([Chore::Spare(next)]) {
            // Without its keeper the writer makes segments itself and keeps indexes in memory.
            let _ = self.chores.send(chore);
        }
    }
}

impl Batch {
    fn clear(&mut self) {
        self.bytes.clear();
        self.records.clear();
        self.offsets.clear();
        self.ids.clear();
        self.tails.clear();
        self.chain = None;
    }
}

/// Whoever gave up waiting gets no answer.
fn answer(reply: oneshot::Sender<Answer>, outcome: Answer) {
    let _ = reply.send(outcome);
}
