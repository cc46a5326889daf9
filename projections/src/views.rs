//! The handle of all views.

use std::{path::Path, sync::Arc, time::Duration};

use chrono::{DateTime, Utc};
use stapes_core::{
    ids::{OperationId, Revision, Sequence},
    port::log::{EventLog, ReadError},
    record::Recorded,
    world::World,
};
use tokio::sync::watch;

use crate::{
    follow::{Follower, Following},
    live::Live,
    operations::{self, OperationView},
    past::{self, AsOf, Remembered},
    state::State,
    status::{Behind, Blocked, QueryError, Status},
    verify::{self, Verified},
};

/// What may be tuned; the defaults are right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Records between two checkpoints of the state, at least.
    pub checkpoint_every: u64,
    /// How long what is indexed may stay in memory only.
    pub flush_every: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self { checkpoint_every: 50_000, flush_every: Duration::from_millis(200) }
    }
}

#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("the log cannot be read")]
    Log(#[source] ReadError),
}

/// A cheap handle; clones share everything.
#[derive(Clone, Debug)]
pub struct Views {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    live: Live,
    remembered: Remembered,
}

impl Views {
    /// Opens the views of a log; nothing is followed before [`Views::run`]. Without a directory
    /// they are kept in memory only.
    ///
    /// # Errors
    /// When the log cannot be read. A store that is damaged, old or of another log is no error: it
    /// is put aside and rebuilt.
    pub async fn open(
        _directory: Option<&Path>,
        log: Arc<dyn EventLog>,
        _options: Options,
    ) -> Result<Self, OpenError> {
        let head = log.head().await.map_err(OpenError::Log)?;
        let live = Live::new(log, State::default(), head);
        Ok(Self { inner: Arc::new(Inner { live, remembered: Remembered::default() }) })
    }

    /// Follows the log for as long as it is polled; to be spawned, once. Returns only when the log
    /// cannot be taken any further; queries say so from then on.
    pub async fn run(self) -> Blocked {
        self.inner.live.run().await
    }

    /// The world as it is now: a snapshot that costs nothing and holds nobody up.
    #[must_use]
    pub fn world(&self) -> Arc<World> {
        self.inner.live.state().world
    }

    /// One look at the world as it is now.
    pub fn read<R>(&self, look: impl FnOnce(&World) -> R) -> R {
        look(&self.world())
    }

    /// Of the last record that the views hold.
    #[must_use]
    pub fn sequence(&self) -> Sequence {
        self.inner.live.status().borrow().sequence()
    }

    #[must_use]
    pub fn status(&self) -> Status {
        self.inner.live.status().borrow().clone()
    }

    /// Each change of the status, the newest only.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<Status> {
        self.inner.live.status()
    }

    /// Waits until the views hold `sequence`: read what you wrote.
    ///
    /// # Errors
    /// When they do not in time, or never will.
    pub async fn wait_for(&self, sequence: Sequence, timeout: Duration) -> Result<(), Behind> {
        self.inner.live.wait_for(sequence, timeout).await
    }

    /// The operations under way, oldest first.
    #[must_use]
    pub fn running_operations(&self) -> Vec<OperationView> {
        let state = self.inner.live.state();
        let mut running: Vec<_> = state.operations.running().cloned().collect();
        running.sort_by_key(|operation| operation.first);
        running
    }

    /// Operations that ended after `since`, newest first, as far as they are kept in memory.
    #[must_use]
    pub fn recently_ended(&self, since: DateTime<Utc>) -> Vec<OperationView> {
        let state = self.inner.live.state();
        let recent = |view: &&OperationView| view.operation.ended_at.is_some_and(|at| at > since);
        state.operations.ended().take_while(recent).cloned().collect()
    }

    /// An operation, under way or ended however long ago; `None` when there never was one.
    ///
    /// # Errors
    /// When it is not in memory and the log cannot be read.
    pub async fn operation(&self, id: OperationId) -> Result<Option<OperationView>, QueryError> {
        if let Some(view) = self.inner.live.state().operations.get(id) {
            return Ok(Some(view.clone()));
        }
        let stored = self.inner.live.log().read_stream(id.stream(), Revision(0)).await?;
        let held = self.sequence();
        let records = stored.iter().filter(|stored| stored.sequence <= held).map(Recorded::read);
        let records: Vec<_> = records.collect::<Result<_, _>>().map_err(Blocked::from)?;
        Ok(operations::fold(&records))
    }

    /// Every record after `after` with its names, then every new one, each after the views hold
    /// it. `None`: only new ones.
    #[must_use]
    pub fn follow(&self, after: Option<Sequence>) -> Following {
        let after = after.unwrap_or_else(|| self.sequence());
        Follower::stream(self.clone(), after)
    }

    /// The world as it was.
    ///
    /// # Errors
    /// When it is still to come, or the log cannot be read.
    pub async fn world_at(&self, as_of: AsOf) -> Result<Arc<World>, QueryError> {
        let sequence = match as_of {
            AsOf::Sequence(sequence) => sequence,
            AsOf::Time(time) => self.sequence_at(time).await?,
        };
        Ok(self.state_at(sequence).await?.world)
    }

    /// The last record that was there at a time.
    ///
    /// # Errors
    /// When the log cannot be read.
    pub async fn sequence_at(&self, time: DateTime<Utc>) -> Result<Sequence, QueryError> {
        past::sequence_at(self.live().log(), Sequence(0), self.sequence(), time).await
    }

    /// Folds the log from its beginning, checks the chains of all streams, and compares the outcome
    /// with the views at the same place.
    ///
    /// # Errors
    /// When the log cannot be read or is not whole.
    pub async fn verify(&self) -> Result<Verified, QueryError> {
        verify::verify(self.live().log(), &self.live().state()).await
    }

    pub(crate) async fn state_at(&self, sequence: Sequence) -> Result<State, QueryError> {
        let now = self.inner.live.state();
        if now.sequence() == sequence {
            return Ok(now);
        }
        if now.sequence() < sequence {
            return Err(QueryError::Future { asked: sequence, head: now.sequence() });
        }
        let nearest = self.inner.remembered.nearest(sequence).unwrap_or_default();
        let state = past::fold_to(self.live().log(), nearest, sequence).await?;
        self.inner.remembered.keep(state.clone());
        Ok(state)
    }

    pub(crate) fn live(&self) -> &Live {
        &self.inner.live
    }
}
