//! The live fold: follows the log, keeps the newest state for readers, tells who follows.
//!
//! ```text
//! log ─► decode (two batches ahead) ─► fold ─► publish ─► wake
//! ```
//!
//! Readers get copies that share structure, so they never hold the fold up. While it catches up it
//! publishes now and then only: what is read meanwhile is old anyway, and says so.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock},
    time::Duration,
};

use futures::StreamExt;
use stapes_core::{
    ids::Sequence,
    port::log::{EventLog, Followed, ReadError, Stored},
    record::Recorded,
};
use tokio::sync::watch;

use crate::{
    state::State,
    status::{Behind, Blocked, Status, blocked_by},
    told::{Recent, Told},
};

/// Batches that are decoded ahead of the fold.
const DECODED_AHEAD: usize = 2;
/// Records from which on a batch is decoded beside the fold rather than in it.
const DECODE_BESIDE: usize = 128;
/// Records between two publications while catching up.
const PUBLISH_EVERY: u64 = 32 * 1024;
/// Records between two lines about progress.
const TELL_EVERY: u64 = 250_000;
/// Before the log is followed again after it was away.
const AGAIN_AFTER: Duration = Duration::from_millis(500);

#[derive(Debug)]
pub(crate) struct Live {
    log: Arc<dyn EventLog>,
    state: RwLock<State>,
    recent: Mutex<Recent>,
    status: watch::Sender<Status>,
}

/// A batch as far as it could be read.
struct Decoded {
    records: Vec<Recorded>,
    stopped: Option<Blocked>,
}

impl Live {
    pub(crate) fn new(log: Arc<dyn EventLog>, state: State, head: Sequence) -> Self {
        let status = watch::Sender::new(Status::CatchingUp { at: state.sequence(), head });
        Self { log, state: RwLock::new(state), recent: Mutex::default(), status }
    }

    pub(crate) fn log(&self) -> &Arc<dyn EventLog> {
        &self.log
    }

    pub(crate) fn state(&self) -> State {
        self.state.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn recent(&self) -> MutexGuard<'_, Recent> {
        self.recent.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn status(&self) -> watch::Receiver<Status> {
        self.status.subscribe()
    }

    /// Waits until the views hold `asked`, are blocked, or `timeout` is over.
    pub(crate) async fn wait_for(&self, asked: Sequence, timeout: Duration) -> Result<(), Behind> {
        let mut status = self.status.subscribe();
        let done = |status: &Status| status.sequence() >= asked || status.blocked().is_some();
        // The sender is in `self`, so only the time can run out.
        let _ = tokio::time::timeout(timeout, status.wait_for(done)).await;
        let status = self.status.borrow();
        if status.sequence() >= asked {
            return Ok(());
        }
        Err(Behind { asked, at: status.sequence(), blocked: status.blocked().cloned() })
    }

    /// Follows for as long as it is polled.
    pub(crate) async fn run(&self) -> Blocked {
        let mut state = self.state();
        loop {
            let why = match self.follow(&mut state).await {
                Ok(()) => continue,
                Err(why) => why,
            };
            let at = state.sequence();
            self.publish(&state, Status::Blocked { at, why: why.clone() });
            tracing::error!(%at, %why, "the views have stopped");
            return why;
        }
    }

    /// Until the log is away, or for good.
    async fn follow(&self, state: &mut State) -> Result<(), Blocked> {
        let followed = match self.log.follow(state.sequence()).await {
            Ok(followed) => followed,
            Err(error) => return self.away(&error).await,
        };
        let mut batches = followed.map(decode).buffered(DECODED_AHEAD);
        let mut live = matches!(*self.status.borrow(), Status::Live { .. });
        let mut progress = Progress::new(state.sequence());
        while let Some(batch) = batches.next().await {
            match batch {
                Ok(Batch::Records(decoded)) if live => self.tell(state, decoded)?,
                Ok(Batch::Records(decoded)) => self.catch_up(state, decoded, &mut progress)?,
                Ok(Batch::CaughtUp) => {
                    live = true;
                    progress.end(state.sequence());
                    self.publish(state, Status::Live { at: state.sequence() });
                }
                Err(error) => return self.away(&error).await,
            }
        }
        self.again().await;
        Ok(())
    }

    async fn away(&self, error: &ReadError) -> Result<(), Blocked> {
        if let Some(why) = blocked_by(error) {
            return Err(why);
        }
        tracing::warn!(error = error as &dyn std::error::Error, "the log is away");
        self.again().await;
        Ok(())
    }

    async fn again(&self) {
        tokio::time::sleep(AGAIN_AFTER).await;
    }

    fn catch_up(
        &self,
        state: &mut State,
        decoded: Decoded,
        progress: &mut Progress,
    ) -> Result<(), Blocked> {
        for recorded in &decoded.records {
            state.apply(recorded)?;
        }
        let at = state.sequence();
        if at.0 >= progress.published.0 + PUBLISH_EVERY {
            progress.published = at;
            let head = match &*self.status.borrow() {
                Status::CatchingUp { head, .. } => (*head).max(at),
                Status::Live { .. } | Status::Blocked { .. } => at,
            };
            self.publish(state, Status::CatchingUp { at, head });
            progress.tell(at, head);
        }
        decoded.stopped.map_or(Ok(()), Err)
    }

    fn tell(&self, state: &mut State, decoded: Decoded) -> Result<(), Blocked> {
        let mut stopped = decoded.stopped;
        let mut told = Vec::with_capacity(decoded.records.len());
        for recorded in decoded.records {
            match Told::next(state, recorded) {
                Ok(next) => told.push(next),
                Err(why) => {
                    stopped = Some(why);
                    break;
                }
            }
        }
        self.publish_told(state, told, Status::Live { at: state.sequence() });
        stopped.map_or(Ok(()), Err)
    }

    fn publish(&self, state: &State, status: Status) {
        self.publish_told(state, Vec::new(), status);
    }

    /// The state first, then the news of it: whoever is woken finds it.
    fn publish_told(&self, state: &State, told: Vec<Arc<Told>>, status: Status) {
        let mut published = self.state.write().unwrap_or_else(PoisonError::into_inner);
        let old = std::mem::replace(&mut *published, state.clone());
        drop(published);
        // What nobody else holds is freed here, where no reader waits for it.
        drop(old);
        let mut recent = self.recent();
        if matches!(status, Status::CatchingUp { .. }) {
            recent.clear();
        }
        told.into_iter().for_each(|told| recent.push(told));
        drop(recent);
        self.status.send_replace(status);
    }
}

enum Batch {
    Records(Decoded),
    CaughtUp,
}

async fn decode(followed: Result<Followed, ReadError>) -> Result<Batch, ReadError> {
    match followed? {
        Followed::CaughtUp(_) => Ok(Batch::CaughtUp),
        Followed::Records(stored) if stored.len() < DECODE_BESIDE => {
            Ok(Batch::Records(read(&stored)))
        }
        Followed::Records(stored) => {
            let decoded = tokio::task::spawn_blocking(move || read(&stored)).await;
            decoded.map(Batch::Records).map_err(|error| ReadError::Unavailable(Box::new(error)))
        }
    }
}

fn read(stored: &[Stored]) -> Decoded {
    let mut records = Vec::with_capacity(stored.len());
    for stored in stored {
        match Recorded::read(stored) {
            Ok(recorded) => records.push(recorded),
            Err(error) => return Decoded { records, stopped: Some(error.into()) },
        }
    }
    Decoded { records, stopped: None }
}

/// What is said while many records are folded.
struct Progress {
    begun: Sequence,
    published: Sequence,
    told: Sequence,
}

impl Progress {
    const fn new(at: Sequence) -> Self {
        Self { begun: at, published: at, told: at }
    }

    fn tell(&mut self, at: Sequence, head: Sequence) {
        if at.0 >= self.told.0 + TELL_EVERY {
            self.told = at;
            tracing::info!(%at, %head, "folding the log");
        }
    }

    fn end(&self, at: Sequence) {
        tracing::info!(%at, records = at.0 - self.begun.0, "the views are live");
    }
}
