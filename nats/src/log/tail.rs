//! The tail: one consumer a process brings every record, in order, to what this process knows.
//!
//! ```text
//!        ┌────────────── asks the leader, makes a consumer after the head ◄─────────────┐
//!        ▼                                                                              │
//!   follows it: records, heartbeats ── silence · a record skipped · behind the leader ──┘
//! ```
//!
//! The consumer lives in the memory of one server and may vanish with it, with the connection, or
//! without a word; a new one costs a millisecond, so any doubt makes one.

use std::{sync::Arc, time::Duration};

use async_nats::{
    Message, StatusCode, Subscriber,
    jetstream::{
        consumer::{AckPolicy, DeliverPolicy, IntoConsumerConfig, push},
        stream::Info,
    },
};
use futures::{FutureExt, StreamExt};
use stapes_core::ids::Sequence;
use tokio::time::Instant;

use super::{
    Inner,
    record::{Arrived, Place},
    shared::{Fault, Taken},
    stream,
};
use crate::{connection::ANSWER_MAX, error::ApiError};

const HEARTBEAT: Duration = Duration::from_secs(1);
/// A consumer that says nothing at all for so long is gone.
const SILENCE_MAX: Duration = Duration::from_secs(3);
/// How often the leader is asked whether it has more than what came.
const COMPARE_EVERY: Duration = Duration::from_secs(5);
/// How long the servers keep a consumer whose process is gone.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(30);
/// Between two attempts to make a consumer.
pub(super) const RETRY_PAUSE: Duration = Duration::from_millis(200);
/// A leader that has just been chosen may not know all at once; a log that is shorter for so long
/// went backwards.
pub(super) const SHORTER_MAX: Duration = Duration::from_secs(10);
/// Records taken in at once.
const CHUNK: usize = 512;

/// Why a consumer is left for a new one.
#[derive(Debug, thiserror::Error)]
enum Broken {
    #[error("no consumer is made: {0}")]
    Ask(#[from] ApiError),
    #[error("the connection takes no subscriptions: {0}")]
    Subscribe(#[from] async_nats::SubscribeError),
    #[error("nothing came for {} s", SILENCE_MAX.as_secs())]
    Silence,
    #[error("a record was skipped")]
    Skipped,
    #[error("the leader has more than what came")]
    Behind,
    #[error("the log is shorter than it was")]
    Shorter { head: Sequence },
    #[error("the log cannot be trusted")]
    Fault(Fault),
}

/// Follows the log for as long as the process knows it, or until it cannot be trusted.
pub(super) async fn run(inner: Arc<Inner>) {
    let mut shorter_since: Option<Instant> = None;
    loop {
        let head = inner.shared.head();
        let broken = match follow(&inner).await {
            Ok(never) => match never {},
            Err(broken) => broken,
        };
        match broken {
            Broken::Fault(fault) => return inner.shared.fail(fault),
            Broken::Shorter { head: found } => {
                let since = *shorter_since.get_or_insert_with(Instant::now);
                if since.elapsed() > SHORTER_MAX {
                    let asked = inner.shared.head();
                    return inner.shared.fail(Fault::Regressed { asked, head: found });
                }
            }
            Broken::Ask(_)
            | Broken::Subscribe(_)
            | Broken::Silence
            | Broken::Skipped
            | Broken::Behind => shorter_since = None,
        }
        tracing::debug!(%head, reason = %broken, "following the log by a new consumer");
        tokio::time::sleep(RETRY_PAUSE).await;
    }
}

enum Never {}

/// Follows by one consumer until it is broken.
async fn follow(inner: &Inner) -> Result<Never, Broken> {
    let info = stream::info(&inner.connection, &inner.names.log).await?;
    check(inner, &info)?;
    let mut messages = subscribe(inner).await?;
    let mut compare = tokio::time::interval_at(Instant::now() + COMPARE_EVERY, COMPARE_EVERY);
    let mut silent_at = Instant::now() + SILENCE_MAX;
    loop {
        tokio::select! {
            message = messages.next() => {
                let Some(message) = message else { return Err(Broken::Silence) };
                silent_at = Instant::now() + SILENCE_MAX;
                take(inner, message, &mut messages).await?;
            }
            () = tokio::time::sleep_until(silent_at) => return Err(Broken::Silence),
            _ = compare.tick() => {
                let before = inner.shared.head();
                let info = stream::info(&inner.connection, &inner.names.log).await?;
                check(inner, &info)?;
                if info.state.last_sequence > before.0 && inner.shared.head() == before {
                    // What the leader had before it answered is on its way, or will never come.
                    let arrived = inner.arrives(Sequence(info.state.last_sequence), ANSWER_MAX);
                    tokio::pin!(arrived);
                    let all = loop {
                        tokio::select! {
                            all = &mut arrived => break all,
                            Some(message) = messages.next() => {
                                take(inner, message, &mut messages).await?;
                            }
                        }
                    };
                    if !all {
                        return Err(Broken::Behind);
                    }
                    silent_at = Instant::now() + SILENCE_MAX;
                }
            }
        }
    }
}

/// What the leader says must fit what is known.
fn check(inner: &Inner, info: &Info) -> Result<(), Broken> {
    inner.note(info);
    let state = &info.state;
    if info.created != inner.created {
        let what = "it was removed and made anew".to_owned();
        return Err(Broken::Fault(Fault::Corrupt(what)));
    }
    if state.messages > 0 && state.first_sequence > 1 {
        return Err(Broken::Fault(Fault::Gap { missing: Sequence(1) }));
    }
    let head = Sequence(state.last_sequence);
    if head < inner.shared.head() {
        return Err(Broken::Shorter { head });
    }
    if head == inner.shared.head() {
        inner.shared.note_caught_up();
    }
    Ok(())
}

async fn subscribe(inner: &Inner) -> Result<Subscriber, Broken> {
    let client = inner.connection.client();
    let deliver_subject = client.new_inbox();
    let messages = client.subscribe(deliver_subject.clone()).await?;
    let name = format!("tail-{}", uuid::Uuid::new_v4().simple());
    let config = push::Config {
        name: Some(name.clone()),
        deliver_subject,
        deliver_policy: DeliverPolicy::ByStartSequence {
            start_sequence: inner.shared.head().next().0,
        },
        ack_policy: AckPolicy::None,
        max_deliver: 1,
        flow_control: true,
        idle_heartbeat: HEARTBEAT,
        inactive_threshold: FORGOTTEN_AFTER,
        memory_storage: true,
        num_replicas: 1,
        ..push::Config::default()
    };
    let stream = &inner.names.log;
    let question = serde_json::json!({
        "stream_name": stream,
        "config": config.into_consumer_config(),
        "action": "create",
    });
    let _: serde_json::Value =
        inner.connection.ask(&format!("CONSUMER.CREATE.{stream}.{name}"), &question).await?;
    Ok(messages)
}

/// Takes in a message and those that came with it.
async fn take(inner: &Inner, first: Message, messages: &mut Subscriber) -> Result<(), Broken> {
    let mut arrived = Vec::new();
    let mut next = Some(first);
    while let Some(message) = next {
        match message.status {
            // A heartbeat, or the question whether more may come.
            Some(StatusCode::IDLE_HEARTBEAT) => {
                if let Some(reply) = message.reply {
                    // An answer that is lost shows as silence.
                    let _ = inner.connection.client().publish(reply, bytes::Bytes::new()).await;
                }
            }
            Some(status) => {
                tracing::debug!(%status, description = ?message.description, "the consumer says");
            }
            None => arrived.push(parse(inner, message)?),
        }
        next = if arrived.len() < CHUNK { messages.next().now_or_never().flatten() } else { None };
    }
    if arrived.is_empty() {
        return Ok(());
    }
    match inner.shared.deliver(arrived) {
        Ok(Taken::InOrder) => Ok(()),
        Ok(Taken::Skipped) => Err(Broken::Skipped),
        Err(fault) => Err(Broken::Fault(fault)),
    }
}

fn parse(inner: &Inner, message: Message) -> Result<Arrived, Broken> {
    let odd = |what| Broken::Fault(Fault::Corrupt(what));
    let place = message.reply.as_deref().and_then(Place::parse);
    let sequence = place
        .map(|place| place.sequence)
        .ok_or_else(|| odd(format!("a message on {} came without a sequence", message.subject)))?;
    let headers = message.headers.as_ref();
    Arrived::parse(&inner.names, sequence, &message.subject, headers, message.payload).map_err(odd)
}
