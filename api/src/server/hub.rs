//! One follower of the log for all clients: it turns records into events, and wakes whoever waits
//! for an operation.
//!
//! ```text
//! log ─► views ─► hub ─┬─► /1.0/events (a bounded queue for each client; too slow is out)
//!                      └─► waits for operations
//! ```
//!
//! The backend tells a record after the views hold it, so whoever hears of an operation's end can
//! read what it brought.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, PoisonError, Weak},
    time::{Duration, Instant},
};

use futures::StreamExt;
use serde_json::json;
use stapes_core::{
    event::Event as Fact,
    ids::{OperationId, Sequence, StreamKind},
    operation,
    record::{Actor, Body, Protocol},
};
use tokio::sync::{Notify, broadcast};

use super::{Api, Inner, lifecycle, show};
use crate::{
    backend::{Followed, Told},
    wire::{
        Time,
        event::{Event, Lifecycle, Requestor},
    },
};

/// Events that a client may lag behind before it is disconnected.
const QUEUE: usize = 1000;
/// How long an operation that ended is still listed.
const LISTED_FOR: Duration = Duration::from_secs(5);
/// Ended operations that are remembered for the list at most.
const LISTED_MAX: usize = 4096;
/// Before the log is followed again after it broke.
const AGAIN_AFTER: Duration = Duration::from_millis(500);

/// An event with what decides who gets it.
#[derive(Clone, Debug)]
pub(super) struct Sent {
    pub(super) kind: &'static str,
    /// `None`: not of any project.
    pub(super) project: Option<String>,
    pub(super) text: Arc<str>,
}

#[derive(Debug)]
pub(super) struct Hub {
    events: broadcast::Sender<Sent>,
    waits: Mutex<HashMap<OperationId, Weak<Notify>>>,
    ended: Mutex<VecDeque<(Instant, OperationId)>>,
}

impl Hub {
    pub(super) fn new() -> Self {
        Self {
            events: broadcast::Sender::new(QUEUE),
            waits: Mutex::default(),
            ended: Mutex::default(),
        }
    }

    pub(super) fn subscribe(&self) -> broadcast::Receiver<Sent> {
        self.events.subscribe()
    }

    /// Sends an event that is not of the log.
    pub(super) fn send(&self, sent: Sent) {
        // Nobody listening is fine.
        let _ = self.events.send(sent);
    }

    /// Notified when the operation ends, if it is asked before that.
    pub(super) fn wait(&self, operation: OperationId) -> Arc<Notify> {
        let mut waits = self.waits.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(notify) = waits.get(&operation).and_then(Weak::upgrade) {
            return notify;
        }
        // Those whose waiters have left.
        waits.retain(|_, notify| notify.strong_count() > 0);
        let notify = Arc::new(Notify::new());
        waits.insert(operation, Arc::downgrade(&notify));
        notify
    }

    /// Operations that ended a moment ago.
    pub(super) fn recently_ended(&self) -> Vec<OperationId> {
        let mut ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
        while ended.front().is_some_and(|(at, _)| at.elapsed() > LISTED_FOR) {
            ended.pop_front();
        }
        ended.iter().map(|(_, id)| *id).collect()
    }

    fn operation_ended(&self, operation: OperationId) {
        let mut ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
        if ended.len() == LISTED_MAX {
            ended.pop_front();
        }
        ended.push_back((Instant::now(), operation));
        drop(ended);
        let mut waits = self.waits.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(notify) = waits.remove(&operation).and_then(|notify| notify.upgrade()) {
            notify.notify_waiters();
        }
    }

    /// Wakes every waiter to look for itself.
    fn wake_all(&self) {
        let waits = self.waits.lock().unwrap_or_else(PoisonError::into_inner);
        waits.values().filter_map(Weak::upgrade).for_each(|notify| notify.notify_waiters());
    }
}

/// Follows the log for as long as the API is there.
pub(super) async fn follow(api: Weak<Inner>) {
    let mut after: Option<Sequence> = None;
    while let Some(strong) = api.upgrade() {
        let following = strong.backend.follow(after).await;
        strong.hub.wake_all();
        drop(strong);
        match following {
            Ok(mut following) => {
                while let Some(Ok(followed)) = following.next().await {
                    let Some(api) = api.upgrade().map(Api) else { return };
                    match followed {
                        Followed::Told(told) => {
                            after = Some(told.recorded.sequence);
                            tell(&api, &told).await;
                        }
                        Followed::CaughtUp(sequence) => after = after.max(Some(sequence)),
                        Followed::Gap { to, .. } => after = Some(to),
                    }
                }
            }
            Err(error) => tracing::warn!(%error, "the log cannot be followed for events"),
        }
        tokio::time::sleep(AGAIN_AFTER).await;
    }
}

async fn tell(api: &Api, told: &Told) {
    for sent in events_of(api, told).await {
        api.hub.send(sent);
    }
    if let Some(operation) = ended_by(told) {
        api.hub.operation_ended(operation);
    }
}

fn ended_by(told: &Told) -> Option<OperationId> {
    let ends = |event: &Fact| match event {
        Fact::Operation(event) => !matches!(event, operation::Event::Accepted { .. }),
        Fact::Server(_)
        | Fact::Node(_)
        | Fact::Project(_)
        | Fact::Profile(_)
        | Fact::Network(_)
        | Fact::Pool(_)
        | Fact::Volume(_)
        | Fact::Image(_)
        | Fact::Instance(_)
        | Fact::Name(_) => false,
    };
    let stream = told.recorded.stream;
    let is_one = stream.kind == StreamKind::Operation;
    (is_one && told.recorded.record.events().iter().any(ends)).then_some(OperationId(stream.id))
}

/// What a record is to listeners of the dialect's events.
pub(super) async fn events_of(api: &Api, told: &Told) -> Vec<Sent> {
    let recorded = &told.recorded;
    let Body::Events(facts) = &recorded.record.body else { return Vec::new() };
    let project = told.subject.project.clone();
    let event = |kind: &'static str, metadata: serde_json::Value| {
        let event = Event {
            kind: kind.to_owned(),
            timestamp: Time(recorded.record.time),
            metadata,
            location: show::NO_MEMBER.to_owned(),
            project: project.clone().unwrap_or_default(),
            sequence: Some(recorded.sequence.0),
        };
        let text = serde_json::to_string(&event).unwrap_or_default();
        Sent { kind, project: project.clone(), text: text.into() }
    };
    let mut events = Vec::new();
    for fact in facts {
        if matches!(fact, Fact::Operation(_)) {
            let id = OperationId(recorded.stream.id);
            if let Some(operation) = api.operation(id).await {
                events.push(event("operation", json!(operation)));
            }
            continue;
        }
        if is_progress(fact)
            && let Some(operation) = api.operation(recorded.record.operation).await
        {
            events.push(event("operation", json!(operation)));
        }
        if let Some(happened) = lifecycle::happened(&told.subject, fact) {
            let lifecycle = Lifecycle {
                action: happened.action.to_owned(),
                source: happened.source,
                context: happened.context,
                requestor: requestor(&recorded.record.actor),
                name: happened.name,
                project: project.clone().unwrap_or_default(),
            };
            events.push(event("lifecycle", json!(lifecycle)));
        }
    }
    events
}

/// Whether an operation is further than it was.
fn is_progress(fact: &Fact) -> bool {
    use stapes_core::instance::Event as It;
    let Fact::Instance(event) = fact else { return false };
    matches!(
        event,
        It::MoveAssessed { .. }
            | It::MoveDegraded { .. }
            | It::RoundReceived { .. }
            | It::Checkpointed { .. }
            | It::Moved { .. }
            | It::MoveAborted { .. }
    )
}

/// Only users ask; what nodes and policies do has no requestor.
fn requestor(actor: &Actor) -> Option<Requestor> {
    match actor.protocol {
        Protocol::Unix | Protocol::Tls => Some(Requestor {
            username: actor.name.clone(),
            protocol: actor.protocol.as_str().to_owned(),
            address: if actor.protocol == Protocol::Unix { "@" } else { "" }.to_owned(),
        }),
        Protocol::Node | Protocol::System => None,
    }
}
