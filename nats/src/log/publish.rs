//! One message, or one atomic batch, on its way to the stream's leader, and what the answer means.
//!
//! A batch is messages that carry its id and their place in it; the last one says that it is the last,
//! and only it is answered. Servers throw away what is incomplete.

use std::time::Duration;

use async_nats::{
    HeaderMap,
    client::{Request, RequestErrorKind},
    header,
    jetstream::{self, ErrorCode, response::Response},
};
use bytes::Bytes;
use serde::Deserialize;
use stapes_core::ids::Sequence;

use crate::{
    connection::Connection,
    error::{ApiError, Source},
};

/// How long the leader may take to answer.
const ACK_MAX: Duration = Duration::from_secs(5);

/// What became of a message or a batch.
#[derive(Debug)]
pub(super) enum Outcome {
    /// It is durable; this is the sequence of its last message.
    Stored { last: Sequence },
    /// The servers know its id, or are just storing it.
    Known,
    /// One of its subjects does not end where it was expected.
    Stale,
    /// There is no room.
    Full(String),
    /// It was not stored; another attempt may be better.
    NotStored(Source),
    /// No answer came.
    Unknown(Source),
}

/// A message to be stored.
#[derive(Debug)]
pub(super) struct Outgoing {
    pub subject: String,
    pub headers: HeaderMap,
    pub payload: Bytes,
}

#[derive(Deserialize)]
struct Ack {
    seq: u64,
    #[serde(default)]
    duplicate: bool,
}

pub(super) async fn publish(connection: &Connection, message: Outgoing) -> Outcome {
    if !connection.is_connected() {
        return Outcome::NotStored(ApiError::NotConnected.into());
    }
    let Outgoing { subject, headers, payload } = message;
    let request = Request::new().headers(headers).payload(payload).timeout(Some(ACK_MAX));
    match connection.client().send_request(subject, request).await {
        Ok(answer) => read(&answer.payload),
        Err(error) => match error.kind() {
            RequestErrorKind::NoResponders => Outcome::NotStored(ApiError::NoResponders.into()),
            RequestErrorKind::InvalidSubject | RequestErrorKind::MaxPayloadExceeded => {
                Outcome::NotStored(error.into())
            }
            RequestErrorKind::TimedOut => Outcome::Unknown(ApiError::TimedOut.into()),
            RequestErrorKind::Other => Outcome::Unknown(error.into()),
        },
    }
}

/// Stores all messages, in order and nothing between them, or none.
pub(super) async fn publish_batch(connection: &Connection, mut messages: Vec<Outgoing>) -> Outcome {
    let id = uuid::Uuid::new_v4().simple().to_string();
    for (number, message) in (1..).zip(&mut messages) {
        message.headers.insert(header::NATS_BATCH_ID, id.as_str());
        message.headers.insert(header::NATS_BATCH_SEQUENCE, number.to_string());
    }
    let Some(mut last) = messages.pop() else {
        return Outcome::NotStored("a batch has messages".into());
    };
    if !connection.is_connected() {
        return Outcome::NotStored(ApiError::NotConnected.into());
    }
    for Outgoing { subject, headers, payload } in messages {
        // Without its last message a batch is nothing.
        let sent = connection.client().publish_with_headers(subject, headers, payload).await;
        if let Err(error) = sent {
            return Outcome::NotStored(error.into());
        }
    }
    last.headers.insert(header::NATS_BATCH_COMMIT, header::NATS_BATCH_COMMIT_FINAL);
    publish(connection, last).await
}

fn read(answer: &[u8]) -> Outcome {
    match serde_json::from_slice(answer) {
        Ok(Response::Ok(Ack { duplicate: true, .. })) => Outcome::Known,
        Ok(Response::Ok(Ack { seq, duplicate: false })) => Outcome::Stored { last: Sequence(seq) },
        Ok(Response::Err { error }) => refused(error),
        Err(error) => Outcome::Unknown(error.into()),
    }
}

fn refused(error: jetstream::Error) -> Outcome {
    match error.error_code() {
        ErrorCode::STREAM_WRONG_LAST_SEQUENCE | ErrorCode::STREAM_WRONG_LAST_SEQUENCE_CONSTANT => {
            Outcome::Stale
        }
        ErrorCode::ATOMIC_PUBLISH_CONTAINS_DUPLICATE_MESSAGE
        | ErrorCode::STREAM_DUPLICATE_MESSAGE_CONFLICT => Outcome::Known,
        ErrorCode::ACCOUNT_RESOURCES_EXCEEDED
        | ErrorCode::INSUFFICIENT_RESOURCES
        | ErrorCode::STORAGE_RESOURCES_EXCEEDED => Outcome::Full(error.to_string()),
        ErrorCode::STREAM_STORE_FAILED => {
            let text = error.to_string();
            match ["maximum bytes", "no space", "maximum messages", "resource limits"]
                .iter()
                .any(|words| text.contains(words))
            {
                true => Outcome::Full(text),
                // The store may hold it, or not.
                false => Outcome::Unknown(error.into()),
            }
        }
        _ => Outcome::NotStored(error.into()),
    }
}
