//! The handle of all views.

use std::{path::Path, sync::Arc, time::Duration};

use chrono::{DateTime, Utc};
use stapes_core::{
    ids::{OperationId, Revision, Sequence, StreamId},
    name::NameKind,
    port::log::{EventLog, ReadError},
    record::{Digest, Recorded},
    world::World,
};
use tokio::sync::watch;
use uuid::Uuid;

use crate::{
    checkpoint,
    feed::Entry,
    follow::{Follower, Following},
    index::{self, Index},
    live::Live,
    operations::{self, OperationView},
    past::{self, AsOf, Remembered},
    state::State,
    status::{Behind, Blocked, QueryError, Status},
    store::{Damaged, Shelf},
    timeline::{Look, OperationFilter, PAGE_MAX, Page, Tenure},
    verify::{self, Verified},
};

/// How long a question waits for the index to hold what the views hold.
const INDEX_WAIT: Duration = Duration::from_secs(1);

/// What may be tuned; the defaults are right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Records between two checkpoints of the state, at least.
    pub checkpoint_every: u64,
    /// How long what came since the last one may be in none, when it is less than that.
    pub checkpoint_rest: Duration,
    /// How long what is indexed may stay in memory only.
    pub flush_every: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            checkpoint_every: 50_000,
            checkpoint_rest: Duration::from_secs(5),
            flush_every: Duration::from_millis(200),
        }
    }
}

#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("the log cannot be read")]
    Log(#[source] ReadError),
    #[error("the directory of the views cannot be used")]
    Directory(#[source] std::io::Error),
}

/// A cheap handle; clones share everything.
#[derive(Clone, Debug)]
pub struct Views {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    live: Live,
    index: Index,
    remembered: Remembered,
    rebuilt: Option<String>,
}

impl Views {
    /// Opens the views of a log; nothing is followed before [`Views::run`]. Without a directory
    /// they are kept in memory only.
    ///
    /// # Errors
    /// When the log or the directory cannot be read. A store that is damaged, old or of another log
    /// is no error: it is put aside and rebuilt.
    pub async fn open(
        directory: Option<&Path>,
        log: Arc<dyn EventLog>,
        options: Options,
    ) -> Result<Self, OpenError> {
        let head = log.head().await.map_err(OpenError::Log)?;
        let directory = directory.map(Path::to_owned);
        let opened = tokio::task::spawn_blocking(move || Shelf::open(directory.as_deref())).await;
        let opened = opened.map_err(std::io::Error::other).and_then(|opened| opened);
        let (shelf, damaged) = opened.map_err(OpenError::Directory)?;
        let mut rebuilt = damaged.map(|Damaged(why)| why);
        let state = match warm(&shelf, &log, head).await.map_err(OpenError::Log)? {
            Ok(state) => state,
            Err(Damaged(why)) => {
                rebuilt = Some(why);
                shelf.begin_anew().map_err(OpenError::Directory)?;
                State::default()
            }
        };
        if let Some(why) = &rebuilt {
            tracing::error!(why, "the index was put aside; it is written anew");
        }
        let holds = Sequence(0);
        let (live, index) = (Live::new(log, state, head), Index::new(shelf, options, holds));
        let remembered = Remembered::default();
        Ok(Self { inner: Arc::new(Inner { live, index, remembered, rebuilt }) })
    }

    /// Follows the log for as long as it is polled; to be spawned, once. Returns only when the log
    /// cannot be taken any further; queries say so from then on.
    pub async fn run(self) -> Blocked {
        let Inner { live, index, .. } = &*self.inner;
        let behind = index.run(live);
        tokio::pin!(behind);
        let blocked = tokio::select! {
            blocked = live.run() => blocked,
            never = &mut behind => match never {},
        };
        // What the views hold is still indexed; then there is nothing left to do.
        let mut holds = index.holds();
        let all = self.sequence();
        tokio::select! {
            _ = holds.wait_for(|at| *at >= all) => {}
            never = behind => match never {},
        }
        blocked
    }

    /// Why the store was put aside when it was opened, if it was.
    #[must_use]
    pub fn rebuilt(&self) -> Option<&str> {
        self.inner.rebuilt.as_deref()
    }

    /// Up to where the timelines and lists of the past are complete.
    #[must_use]
    pub fn indexed(&self) -> Sequence {
        *self.inner.index.holds().borrow()
    }

    /// Where a restart would begin to fold: the newest checkpoint that is durable.
    ///
    /// # Errors
    /// When the index cannot be read; it is rebuilt then.
    pub fn checkpointed(&self) -> Result<Sequence, QueryError> {
        let index = &self.inner.index;
        checkpoint::newest(&*index.store()).map_err(|damaged| index.report(&damaged))
    }

    /// Writes down what the views hold now, for whoever begins without the log: see
    /// [`Recalled`](crate::Recalled).
    ///
    /// # Errors
    /// When the index cannot be written; it is rebuilt then.
    pub async fn keep(&self) -> Result<(), QueryError> {
        let index = &self.inner.index;
        let kept = index.keep(self.inner.live.state()).await;
        kept.map_err(|damaged| index.report(&damaged))
    }

    /// The timeline of these streams before `before`, newest first. A page may be a little longer
    /// than `count`, so that it holds whole records.
    ///
    /// # Errors
    /// When the index cannot be read; it is rebuilt then.
    pub async fn timeline(
        &self,
        streams: &[StreamId],
        before: Option<Sequence>,
        count: usize,
    ) -> Result<Page<Entry>, QueryError> {
        let (streams, before) = (streams.to_vec(), before.unwrap_or(Sequence(u64::MAX)));
        let count = count.clamp(1, PAGE_MAX);
        self.look(move |look| look.timeline(&streams, before, count)).await
    }

    /// The timeline of everything after `after`, oldest first.
    ///
    /// # Errors
    /// When the index cannot be read; it is rebuilt then.
    pub async fn timeline_all(
        &self,
        after: Sequence,
        count: usize,
    ) -> Result<Page<Entry>, QueryError> {
        let count = count.clamp(1, PAGE_MAX);
        self.look(move |look| look.timeline_all(after, count)).await
    }

    /// Operations, under way and ended, that began before `before`; newest first.
    ///
    /// # Errors
    /// When the index cannot be read; it is rebuilt then.
    pub async fn operations(
        &self,
        filter: OperationFilter,
        before: Option<Sequence>,
        count: usize,
    ) -> Result<Page<OperationView>, QueryError> {
        let (before, count) = (before.unwrap_or(Sequence(u64::MAX)), count.clamp(1, PAGE_MAX));
        self.look(move |look| look.operations(&|view| filter.wants(view), before, count)).await
    }

    /// Who held a name, oldest first: how to find what is deleted or has another name now.
    ///
    /// # Errors
    /// When the index cannot be read; it is rebuilt then.
    pub async fn holders(
        &self,
        kind: NameKind,
        scope: impl Into<Uuid>,
        name: &str,
    ) -> Result<Vec<Tenure>, QueryError> {
        let (scope, name) = (scope.into(), name.to_owned());
        self.look(move |look| look.holders(kind, scope, &name)).await
    }

    /// Asks the index, once it holds what the views hold now, or after a moment anyway.
    async fn look<T: Send + 'static>(
        &self,
        ask: impl FnOnce(&Look) -> Result<T, Damaged> + Send + 'static,
    ) -> Result<T, QueryError> {
        let index = &self.inner.index;
        let (mut holds, wanted) = (index.holds(), self.sequence());
        let caught_up = holds.wait_for(|at| *at >= wanted);
        // Too late is fine: the page says up to where it is complete.
        drop(tokio::time::timeout(INDEX_WAIT, caught_up).await);
        let at = *index.holds().borrow();
        let look = Look { pending: index.pending(), store: index.store(), at };
        let answer = index::blocking(move || ask(&look)).await;
        answer.map_err(|damaged| index.report(&damaged))
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
        let mark = self.look(move |look| look.mark(time)).await?;
        past::sequence_at(self.live().log(), mark, self.sequence(), time).await
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
        let remembered = self.inner.remembered.nearest(sequence).unwrap_or_default();
        let store = self.inner.index.store();
        let since = remembered.sequence();
        let newer = index::blocking(move || checkpoint::newer(&*store, since, sequence)).await;
        let newer = newer.map_err(|damaged| self.inner.index.report(&damaged))?;
        let nearest = newer.unwrap_or(remembered);
        let state = past::fold_to(self.live().log(), nearest, sequence).await?;
        self.inner.remembered.keep(state.clone());
        Ok(state)
    }

    pub(crate) fn live(&self) -> &Live {
        &self.inner.live
    }
}

/// The newest checkpoint, if the store is of this log.
async fn warm(
    shelf: &Shelf,
    log: &Arc<dyn EventLog>,
    head: Sequence,
) -> Result<Result<State, Damaged>, ReadError> {
    let store = shelf.store();
    let read = index::blocking(move || {
        let position = index::position(&*store)?;
        Ok((position, checkpoint::read(&*store, Sequence(u64::MAX - 1))?.unwrap_or_default()))
    });
    let (position, state) = match read.await {
        Ok(read) => read,
        Err(damaged) => return Ok(Err(damaged)),
    };
    for (sequence, digest) in
        [(position.sequence, position.digest), (state.sequence(), state.digest)]
    {
        if sequence == Sequence(0) {
            continue;
        }
        if sequence > head {
            let why = format!("it knows of record {sequence}, and the log ends at {head}");
            return Ok(Err(Damaged(why)));
        }
        let stored = log.read(sequence, 1).await?;
        let found = stored.first().map(|stored| Digest::of(&stored.payload));
        if found != digest {
            return Ok(Err(Damaged(format!("record {sequence} of the log is another one"))));
        }
    }
    Ok(Ok(state))
}
