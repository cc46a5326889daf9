//! What is older than memory, by a consumer of the reader's own: it is asked for more before all that
//! it was asked for has come, so that the servers send while the reader works.
//!
//! Any doubt ends it: a record that was skipped, an answer that is odd, silence. The reader then asks
//! for records by their place, which is slower and leaves nothing to doubt, and begins anew.

use std::time::Duration;

use async_nats::{
    Message, StatusCode, Subscriber,
    jetstream::consumer::{AckPolicy, DeliverPolicy, IntoConsumerConfig, pull},
};
use futures::{FutureExt, StreamExt};
use stapes_core::{
    ids::Sequence,
    port::log::{ReadError, Stored},
};
use uuid::Uuid;

use super::{
    Inner, read,
    record::{Arrived, Place},
};
use crate::error::ApiError;

/// Asked for at once. Twice as many records wait for a slow reader at most.
const ASKED_MAX: usize = 2048;
const ASKED_BYTES_MAX: usize = 4 << 20;
/// With so few left to come, more are asked for.
const LEFT_MIN: usize = ASKED_MAX / 2;
/// How long the servers may leave a question open.
const EXPIRES_NANOS: u64 = 5_000_000_000;
/// What is there comes sooner, or something is wrong.
const SILENCE_MAX: Duration = Duration::from_secs(3);
/// How long the servers keep a consumer that nobody asks any more.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(10);
/// Questions that end without a record in a row.
const FRUITLESS_MAX: u32 = 4;

/// Why the consumer is left.
#[derive(Debug, thiserror::Error)]
pub(super) enum Broken {
    #[error("no consumer is made: {0}")]
    Ask(#[from] ApiError),
    #[error("the connection takes no subscriptions: {0}")]
    Subscribe(#[from] async_nats::SubscribeError),
    #[error("the connection takes no questions: {0}")]
    Publish(#[from] async_nats::PublishError),
    #[error("nothing came for {} s", SILENCE_MAX.as_secs())]
    Silence,
    #[error("a record was skipped")]
    Skipped,
    #[error("the servers say {0}")]
    Refused(String),
    #[error(transparent)]
    Read(#[from] ReadError),
}

#[derive(Debug)]
pub(super) struct Backlog {
    messages: Subscriber,
    inbox: String,
    /// Where it is asked for more.
    ask: String,
    /// The record that comes next.
    next: Sequence,
    /// Records that were asked for and did not come yet.
    outstanding: usize,
    fruitless: u32,
    /// Of a commit that is not whole yet.
    partial: Vec<Arrived>,
}

impl Backlog {
    /// The records from `first` on.
    pub(super) async fn open(inner: &Inner, first: Sequence) -> Result<Self, Broken> {
        let client = inner.connection.client();
        let name = format!("backlog-{}", Uuid::new_v4().simple());
        let config = pull::Config {
            name: Some(name.clone()),
            deliver_policy: DeliverPolicy::ByStartSequence { start_sequence: first.0 },
            ack_policy: AckPolicy::None,
            max_deliver: 1,
            inactive_threshold: FORGOTTEN_AFTER,
            memory_storage: true,
            num_replicas: 1,
            ..pull::Config::default()
        };
        let stream = &inner.names.log;
        let question = serde_json::json!({
            "stream_name": stream,
            "config": config.into_consumer_config(),
            "action": "create",
        });
        let create = format!("CONSUMER.CREATE.{stream}.{name}");
        let _: serde_json::Value = inner.connection.ask(&create, &question).await?;
        let inbox = client.new_inbox();
        let messages = client.subscribe(inbox.clone()).await?;
        let ask = format!("$JS.API.CONSUMER.MSG.NEXT.{stream}.{name}");
        let (outstanding, fruitless, partial) = (0, 0, Vec::new());
        Ok(Self { messages, inbox, ask, next: first, outstanding, fruitless, partial })
    }

    /// The next whole commits: what has come, or what comes first. `last` ends a commit and is there.
    pub(super) async fn next(
        &mut self,
        inner: &Inner,
        last: Sequence,
        (records_max, bytes_max): (usize, usize),
    ) -> Result<Vec<Stored>, Broken> {
        let mut arrived = std::mem::take(&mut self.partial);
        let (mut whole, mut bytes) = (0, 0);
        loop {
            self.ask_for_more(inner, last).await?;
            let message = match self.messages.next().now_or_never() {
                Some(message) => message,
                None if whole > 0 => break,
                None => tokio::time::timeout(SILENCE_MAX, self.messages.next())
                    .await
                    .map_err(|_| Broken::Silence)?,
            };
            let message = message.ok_or(Broken::Silence)?;
            if let Some(status) = message.status {
                self.note(status, &message)?;
                continue;
            }
            let record = self.take(inner, message)?;
            bytes += record.payload.len();
            let ends = record.is_last();
            arrived.push(record);
            if ends {
                whole = arrived.len();
                if whole >= records_max || bytes >= bytes_max || self.next > last {
                    break;
                }
            }
        }
        self.partial = arrived.split_off(whole);
        Ok(read::counted(inner, arrived, last)?)
    }

    /// Asks for what is there up to `last` and was not asked for, before the rest of it has come.
    async fn ask_for_more(&mut self, inner: &Inner, last: Sequence) -> Result<(), Broken> {
        if self.outstanding > LEFT_MIN {
            return Ok(());
        }
        let there = usize::try_from((last.0 + 1).saturating_sub(self.next.0)).unwrap_or(usize::MAX);
        let count = there.saturating_sub(self.outstanding).min(ASKED_MAX);
        if count == 0 {
            return Ok(());
        }
        let question = serde_json::json!({
            "batch": count, "max_bytes": ASKED_BYTES_MAX, "expires": EXPIRES_NANOS,
        });
        let (ask, inbox) = (self.ask.clone(), self.inbox.clone());
        let client = inner.connection.client();
        client.publish_with_reply(ask, inbox, question.to_string().into()).await?;
        self.outstanding += count;
        Ok(())
    }

    /// A question ended before all that it asked for came.
    fn note(&mut self, status: StatusCode, message: &Message) -> Result<(), Broken> {
        let left =
            message.headers.as_ref().and_then(|headers| headers.get("Nats-Pending-Messages"));
        let left: Option<usize> = left.and_then(|left| left.as_str().parse().ok());
        self.fruitless += 1;
        match left {
            Some(left) if self.fruitless <= FRUITLESS_MAX => {
                self.outstanding = self.outstanding.saturating_sub(left);
                Ok(())
            }
            Some(_) | None => {
                let description = message.description.as_deref().unwrap_or_default();
                Err(Broken::Refused(format!("{status} {description}")))
            }
        }
    }

    fn take(&mut self, inner: &Inner, message: Message) -> Result<Arrived, Broken> {
        let place = message.reply.as_deref().and_then(Place::parse).ok_or(Broken::Skipped)?;
        if place.sequence != self.next.0 {
            return Err(Broken::Skipped);
        }
        let (subject, headers) = (&message.subject, message.headers.as_ref());
        let record =
            Arrived::parse(&inner.names, place.sequence, subject, headers, message.payload);
        self.next = self.next.next();
        self.outstanding = self.outstanding.saturating_sub(1);
        self.fruitless = 0;
        Ok(record.map_err(ReadError::Corrupt)?)
    }
}
