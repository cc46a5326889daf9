//! Reading: the newest records from memory, the others from the segment files.

use std::io;

use bytes::Bytes;
use stapes_core::{
    ids::{Revision, Sequence, StreamId},
    port::log::{ReadError, Stored},
};

use crate::{
    frame::{BadFrame, Frame},
    segment,
    shared::{SegmentFile, Shared},
};

/// Read from a file at once when records are read in a row.
const CHUNK_BYTES: usize = 1 << 20;
/// Read from a file for a single record; most frames are smaller.
const PEEK_BYTES: usize = 4096;
/// Records of a stream that are gathered from memory under the lock, not more at once.
const RECENT_STREAM_MAX: usize = 1024;

/// Where a record's frame lies and how far its segment can be read.
struct Located {
    segment: SegmentFile,
    offset: u32,
    end: u32,
}

impl Shared {
    /// Where the record `sequence` lies; `None` after the head.
    fn locate(&self, sequence: Sequence) -> Result<Option<Located>, ReadError> {
        let published = self.read();
        if sequence > published.head || sequence.0 == 0 {
            return Ok(None);
        }
        if sequence >= published.active.first {
            let index = usize::try_from(sequence.0 - published.active.first.0);
            let offset = index.ok().and_then(|index| published.offsets.get(index).copied());
            let offset = offset.ok_or(ReadError::Gap { missing: sequence })?;
            let (segment, end) = (published.active.clone(), published.end);
            return Ok(Some(Located { segment, offset, end }));
        }
        let at = published.sealed.partition_point(|sealed| sealed.last() < sequence);
        let sealed = published.sealed.get(at).cloned();
        drop(published);
        let sealed = sealed.ok_or(ReadError::Gap { missing: sequence })?;
        let offset =
            sealed.offset(sequence).map_err(|error| unreadable(&sealed.segment, &error))?;
        let (segment, end) = (sealed.segment.clone(), sealed.identity.end);
        if offset >= end {
            let path = segment.path.with_extension("idx");
            return Err(self.damaged(format!(
                "{} is damaged: remove it and start again, it is built anew",
                path.display()
            )));
        }
        Ok(Some(Located { segment, offset, end }))
    }

    /// At least `count` records from `first` on, whole commits, fewer only at the head; stops
    /// early, at the end of a commit, when it has read `bytes_max`.
    pub(crate) fn read_files(
        &self,
        first: Sequence,
        count: usize,
        bytes_max: usize,
    ) -> Result<Vec<Stored>, ReadError> {
        let mut records = Vec::new();
        let (mut next, mut bytes) = (first, 0);
        while records.len() < count && bytes < bytes_max {
            let Some(located) = self.locate(next)? else { break };
            bytes += self.read_chunk(&located, next, count, &mut records)?;
            match records.last() {
                Some(last) if last.sequence >= next => next = last.sequence.next(),
                _ => return Err(self.wrong_frame(&located, next, BadFrame::Sequence)),
            }
        }
        Ok(records)
    }

    /// Reads whole frames from where `located` says; the records from `first` on are kept.
    fn read_chunk(
        &self,
        located: &Located,
        first: Sequence,
        count: usize,
        records: &mut Vec<Stored>,
    ) -> Result<usize, ReadError> {
        let mut next = first;
        let mut length = CHUNK_BYTES;
        let available = (located.end - located.offset) as usize;
        loop {
            let bytes = read(&located.segment, located.offset, length.min(available))?;
            let mut at = 0;
            while at < bytes.len() && records.len() < count {
                let offset = located.offset + u32::try_from(at).expect("a chunk is small");
                match Frame::parse(&bytes[at..], located.segment.salt, offset) {
                    Ok(frame) => {
                        let size = frame.size() as usize;
                        if frame.is_seal() || frame.first > next || frame.last() < next {
                            return Err(self.wrong_frame(located, next, BadFrame::Sequence));
                        }
                        decode(&frame, bytes.slice(at..at + size), next, records)
                            .map_err(|bad| self.wrong_frame(located, next, bad))?;
                        next = frame.last().next();
                        at += size;
                    }
                    Err(BadFrame::Short(size)) if at == 0 && size <= available => {
                        length = size;
                        break;
                    }
                    // The rest of it is in the next chunk.
                    Err(BadFrame::Short(size)) if at + size <= available => return Ok(at),
                    Err(bad) => return Err(self.wrong_frame(located, next, bad)),
                }
            }
            if at > 0 {
                return Ok(at);
            }
        }
    }

    /// One record, and the sequence of its stream's record before.
    fn read_one(&self, sequence: Sequence) -> Result<(Stored, Sequence), ReadError> {
        let gap = ReadError::Gap { missing: sequence };
        let located = self.locate(sequence)?.ok_or(gap)?;
        let available = (located.end - located.offset) as usize;
        let mut length = PEEK_BYTES.min(available);
        loop {
            let bytes = read(&located.segment, located.offset, length)?;
            match Frame::parse(&bytes, located.segment.salt, located.offset) {
                Ok(frame) => {
                    let wrong = |bad| self.wrong_frame(&located, sequence, bad);
                    let index = sequence.0.checked_sub(frame.first.0).map(usize::try_from);
                    let Some(Ok(index)) = index else { return Err(wrong(BadFrame::Sequence)) };
                    let (record, range) = frame
                        .records()
                        .nth(index)
                        .unwrap_or(Err(BadFrame::Sequence))
                        .map_err(wrong)?;
                    let stored = Stored {
                        sequence,
                        stream: record.stream,
                        revision: record.revision,
                        commit: frame.commit,
                        last_in_commit: sequence == frame.last(),
                        payload: bytes.slice(range),
                    };
                    return Ok((stored, record.previous));
                }
                Err(BadFrame::Short(size)) if size <= available && size > length => length = size,
                Err(bad) => return Err(self.wrong_frame(&located, sequence, bad)),
            }
        }
    }

    /// The newest part of a stream after `after` that is in memory, newest first, and the sequence
    /// of the record to go on with, zero when there is none.
    pub(crate) fn recent_stream(
        &self,
        stream: StreamId,
        after: Revision,
    ) -> (Vec<Stored>, Sequence) {
        let published = self.read();
        let tail = published.tail(stream);
        let mut newest_first = Vec::new();
        if tail.revision <= after {
            return (newest_first, Sequence(0));
        }
        let mut at = tail.sequence;
        while newest_first.len() < RECENT_STREAM_MAX
            && let Some((record, previous)) = published.recent.get(at)
        {
            newest_first.push(record.clone());
            at = if record.revision.0 <= after.0 + 1 { Sequence(0) } else { *previous };
        }
        (newest_first, at)
    }

    /// Goes on with a stream from the record `at` back to the one after `after`.
    pub(crate) fn older_stream(
        &self,
        stream: StreamId,
        after: Revision,
        mut newest_first: Vec<Stored>,
        mut at: Sequence,
    ) -> Result<Vec<Stored>, ReadError> {
        while at.0 != 0 {
            let (record, previous) = self.read_one(at)?;
            let newer = newest_first.last().map(|newer: &Stored| newer.revision.0);
            let fits = record.stream == stream
                && previous < at
                && newer.is_none_or(|newer| newer == record.revision.0 + 1)
                && (previous.0 == 0) == (record.revision.0 == 1);
            if !fits {
                let what = format!("record {at} is not where the records of {stream} say");
                return Err(self.damaged(what));
            }
            at = if record.revision.0 <= after.0 + 1 { Sequence(0) } else { previous };
            newest_first.push(record);
        }
        newest_first.reverse();
        Ok(newest_first)
    }

    fn wrong_frame(&self, located: &Located, sequence: Sequence, bad: BadFrame) -> ReadError {
        self.damaged(format!(
            "{}: the commit with record {sequence} at offset {} cannot be trusted: {bad}",
            located.segment.path.display(),
            located.offset,
        ))
    }
}

/// The records of a frame from `first` on. Their payloads share `bytes`, which are the frame's.
pub(crate) fn decode(
    frame: &Frame<'_>,
    bytes: Bytes,
    first: Sequence,
    into: &mut Vec<Stored>,
) -> Result<(), BadFrame> {
    let mut sequence = frame.first;
    for record in frame.records() {
        let (record, range) = record?;
        if sequence >= first {
            into.push(Stored {
                sequence,
                stream: record.stream,
                revision: record.revision,
                commit: frame.commit,
                last_in_commit: sequence == frame.last(),
                payload: bytes.slice(range),
            });
        }
        sequence = sequence.next();
    }
    Ok(())
}

fn read(segment: &SegmentFile, offset: u32, length: usize) -> Result<Bytes, ReadError> {
    let mut bytes = Vec::new();
    segment::read_up_to(&segment.file, &mut bytes, offset.into(), length)
        .map_err(|error| unreadable(segment, &error))?;
    // A file that became shorter reads as damage, not as an endless wait for the rest.
    bytes.resize(length, 0);
    Ok(Bytes::from(bytes))
}

fn unreadable(segment: &SegmentFile, error: &io::Error) -> ReadError {
    ReadError::Unavailable(format!("{}: {error}", segment.path.display()).into())
}
