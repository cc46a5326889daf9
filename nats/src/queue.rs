//! The queue of a node's tasks on JetStream: a durable consumer that knows what is acknowledged.
//!
//! ```text
//! attach: a consumer after the older one's acknowledged prefix, then the older one goes
//!    ▲          │
//!    │          ▼
//!    │     deliver in order ─► node ─► acknowledge        held ones: in progress, again and again
//!    └── silence · an error · a delivery that was skipped
//! ```
//!
//! JetStream brings again what is not acknowledged, but late and behind what is newer. So whoever
//! attaches makes a consumer of his own after the acknowledged prefix, which brings all that is left in
//! order; two names take turns, so that at every moment one of them knows the prefix. Tasks that are
//! in hand already are not given twice.
//!
//! The prefix is also written down as the node's cursor, which is what a node begins with that took its
//! tasks from another log before: what was done there must not come again as new.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_nats::{
    Message, StatusCode, Subscriber,
    client::Request,
    jetstream::{
        ErrorCode,
        consumer::{AckPolicy, DeliverPolicy, Info, IntoConsumerConfig, push},
    },
};
use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use serde::Deserialize;
use stapes_core::{
    ids::{NodeId, Sequence, StreamId, StreamKind},
    port::{
        log::{AppendError, ReadError},
        queue::{Deliveries, Delivery, Tasks},
    },
};
use tokio::{sync::mpsc, task::AbortHandle, time::Instant};
use uuid::Uuid;

use crate::{
    connection::{ANSWER_MAX, Connection},
    error::ApiError,
    log::{Cursors, JetStreamLog, Names, Place},
};

/// How long JetStream waits for an acknowledgement before it delivers again.
const ACK_WAIT: Duration = Duration::from_secs(30);
/// Tasks in hand at most; more wait on the servers.
const IN_HAND_MAX: i64 = 4096;
const HEARTBEAT: Duration = Duration::from_secs(1);
const SILENCE_MAX: Duration = Duration::from_secs(3);
const RETRY_PAUSE_MIN: Duration = Duration::from_millis(100);
const RETRY_PAUSE_MAX: Duration = Duration::from_secs(2);
/// Deliveries that wait for the node.
const WAITING_MAX: usize = 64;

/// The two durable consumers of a node's tasks, which take turns.
pub(crate) fn consumers(node: NodeId) -> [String; 2] {
    ["a", "b"].map(|turn| format!("{}-{turn}", cursor(node)))
}

/// Whose such a consumer is.
fn consumes(consumer: &str) -> Option<NodeId> {
    let (cursor, _turn) = consumer.strip_prefix("node-")?.rsplit_once('-')?;
    cursor.parse().ok()
}

/// How far a node is with its tasks, whichever log they are on.
fn cursor(node: NodeId) -> String {
    format!("node-{}", node.0.simple())
}

/// Removes the queues of nodes that are not among `members`, and says whose they were; for those who
/// may change streams. How far such a node was stays written down: should it come back, what it did
/// does not come as new.
///
/// # Errors
/// When the servers do not answer; what is left is removed the next time.
pub async fn remove_queues_of_others(
    connection: &Connection,
    cluster: Uuid,
    members: &BTreeSet<NodeId>,
) -> Result<BTreeSet<NodeId>, ReadError> {
    let names = Names::new(cluster);
    let mut others = BTreeSet::new();
    let mut offset = 0;
    loop {
        let question = format!("CONSUMER.NAMES.{}", names.log);
        let page: Page =
            connection.ask(&question, &serde_json::json!({ "offset": offset })).await?;
        others.extend(page.consumers.iter().filter_map(|name| consumes(name)));
        offset += page.consumers.len();
        if page.consumers.is_empty() || offset >= page.total {
            break;
        }
    }
    others.retain(|node| !members.contains(node));
    for node in &others {
        let cursors = Cursors::new(connection.clone(), names.clone());
        Inner::new(connection.clone(), cursors, &names, *node).remove_all().await?;
    }
    Ok(others)
}

/// Some of a stream's consumers.
#[derive(Debug, Deserialize)]
struct Page {
    total: usize,
    consumers: Vec<String>,
}

/// A node's tasks in a cluster's log.
#[derive(Debug)]
pub struct JetStreamTasks {
    inner: Arc<Inner>,
    /// The one who brings tasks, while they are asked for.
    attached: Mutex<Option<AbortHandle>>,
}

#[derive(Debug)]
struct Inner {
    connection: Connection,
    cursors: Cursors,
    log: String,
    subject: String,
    node: NodeId,
    /// Of the two that take turns.
    consumers: [String; 2],
    hand: Mutex<Hand>,
}

/// What this process has of the tasks.
#[derive(Debug, Default)]
struct Hand {
    /// Given to the node, with the subject that JetStream waits for an answer on.
    held: BTreeMap<Sequence, String>,
    /// Done with, and perhaps not yet known to be so by JetStream.
    over: BTreeSet<Sequence>,
    /// The newest that was given.
    last: Sequence,
}

/// Why a consumer is left for a new one.
#[derive(Debug, thiserror::Error)]
enum Broken {
    #[error("no consumer is made: {0}")]
    Ask(#[from] ApiError),
    #[error("how far the node is cannot be asked: {0}")]
    Read(#[from] ReadError),
    #[error("the connection takes no subscriptions: {0}")]
    Subscribe(#[from] async_nats::SubscribeError),
    #[error("nothing came for {} s", SILENCE_MAX.as_secs())]
    Silence,
    #[error("a delivery was skipped")]
    Skipped,
    #[error("nobody asks for tasks any more")]
    Unwanted,
}

/// How far a node is.
#[derive(Clone, Copy, Debug)]
struct Known {
    /// The consumer that knows most, of the two.
    newest: Option<usize>,
    /// Up to where all is acknowledged.
    done: Sequence,
}

impl JetStreamTasks {
    /// The tasks of `node`. To be made once a process.
    #[must_use]
    pub fn new(log: &JetStreamLog, node: NodeId) -> Self {
        let (connection, cursors) = (log.connection().clone(), log.cursors().clone());
        let inner = Inner::new(connection, cursors, log.names(), node);
        Self { inner: Arc::new(inner), attached: Mutex::default() }
    }
}

impl Drop for JetStreamTasks {
    fn drop(&mut self) {
        let attached = self.attached.get_mut().unwrap_or_else(PoisonError::into_inner);
        if let Some(attached) = attached.take() {
            attached.abort();
        }
    }
}

/// Up to where all is acknowledged: what the consumer says, and what lay before its beginning. Not
/// every server counts the latter before something is acknowledged.
fn done_of(info: &Info) -> Sequence {
    let before = match info.config.deliver_policy {
        DeliverPolicy::ByStartSequence { start_sequence } => start_sequence.saturating_sub(1),
        DeliverPolicy::All
        | DeliverPolicy::Last
        | DeliverPolicy::New
        | DeliverPolicy::ByStartTime { .. }
        | DeliverPolicy::LastPerSubject => 0,
    };
    Sequence(info.ack_floor.stream_sequence.max(before))
}

#[async_trait]
impl Tasks for JetStreamTasks {
    async fn done(&self) -> Result<Sequence, ReadError> {
        Ok(self.inner.known().await?.done)
    }

    async fn deliver(&self) -> Result<Deliveries, ReadError> {
        let (sender, receiver) = mpsc::channel(WAITING_MAX);
        let mut attached = self.attached.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(before) = attached.take() {
            before.abort();
        }
        let mut hand = self.inner.hand();
        hand.held.clear();
        hand.last = Sequence(0);
        drop(hand);
        let inner = self.inner.clone();
        *attached = Some(tokio::spawn(async move { inner.run(sender).await }).abort_handle());
        let deliveries = futures::stream::unfold(receiver, async |mut receiver| {
            Some((Ok(receiver.recv().await?), receiver))
        });
        Ok(deliveries.boxed())
    }

    async fn acknowledge(&self, task: Sequence) -> Result<(), AppendError> {
        let reply = {
            let mut hand = self.inner.hand();
            hand.over.insert(task);
            hand.held.remove(&task)
        };
        let Some(reply) = reply.filter(|_| self.inner.connection.is_connected()) else {
            return Ok(());
        };
        // An answer is waited for, so that a restart right after knows of it. Without one the task
        // comes again to this process, which acknowledges it again.
        let request = Request::new().payload("+ACK".into()).timeout(Some(ANSWER_MAX));
        if let Err(error) = self.inner.connection.client().send_request(reply, request).await {
            tracing::debug!(%task, %error, "to be acknowledged again");
        }
        Ok(())
    }
}

impl Inner {
    fn new(connection: Connection, cursors: Cursors, names: &Names, node: NodeId) -> Self {
        Self {
            connection,
            cursors,
            log: names.log.clone(),
            subject: names.subject(StreamId::new(StreamKind::Task, node)),
            node,
            consumers: consumers(node),
            hand: Mutex::default(),
        }
    }

    fn hand(&self) -> MutexGuard<'_, Hand> {
        self.hand.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Brings tasks for as long as they are wanted.
    async fn run(&self, sender: mpsc::Sender<Delivery>) {
        let mut pause = RETRY_PAUSE_MIN;
        loop {
            let since = Instant::now();
            let broken = tokio::select! {
                broken = self.follow(&sender) => broken,
                () = self.hold() => return,
            };
            let Err(broken) = broken else { return };
            if matches!(broken, Broken::Unwanted) {
                return;
            }
            tracing::warn!(node = %self.node, reason = %broken, "tasks come by a new consumer");
            if since.elapsed() > RETRY_PAUSE_MAX {
                pause = RETRY_PAUSE_MIN;
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(RETRY_PAUSE_MAX);
        }
    }

    /// Tells JetStream, as long as this is polled, that those in hand are worked on.
    async fn hold(&self) {
        let mut every = tokio::time::interval(ACK_WAIT / 3);
        loop {
            every.tick().await;
            let replies: Vec<_> = self.hand().held.values().cloned().collect();
            for reply in replies {
                // One that is lost is made up for by the next.
                let _ = self.connection.client().publish(reply, Bytes::from_static(b"+WPI")).await;
            }
        }
    }

    /// What the consumers and the cursor know together.
    async fn known(&self) -> Result<Known, ReadError> {
        let done = self.cursors.get(&cursor(self.node)).await?;
        let mut known = Known { newest: None, done };
        for (turn, consumer) in self.consumers.iter().enumerate() {
            let subject = format!("CONSUMER.INFO.{}.{consumer}", self.log);
            match self.connection.ask::<Info>(&subject, &()).await {
                Ok(info) => {
                    let done = done_of(&info);
                    if known.newest.is_none() || done > known.done {
                        known.newest = Some(turn);
                    }
                    known.done = known.done.max(done);
                }
                Err(error) if error.is(ErrorCode::CONSUMER_NOT_FOUND) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(known)
    }

    /// Makes a consumer of what is left, and does away with the older one.
    async fn attach(&self) -> Result<Subscriber, Broken> {
        let Known { newest, done } = self.known().await?;
        let turn = newest.map_or(0, |newest| 1 - newest);
        let name = &self.consumers[turn];
        self.remove(name).await?;
        let deliver_subject = self.connection.client().new_inbox();
        let messages = self.connection.client().subscribe(deliver_subject.clone()).await?;
        let config = push::Config {
            durable_name: Some(name.clone()),
            deliver_subject,
            deliver_policy: DeliverPolicy::ByStartSequence { start_sequence: done.next().0 },
            ack_policy: AckPolicy::Explicit,
            ack_wait: ACK_WAIT,
            max_deliver: -1,
            max_ack_pending: IN_HAND_MAX,
            filter_subject: self.subject.clone(),
            flow_control: true,
            idle_heartbeat: HEARTBEAT,
            ..push::Config::default()
        };
        let question = serde_json::json!({
            "stream_name": self.log,
            "config": config.into_consumer_config(),
            "action": "create",
        });
        let create = format!("CONSUMER.CREATE.{}.{name}.{}", self.log, self.subject);
        let _: serde_json::Value = self.connection.ask(&create, &question).await?;
        // A node must not begin anew because somebody removed its consumers.
        if let Err(error) = self.cursors.set(&cursor(self.node), done).await {
            tracing::warn!(node = %self.node, %error, "the node's cursor is not moved");
        }
        if newest.is_some() {
            self.remove(&self.consumers[1 - turn]).await?;
            self.hand().over.retain(|task| *task > done);
        }
        Ok(messages)
    }

    async fn remove(&self, consumer: &str) -> Result<(), ApiError> {
        let subject = format!("CONSUMER.DELETE.{}.{consumer}", self.log);
        match self.connection.ask::<serde_json::Value>(&subject, &()).await {
            Ok(_) => Ok(()),
            Err(error) if error.is(ErrorCode::CONSUMER_NOT_FOUND) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Nothing is left but the cursor, at what the consumers knew.
    async fn remove_all(&self) -> Result<(), ReadError> {
        let Known { done, .. } = self.known().await?;
        let kept = self.cursors.set(&cursor(self.node), done).await;
        kept.map_err(|error| ReadError::Unavailable(error.into()))?;
        for consumer in &self.consumers {
            self.remove(consumer).await?;
        }
        Ok(())
    }

    /// Brings tasks by one consumer until it is broken.
    async fn follow(&self, sender: &mpsc::Sender<Delivery>) -> Result<(), Broken> {
        let mut messages = self.attach().await?;
        let mut delivered = 0;
        loop {
            let message = tokio::select! {
                biased;
                message = messages.next() => message.ok_or(Broken::Silence)?,
                () = sender.closed() => return Err(Broken::Unwanted),
                () = tokio::time::sleep(SILENCE_MAX) => return Err(Broken::Silence),
            };
            match message.status {
                Some(StatusCode::IDLE_HEARTBEAT) => {
                    if let Some(reply) = message.reply {
                        let _ = self.connection.client().publish(reply, Bytes::new()).await;
                    }
                }
                Some(status) => tracing::debug!(%status, "the consumer of tasks says"),
                None => {
                    let Some(delivery) = self.take(message, &mut delivered).await? else {
                        continue;
                    };
                    sender.send(delivery).await.map_err(|_| Broken::Unwanted)?;
                }
            }
        }
    }

    /// What of a message is new to the node.
    async fn take(
        &self,
        message: Message,
        delivered: &mut u64,
    ) -> Result<Option<Delivery>, Broken> {
        let Some(reply) = message.reply.map(|reply| reply.to_string()) else { return Ok(None) };
        let Some(place) = Place::parse(&reply) else { return Ok(None) };
        *delivered += 1;
        if place.delivered != *delivered {
            return Err(Broken::Skipped);
        }
        let sequence = Sequence(place.sequence);
        {
            let mut hand = self.hand();
            if let Some(waiting) = hand.held.get_mut(&sequence) {
                *waiting = reply;
                return Ok(None);
            }
            if sequence > hand.last && !hand.over.contains(&sequence) {
                hand.last = sequence;
                hand.held.insert(sequence, reply);
                return Ok(Some(Delivery { sequence, payload: message.payload }));
            }
        }
        // It was done with before; if this is lost it comes once more.
        let _ = self.connection.client().publish(reply, Bytes::from_static(b"+ACK")).await;
        Ok(None)
    }
}
