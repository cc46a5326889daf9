//! What runs for as long as a client's websockets: programs in guests, and consoles.
//!
//! ```text
//! POST exec ─► Session (a secret for each stream) ─► client connects each ─► program starts
//!                    │ 10 s without a client                │
//!                    ▼                                      ▼
//!                 failed                      pumps ─► all output sent ─► operation ends
//! ```
//!
//! Secrets and streams are of this process only; the operation itself is on the log. When the
//! daemon is restarted the streams break and the operation is ended by whoever finds it.

mod descriptor;
mod pump;
mod record;
mod run;

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use axum::extract::ws::WebSocket;
use serde_json::{Map, Value, json};
use stapes_core::ids::OperationId;
use tokio::sync::oneshot;

use super::fault::Fault;

pub(super) use record::{OutputFiles, Recorded};
pub(super) use run::{Outcome, attach_console, run_recorded, run_with_sockets};

/// How long a client may take to connect the streams that it asked for.
const CONNECT_WITHIN: Duration = Duration::from_secs(10);
/// Sessions at the same time, so that forgotten ones cannot fill the memory.
const SESSIONS_MAX: usize = 4096;
/// Ended sessions whose metadata is remembered.
const CLOSED_MAX: usize = 1024;

/// One stream of a session, as clients name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Stream {
    /// The terminal of an interactive session, standard input of another.
    Input,
    Output,
    Error,
    Control,
}

impl Stream {
    const fn name(self) -> &'static str {
        match self {
            Self::Input => "0",
            Self::Output => "1",
            Self::Error => "2",
            Self::Control => "control",
        }
    }
}

/// The streams of a session that wait for their client, by secret.
type Waiting = HashMap<String, oneshot::Sender<WebSocket>>;

#[derive(Debug)]
struct Entry {
    /// Who asked for it; nobody else may connect.
    uid: Option<u32>,
    waiting: Waiting,
    /// Shown as the operation's metadata while it lives.
    metadata: Map<String, Value>,
}

/// The sessions under way, and what is still told of those that ended last.
#[derive(Debug, Default)]
pub(super) struct Sessions {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    open: HashMap<OperationId, Entry>,
    closed: VecDeque<(OperationId, Map<String, Value>)>,
}

/// The ends of a session's streams, for the task that runs it.
#[derive(Debug)]
pub(super) struct Connections {
    streams: BTreeMap<Stream, oneshot::Receiver<WebSocket>>,
}

/// Closes the session when it is over, however it ends.
#[derive(Debug)]
pub(super) struct Registration {
    sessions: Arc<Sessions>,
    operation: OperationId,
}

impl Registration {
    /// The session ended; its metadata can be read for a while.
    pub(super) fn over(self) {}
}

impl Drop for Registration {
    fn drop(&mut self) {
        let mut state = self.sessions.lock();
        if let Some(entry) = state.open.remove(&self.operation) {
            if state.closed.len() == CLOSED_MAX {
                state.closed.pop_front();
            }
            let mut metadata = entry.metadata;
            // Of no use to anybody any more.
            metadata.remove("fds");
            state.closed.push_back((self.operation, metadata));
        }
    }
}

impl Sessions {
    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        // Nothing panics while it is held; if something did, the maps are still whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives each of the streams a secret. The metadata says them.
    pub(super) fn open(
        self: &Arc<Self>,
        operation: OperationId,
        uid: Option<u32>,
        streams: &[Stream],
        mut metadata: Map<String, Value>,
    ) -> Result<(Registration, Connections), Fault> {
        let mut waiting = Waiting::new();
        let mut receivers = BTreeMap::new();
        let mut secrets = Map::new();
        for stream in streams {
            let (sender, receiver) = oneshot::channel();
            let secret = secret();
            secrets.insert(stream.name().to_owned(), json!(secret));
            waiting.insert(secret, sender);
            receivers.insert(*stream, receiver);
        }
        if !secrets.is_empty() {
            metadata.insert("fds".to_owned(), Value::Object(secrets));
        }
        let mut state = self.lock();
        if state.open.len() >= SESSIONS_MAX {
            return Err(Fault::new(503, "Too many sessions at the same time").code("busy"));
        }
        state.open.insert(operation, Entry { uid, waiting, metadata });
        drop(state);
        let registration = Registration { sessions: Arc::clone(self), operation };
        Ok((registration, Connections { streams: receivers }))
    }

    /// What the operation's metadata has besides what the log knows of it.
    pub(super) fn metadata(&self, operation: OperationId) -> Option<Map<String, Value>> {
        let state = self.lock();
        if let Some(entry) = state.open.get(&operation) {
            return Some(entry.metadata.clone());
        }
        let closed = state.closed.iter().rev().find(|(id, _)| *id == operation);
        closed.map(|(_, metadata)| metadata.clone())
    }

    /// Adds to what is told of a session under way.
    pub(super) fn extend(&self, operation: OperationId, key: &str, value: Value) {
        if let Some(entry) = self.lock().open.get_mut(&operation) {
            entry.metadata.insert(key.to_owned(), value);
        }
    }

    /// Takes the place that waits for the client with this secret.
    pub(super) fn claim(
        &self,
        operation: OperationId,
        secret: &str,
        uid: Option<u32>,
    ) -> Result<oneshot::Sender<WebSocket>, Fault> {
        let mut state = self.lock();
        let entry = state
            .open
            .get_mut(&operation)
            .ok_or_else(|| Fault::not_found("Operation not found"))?;
        if entry.uid != uid {
            return Err(Fault::new(403, "Requestor mismatch").code("forbidden"));
        }
        entry
            .waiting
            .remove(secret)
            .ok_or_else(|| Fault::new(403, "Invalid websocket secret").code("forbidden"))
    }
}

impl Connections {
    /// The client's end of one stream, when it came in time.
    async fn connected(&mut self, stream: Stream) -> Option<WebSocket> {
        self.streams.remove(&stream)?.await.ok()
    }

    /// A stream that may be connected at any time or never.
    fn later(&mut self, stream: Stream) -> Option<oneshot::Receiver<WebSocket>> {
        self.streams.remove(&stream)
    }
}

/// 32 bytes that nobody can guess, in hexadecimal.
fn secret() -> String {
    // Version 4 ids carry 122 bits from the operating system's generator each.
    let half = || uuid::Uuid::new_v4().simple().to_string();
    half() + &half()
}
