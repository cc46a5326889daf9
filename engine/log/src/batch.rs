//! A batch: commits that are written together, and what is decided on top of them.

use std::{collections::HashMap, io};

use stapes_core::{
    ids::{CommitId, Revision, Sequence, StreamId},
    port::log::{AppendError, Appended, Commit, Expected, Stored},
};
use tokio::sync::oneshot;

use crate::{
    frame::{self, Chain, HEADER_BYTES, Record},
    index::{self, Ids, Tail},
    shared::{Published, Shared},
    writer::{Answer, End},
};

#[derive(Default)]
pub(crate) struct Batch {
    /// The frames.
    pub bytes: Vec<u8>,
    /// With the sequence of the stream's record before.
    pub records: Vec<(Stored, Sequence)>,
    /// Of each record's frame in the segment.
    pub offsets: Vec<u32>,
    pub ids: Ids,
    pub tails: HashMap<StreamId, Tail>,
    pub chain: Option<Chain>,
    /// To be given when the batch is durable.
    pub answers: Vec<(oneshot::Sender<Answer>, Answer)>,
}

/// What becomes of a commit.
pub(crate) enum Planned {
    /// Answered once the batch is durable.
    Answer(Answer),
    /// The segment has no room for it.
    NoRoom,
}

impl Batch {
    /// Decides one commit on top of all that came before it, and takes it in if it fits.
    pub(crate) fn plan(
        &mut self,
        shared: &Shared,
        end: &End,
        commit: &Commit,
        sealed_checked: usize,
    ) -> Planned {
        match self.find(shared, end, commit.id, sealed_checked) {
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
        let published = shared.read();
        if let Some(conflict) = self.conflict(&published, commit) {
            return Planned::Answer(Err(conflict));
        }
        let size = frame::size_of(commit.parts.iter().map(|part| part.payload.len()));
        let offset = end.offset as usize + self.bytes.len();
        // The seal needs room behind it.
        if (offset + size + HEADER_BYTES) as u64 > end.capacity {
            return Planned::NoRoom;
        }
        let offset = u32::try_from(offset).expect("a segment has less than 4 GiB");
        Planned::Answer(Ok(self.take(&published, end, commit, offset)))
    }

    fn find(
        &self,
        shared: &Shared,
        end: &End,
        id: CommitId,
        sealed_checked: usize,
    ) -> io::Result<Option<index::Place>> {
        if let Some(place) = self.ids.get(&id).or_else(|| end.ids.get(&id)) {
            return Ok(Some(*place));
        }
        let sealed = shared.read().sealed.clone();
        for sealed in sealed.iter().skip(sealed_checked) {
            if let Some(place) = sealed.find(id)? {
                return Ok(Some(place));
            }
        }
        Ok(None)
    }

    fn tail(&self, published: &Published, stream: StreamId) -> Tail {
        self.tails.get(&stream).copied().unwrap_or_else(|| published.tail(stream))
    }

    fn conflict(&self, published: &Published, commit: &Commit) -> Option<AppendError> {
        commit.parts.iter().find_map(|part| {
            let fits = |actual: Revision| match part.expected {
                Expected::Exact(expected) => expected == actual,
                Expected::Any => true,
            };
            let actual = self.tail(published, part.stream).revision;
            (!fits(actual)).then_some(AppendError::Conflict { stream: part.stream, actual })
        })
    }

    fn take(&mut self, published: &Published, end: &End, commit: &Commit, offset: u32) -> Appended {
        let start = self.records.len();
        let first = Sequence(end.next.0 + start as u64);
        for (index, part) in commit.parts.iter().enumerate() {
            let before = self.tail(published, part.stream);
            let sequence = Sequence(first.0 + index as u64);
            let revision = before.revision.next();
            self.tails.insert(part.stream, Tail { revision, sequence });
            let stored = Stored {
                sequence,
                stream: part.stream,
                revision,
                commit: commit.id,
                last_in_commit: index + 1 == commit.parts.len(),
                payload: part.payload.clone(),
            };
            self.records.push((stored, before.sequence));
            self.offsets.push(offset);
        }
        let records = self.records[start..].iter().map(|(stored, previous)| Record {
            stream: stored.stream,
            revision: stored.revision,
            previous: *previous,
            payload: &stored.payload,
        });
        let place = frame::Place { salt: end.segment.salt, offset, batch: end.offset };
        let chain = self.chain.unwrap_or(end.chain);
        self.chain = Some(frame::encode(&mut self.bytes, place, chain, first, commit.id, records));
        let count = u32::try_from(commit.parts.len()).expect("the shape was checked");
        self.ids.insert(commit.id, (first, count));
        let last = Sequence(first.0 + u64::from(count) - 1);
        Appended { first, last, duplicate: false }
    }

    pub(crate) fn clear(&mut self) {
        self.bytes.clear();
        self.records.clear();
        self.offsets.clear();
        self.ids.clear();
        self.tails.clear();
        self.chain = None;
    }
}
