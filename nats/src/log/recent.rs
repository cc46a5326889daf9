//! The newest records, in memory, for those who follow.

use std::collections::VecDeque;

use stapes_core::{
    ids::{Revision, Sequence, StreamId},
    port::log::Stored,
};

/// What a record costs besides its payload.
const RECORD_BYTES: usize = size_of::<(Stored, Sequence)>() + 64;

/// A bounded ring of records, each with the sequence of its stream's record before.
#[derive(Debug)]
pub(crate) struct Recent {
    records: VecDeque<(Stored, Sequence)>,
    bytes: usize,
    bytes_max: usize,
}

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

    pub(crate) fn get(&self, sequence: Sequence) -> Option<&Stored> {
        Some(&self.records.get(self.index(sequence)?)?.0)
    }

    /// The records from `first` on, when they are all here.
    pub(crate) fn from(&self, first: Sequence) -> Option<impl Iterator<Item = &Stored>> {
        let start = self.index(first)?;
        Some(self.records.range(start..).map(|(record, _)| record))
    }

    /// The records of a stream that ends at `last`, newest first, down to the one after `after`; and
    /// the sequence of the next older one if it is wanted and not here, zero otherwise.
    pub(crate) fn stream(
        &self,
        stream: StreamId,
        after: Revision,
        last: Sequence,
    ) -> (Vec<Stored>, Sequence) {
        let mut newest_first = Vec::new();
        let mut at = last;
        while at.0 > 0 {
            let Some((record, previous)) = self.index(at).map(|index| &self.records[index]) else {
                return (newest_first, at);
            };
            debug_assert_eq!(record.stream, stream);
            if record.revision <= after {
                break;
            }
            newest_first.push(record.clone());
            at = *previous;
        }
        (newest_first, Sequence(0))
    }

    fn index(&self, sequence: Sequence) -> Option<usize> {
        let oldest = self.records.front()?.0.sequence;
        let index = usize::try_from(sequence.0.checked_sub(oldest.0)?).ok()?;
        (index < self.records.len()).then_some(index)
    }
}
