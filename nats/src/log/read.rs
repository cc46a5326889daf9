//! Records that are no longer in memory, by batches from the servers.
//!
//! Any replica answers, so an answer may be behind; it is never wrong, and what is missing of it is
//! asked for again, at last from the leader.

use std::time::Duration;

use async_nats::{Message, StatusCode, header};
use futures::StreamExt;
use stapes_core::{
    ids::{Revision, Sequence, StreamId},
    port::log::{PARTS_MAX, ReadError, Stored},
};
use tokio::time::Instant;

use super::{Inner, record::Arrived, shared::End};
use crate::error::ApiError;

/// Asked for at once.
const BATCH_RECORDS_MAX: usize = 2048;
const BATCH_BYTES_MAX: usize = 4 << 20;
/// How long a server may pause within an answer.
const PAUSE_MAX: Duration = Duration::from_secs(3);
/// How long records that are there may not be had.
const MISSING_MAX: Duration = Duration::from_secs(15);
/// Attempts with any replica before the leader is asked.
const REPLICA_ATTEMPTS: u32 = 3;

/// How much is wanted.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// Nothing behind this, which is there.
    pub last: Sequence,
    pub records: usize,
    pub bytes: usize,
}

/// The records from `first` on, as many as `limits` say, all there.
pub(super) async fn range(
    inner: &Inner,
    first: Sequence,
    limits: Limits,
) -> Result<Vec<Stored>, ReadError> {
    let mut records: Vec<Stored> = Vec::new();
    let (mut next, mut bytes) = (first, 0);
    let mut patience = Patience::new();
    while next <= limits.last && records.len() < limits.records && bytes < limits.bytes {
        let there = usize::try_from(limits.last.0 - next.0 + 1).unwrap_or(usize::MAX);
        let wanted = there.min(limits.records - records.len()).min(BATCH_RECORDS_MAX);
        let arrived = batch(inner, next, &inner.names.all(), wanted, patience.attempts).await;
        let before = next;
        for record in counted(inner, patience.note(arrived)?, limits.last)? {
            if record.sequence != next {
                break;
            }
            bytes += record.payload.len();
            next = next.next();
            records.push(record);
        }
        if next == before {
            patience.pause(ReadError::Gap { missing: next }).await?;
        } else {
            patience = Patience::new();
        }
    }
    Ok(records)
}

/// The records from `first` on, about as many as `limits` say, ending with a whole commit.
pub(super) async fn whole_commits(
    inner: &Inner,
    first: Sequence,
    limits: Limits,
) -> Result<Vec<Stored>, ReadError> {
    let mut records = range(inner, first, limits).await?;
    let whole = records.iter().rposition(|record| record.last_in_commit);
    if let Some(last) = whole {
        records.truncate(last + 1);
        return Ok(records);
    }
    let rest = Limits { records: records.len() + PARTS_MAX, bytes: usize::MAX, ..limits };
    let mut records = range(inner, first, rest).await?;
    let whole = records.iter().position(|record| record.last_in_commit);
    records.truncate(whole.map_or(0, |last| last + 1));
    Ok(records)
}

/// The records of a stream after `after` up to `end`, oldest first.
pub(super) async fn stream(
    inner: &Inner,
    stream: StreamId,
    after: Revision,
    end: End,
) -> Result<Vec<Stored>, ReadError> {
    let subject = inner.names.subject(stream);
    let mut records: Vec<Stored> = Vec::new();
    let (mut next, mut at) = (Sequence(1), Revision(0));
    let mut patience = Patience::new();
    while at < end.revision {
        let missing = usize::try_from(end.revision.0 - at.0).unwrap_or(usize::MAX);
        let wanted = missing.min(BATCH_RECORDS_MAX);
        let arrived = batch(inner, next, &subject, wanted, patience.attempts).await;
        let before = at;
        for record in counted(inner, patience.note(arrived)?, end.sequence)? {
            if record.revision != at.next() {
                break;
            }
            (next, at) = (record.sequence.next(), record.revision);
            if record.revision > after {
                records.push(record);
            }
        }
        if at == before {
            patience.pause(ReadError::Gap { missing: end.sequence }).await?;
        } else {
            patience = Patience::new();
        }
    }
    Ok(records)
}

/// The records up to `last`, which is known here, each with its revision.
pub(super) fn counted(
    inner: &Inner,
    arrived: Vec<Arrived>,
    last: Sequence,
) -> Result<Vec<Stored>, ReadError> {
    let state = inner.shared.read();
    let known = arrived.into_iter().take_while(|arrived| arrived.sequence <= last);
    let stored = |arrived: Arrived| match state.revision(&arrived) {
        Some(revision) => Ok(arrived.stored(revision)),
        None => Err(ReadError::Corrupt(format!(
            "record {} is not the one that was read before",
            arrived.sequence
        ))),
    };
    known.map(stored).collect()
}

/// How often, and since when, what is there was not had.
struct Patience {
    attempts: u32,
    until: Instant,
}

impl Patience {
    fn new() -> Self {
        Self { attempts: 0, until: Instant::now() + MISSING_MAX }
    }

    /// An answer that did not come is one without records, until patience ends.
    fn note(&self, answer: Result<Vec<Arrived>, ReadError>) -> Result<Vec<Arrived>, ReadError> {
        match answer {
            Err(ReadError::Unavailable(error)) if Instant::now() < self.until => {
                tracing::debug!(%error, "reading the log again");
                Ok(Vec::new())
            }
            answer => answer,
        }
    }

    async fn pause(&mut self, missing: ReadError) -> Result<(), ReadError> {
        if Instant::now() >= self.until {
            return Err(missing);
        }
        self.attempts += 1;
        tokio::time::sleep(Duration::from_millis(10) * self.attempts.min(50)).await;
        Ok(())
    }
}

/// Up to `count` records on `subject` from `first` on.
async fn batch(
    inner: &Inner,
    first: Sequence,
    subject: &str,
    count: usize,
    attempts: u32,
) -> Result<Vec<Arrived>, ReadError> {
    if !inner.connection.is_connected() {
        return Err(ApiError::NotConnected.into());
    }
    if attempts >= REPLICA_ATTEMPTS {
        return from_leader(inner, first, subject).await;
    }
    let client = inner.connection.client();
    let question = serde_json::json!({
        "seq": first.0, "next_by_subj": subject, "batch": count, "max_bytes": BATCH_BYTES_MAX,
    });
    let inbox = client.new_inbox();
    let unavailable = |error: crate::error::Source| ReadError::Unavailable(error);
    let mut answers =
        client.subscribe(inbox.clone()).await.map_err(|error| unavailable(error.into()))?;
    let ask = format!("$JS.API.DIRECT.GET.{}", inner.names.log);
    client
        .publish_with_reply(ask, inbox, question.to_string().into())
        .await
        .map_err(|error| unavailable(error.into()))?;
    let mut records = Vec::with_capacity(count);
    while records.len() < count {
        let answer = tokio::time::timeout(PAUSE_MAX, answers.next()).await;
        let answer = answer.map_err(|_| ReadError::from(ApiError::TimedOut))?;
        let Some(message) = answer else { return Err(ApiError::NotConnected.into()) };
        match message.status {
            None => records.push(parse(inner, message)?),
            Some(StatusCode::NO_RESPONDERS) => return Err(ApiError::NoResponders.into()),
            // The end of what there is, or nothing.
            Some(_) => break,
        }
    }
    Ok(records)
}

/// The first record on `subject` from `first` on, as the leader has it.
async fn from_leader(
    inner: &Inner,
    first: Sequence,
    subject: &str,
) -> Result<Vec<Arrived>, ReadError> {
    let unavailable = |error: crate::error::Source| ReadError::Unavailable(error);
    let stream = inner
        .jetstream
        .get_stream_no_info(&inner.names.log)
        .await
        .map_err(|error| unavailable(error.into()))?;
    let message = stream.raw_message_builder().sequence(first.0).next_by_subject(subject);
    let message = message.send().await.map_err(|error| unavailable(error.into()))?;
    let (subject, headers) = (message.subject, message.headers);
    let arrived =
        Arrived::parse(&inner.names, message.sequence, &subject, Some(&headers), message.payload);
    Ok(vec![arrived.map_err(ReadError::Corrupt)?])
}

fn parse(inner: &Inner, message: Message) -> Result<Arrived, ReadError> {
    let headers = message.headers.unwrap_or_default();
    let text = |name| headers.get(name).map(|value| value.as_str());
    let sequence = text(header::NATS_SEQUENCE).and_then(|text| text.parse().ok());
    let subject = text(header::NATS_SUBJECT);
    let (Some(sequence), Some(subject)) = (sequence, subject) else {
        return Err(ReadError::Corrupt("a record came without its place".to_owned()));
    };
    Arrived::parse(&inner.names, sequence, subject, Some(&headers), message.payload)
        .map_err(ReadError::Corrupt)
}
