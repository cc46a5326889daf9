//! The cursors: one message each, of which the newest is kept, on a JetStream stream of their own.
//! They are read from the leader, so that what was set is what is read.

use async_nats::jetstream::stream::LastRawMessageErrorKind;
use stapes_core::{
    ids::Sequence,
    port::log::{AppendError, ReadError},
};

use super::{
    publish::{Outcome, Outgoing, publish},
    record::Names,
};
use crate::connection::Connection;

/// A cluster's cursors.
#[derive(Clone, Debug)]
pub(crate) struct Cursors {
    connection: Connection,
    names: Names,
}

impl Cursors {
    pub(crate) fn new(connection: Connection, names: Names) -> Self {
        Self { connection, names }
    }

    pub(crate) async fn get(&self, name: &str) -> Result<Sequence, ReadError> {
        let unavailable = |error: crate::error::Source| ReadError::Unavailable(error);
        let stream = self
            .connection
            .jetstream()
            .get_stream_no_info(&self.names.cursors)
            .await
            .map_err(|error| unavailable(error.into()))?;
        match stream.get_last_raw_message_by_subject(&self.names.cursor(name)).await {
            Ok(message) => std::str::from_utf8(&message.payload)
                .ok()
                .and_then(|text| text.parse().ok())
                .map(Sequence)
                .ok_or_else(|| ReadError::Corrupt(format!("the cursor {name} is no number"))),
            Err(error) => match error.kind() {
                LastRawMessageErrorKind::NoMessageFound => Ok(Sequence(0)),
                LastRawMessageErrorKind::InvalidSubject
                | LastRawMessageErrorKind::JetStream(_)
                | LastRawMessageErrorKind::Other => Err(unavailable(error.into())),
            },
        }
    }

    pub(crate) async fn set(&self, name: &str, at: Sequence) -> Result<(), AppendError> {
        let subject = self.names.cursor(name);
        let headers = async_nats::HeaderMap::new();
        let message = Outgoing { subject, headers, payload: at.to_string().into() };
        match publish(&self.connection, message).await {
            Outcome::Stored { .. } | Outcome::Known => Ok(()),
            Outcome::Unknown(cause) => Err(AppendError::OutcomeUnknown(cause)),
            Outcome::Full(what) => Err(AppendError::Full(what)),
            Outcome::Stale => Err(AppendError::Unavailable("the cursor moved meanwhile".into())),
            Outcome::NotStored(cause) => Err(AppendError::Unavailable(cause)),
        }
    }
}
