//! The writer: one thread that owns the end of the log.
//!
//! It takes all appends that wait, decides them in the order of the queue, writes those that fit
//! with one write and one sync, publishes them and answers. So a commit costs a fraction of a sync
//! when many write, and expectations are never judged by what another batch might still do.
//!
//! A failed write or sync ends all writing: after it nobody knows what the disk holds (the kernel
//! may drop the pages and say so only once), so it is never tried again. Reading goes on.

use std::{
    io,
    path::PathBuf,
    sync::{Arc, mpsc as chores},
};

use stapes_core::{
    ids::Sequence,
    port::log::{AppendError, Appended, Commit},
};
use tokio::sync::{mpsc, oneshot, watch};

use crate::{
    batch::{Batch, Planned},
    disk::{Disk, is_full},
    frame::{self, Chain, Place},
    index::{Identity, Ids, Tails},
    keeper::{Chore, Spares},
    marker::{Mark, Marker},
    roll,
    shared::{Fault, SegmentFile, Shared},
};

/// Bytes written with one sync, unless a single commit is larger.
const BATCH_BYTES_MAX: usize = 4 << 20;
/// Appends taken from the queue at once.
const TAKE_MAX: usize = 1024;

pub(crate) type Answer = Result<Appended, AppendError>;

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
        let planned = match batch.plan(&self.shared, &self.end, &commit, sealed_checked) {
            Planned::Answer(answer) => answer,
            Planned::NoRoom => {
                self.commit(batch);
                match self.roll(&commit) {
                    Ok(()) => match batch.plan(&self.shared, &self.end, &commit, sealed_checked) {
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

    /// Makes the batch durable, publishes it and answers all who wait for it.
    fn commit(&mut self, batch: &mut Batch) {
        let moved = !batch.bytes.is_empty();
        if moved {
            let (file, offset) = (&self.end.segment.file, self.end.offset);
            if let Err(error) = self.disk.write(file, &batch.bytes, offset.into()) {
                return self.write_failed(batch, &error);
            }
            if let Err(error) = self.disk.sync(file) {
                return self.give_up(batch, &error);
            }
            self.publish(batch);
        }
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

    /// Where blocks are reserved a write always finds room; where a filesystem copies on write it
    /// may not. Then what it left is removed, and if that is certain nothing has happened.
    fn write_failed(&self, batch: &mut Batch, error: &io::Error) {
        let (file, offset) = (&self.end.segment.file, self.end.offset);
        let blanked = is_full(error)
            && self
                .disk
                .write(file, &vec![0; batch.bytes.len()], offset.into())
                .and_then(|()| self.disk.sync(file))
                .is_ok();
        if !blanked {
            return self.give_up(batch, error);
        }
        let what = format!("{}: {error}", self.end.segment.path.display());
        self.disappoint(batch, |_| AppendError::Full(what.clone()));
    }

    /// A write or a sync failed: who waited cannot be told what the disk holds.
    fn give_up(&self, batch: &mut Batch, error: &io::Error) {
        let cause = format!(
            "{}: writing failed ({error}); nothing more is written until the log is opened again",
            self.end.segment.path.display()
        );
        self.shared.fail(Fault::Failed(cause.clone()));
        self.disappoint(batch, |may_be_written| {
            if may_be_written {
                AppendError::OutcomeUnknown(cause.clone().into())
            } else {
                AppendError::Unavailable(cause.clone().into())
            }
        });
    }

    /// Answers all whose answer needed the batch to be written. `refuse` is told whether it is one
    /// of the commits in it.
    fn disappoint(&self, batch: &mut Batch, refuse: impl Fn(bool) -> AppendError) {
        for (reply, outcome) in batch.answers.drain(..) {
            let outcome = match outcome {
                Ok(appended) if appended.first >= self.end.next => Err(refuse(true)),
                Ok(duplicate) => Ok(duplicate),
                // It was judged on top of the batch.
                Err(AppendError::Conflict { .. }) => Err(refuse(false)),
                Err(other) => Err(other),
            };
            answer(reply, outcome);
        }
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

/// Whoever gave up waiting gets no answer.
fn answer(reply: oneshot::Sender<Answer>, outcome: Answer) {
    let _ = reply.send(outcome);
}
