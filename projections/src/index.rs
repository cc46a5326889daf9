//! The index: what was, findable. Written behind the live fold, never in its way.
//!
//! ```text
//!            ┌─ what the live fold told (in memory) ─┐
//! position ──┤                                       ├─► pending ─► one durable batch ─► store
//!            └─ the log, folded again (far behind) ──┘
//! ```
//!
//! It begins when the live fold has caught up, and leaves it the processors until then.
//!
//! Rows wait in memory until there are enough or some time is over; queries see them there. When
//! the store is damaged it is put aside and all of this begins again from the first record.

use std::{
    convert::Infallible,
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use stapes_core::ids::Sequence;
use tokio::{
    sync::{Notify, watch},
    time::Instant,
};

use crate::{
    checkpoint,
    live::Live,
    past::{PAGE, read_page},
    rows::{self, Position},
    state::State,
    status::{QueryError, Status},
    store::{Batch, Damaged, Shelf, Span, Store},
    told::Told,
    views::Options,
};

/// Records in memory before they are written.
const PENDING_MAX: usize = 8192;
/// Records that are taken from the live fold at once.
const TAKEN_AT_ONCE: usize = 1024;
/// Records between two lines about progress.
const TELL_EVERY: u64 = 250_000;
/// Before the log or the disk is asked again.
const AGAIN_AFTER: Duration = Duration::from_millis(500);
/// Of the time, as a part, that goes into checkpoints of a state that changes all the time, at most.
const CHECKPOINT_SHARE: u32 = 100;
/// Bytes on disk from which dead space is worth removing.
const REWRITE_BYTES: u64 = 256 << 20;
/// Bytes on disk for each live one from which it is done.
const REWRITE_RATIO: u64 = 4;

#[derive(Debug)]
pub(crate) struct Index {
    shelf: Shelf,
    options: Options,
    /// Not written yet.
    pending: RwLock<Vec<Arc<Told>>>,
    /// What queries find.
    holds: watch::Sender<Sequence>,
    /// A query met damage.
    damaged: Notify,
}

/// Where the writer is.
struct Writer {
    /// What is in the store.
    position: Position,
    /// After what is pending.
    at: Sequence,
    /// The state at `at`, while it is behind what is in memory.
    past: Option<State>,
    checkpointed: Sequence,
    /// No checkpoint before, unless there are many records.
    rests_until: Instant,
    /// When what is pending must be written.
    due: Option<Instant>,
}

impl Writer {
    /// When the next checkpoint must be written, however few records came since the last one.
    fn checkpoint_due(&self) -> Option<Instant> {
        let wanted = self.due.is_none() && self.position.sequence > self.checkpointed;
        wanted.then_some(self.rests_until)
    }
}

impl Index {
    pub(crate) fn new(shelf: Shelf, options: Options, holds: Sequence) -> Self {
        let (pending, damaged) = (RwLock::default(), Notify::new());
        Self { shelf, options, pending, holds: watch::Sender::new(holds), damaged }
    }

    pub(crate) fn store(&self) -> Arc<dyn Store> {
        self.shelf.store()
    }

    pub(crate) fn holds(&self) -> watch::Receiver<Sequence> {
        self.holds.subscribe()
    }

    /// A look at what is not written yet, oldest first. It must be taken before the store is asked:
    /// what leaves here is there already.
    pub(crate) fn pending(&self) -> Vec<Arc<Told>> {
        self.pending.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// A query could not trust a row.
    pub(crate) fn report(&self, damaged: &Damaged) -> QueryError {
        self.damaged.notify_one();
        QueryError::Store(damaged.to_string())
    }

    /// Writes behind the live fold for as long as it is polled.
    pub(crate) async fn run(&self, live: &Live) -> Infallible {
        loop {
            let damaged = tokio::select! {
                damaged = self.write_behind(live) => damaged,
                () = self.damaged.notified() => Damaged("a row could not be trusted".to_owned()),
                damaged = self.scrub() => damaged,
            };
            tracing::error!(%damaged, "the index is put aside and written anew");
            self.pending.write().unwrap_or_else(PoisonError::into_inner).clear();
            self.holds.send_replace(Sequence(0));
            while let Err(error) = self.shelf.begin_anew() {
                tracing::error!(%error, "the index cannot be begun anew");
                tokio::time::sleep(AGAIN_AFTER).await;
            }
        }
    }

    /// Reads every row once; ends only with damage.
    async fn scrub(&self) -> Damaged {
        let store = self.store();
        let scrubbed = blocking(move || copied(&*store, None).map(drop));
        match scrubbed.await {
            Ok(()) => std::future::pending().await,
            Err(damaged) => damaged,
        }
    }

    async fn write_behind(&self, live: &Live) -> Damaged {
        let mut writer = match self.begin().await {
            Ok(writer) => writer,
            Err(damaged) => return damaged,
        };
        let mut status = live.status();
        loop {
            let now = status.borrow_and_update().clone();
            if matches!(now, Status::CatchingUp { .. }) {
                // What is true now comes first; what was can wait for the processors.
                drop(status.changed().await);
                continue;
            }
            if let Err(error) = self.take(live, &mut writer, now.sequence()).await {
                if let QueryError::Store(why) = error {
                    return Damaged(why);
                }
                tracing::warn!(%error, "the index waits for the log");
                tokio::time::sleep(AGAIN_AFTER).await;
            }
            let full = self.waiting() >= PENDING_MAX;
            let due = writer.due.is_some_and(|due| due <= Instant::now());
            if full || due {
                if let Err(damaged) = self.flush(live, &mut writer, &now).await {
                    return damaged;
                }
            } else if writer.at >= now.sequence() {
                let checkpoint_due = writer.checkpoint_due();
                if checkpoint_due.is_some_and(|due| due <= Instant::now()) {
                    if let Err(damaged) = self.checkpoint(live, &mut writer).await {
                        return damaged;
                    }
                    continue;
                }
                let changed = status.changed();
                match writer.due.or(checkpoint_due) {
                    Some(due) => drop(tokio::time::timeout_at(due, changed).await),
                    None => drop(changed.await),
                }
            }
        }
    }

    fn waiting(&self) -> usize {
        self.pending.read().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Goes on where the store ends.
    async fn begin(&self) -> Result<Writer, Damaged> {
        let store = self.store();
        let (position, checkpointed) = blocking(move || {
            let position = position(&*store)?;
            let newest = checkpoint::newest(&*store)?;
            Ok((position, newest))
        })
        .await?;
        self.holds.send_replace(position.sequence);
        let at = position.sequence;
        let rests_until = Instant::now() + self.options.checkpoint_rest;
        Ok(Writer { position, at, past: None, checkpointed, rests_until, due: None })
    }

    /// Takes the next records, not beyond `to`.
    async fn take(&self, live: &Live, writer: &mut Writer, to: Sequence) -> Result<(), QueryError> {
        if writer.at >= to {
            return Ok(());
        }
        let recent = live.recent().from(writer.at.next(), TAKEN_AT_ONCE);
        let told = match recent {
            Some(told) => {
                writer.past = None;
                told
            }
            None => self.again(live, writer, to).await?,
        };
        let Some(last) = told.last() else { return Ok(()) };
        writer.at = last.recorded.sequence;
        writer.due.get_or_insert_with(|| Instant::now() + self.options.flush_every);
        self.pending.write().unwrap_or_else(PoisonError::into_inner).extend(told);
        self.holds.send_replace(writer.at);
        Ok(())
    }

    /// The next records from the log, folded again.
    async fn again(
        &self,
        live: &Live,
        writer: &mut Writer,
        to: Sequence,
    ) -> Result<Vec<Arc<Told>>, QueryError> {
        let mut state = match writer.past.take() {
            Some(state) => state,
            None => {
                let (store, at) = (self.store(), writer.at);
                let nearest = blocking(move || checkpoint::read(&*store, at)).await;
                let nearest = nearest.map_err(|Damaged(why)| QueryError::Store(why))?;
                crate::past::fold_to(live.log(), nearest.unwrap_or_default(), writer.at).await?
            }
        };
        let left = usize::try_from(to.0 - writer.at.0).unwrap_or(usize::MAX);
        let page = read_page(live.log(), writer.at.next(), left.min(PAGE)).await?;
        let told = blocking(move || {
            let told: Result<Vec<_>, _> =
                page.into_iter().map(|recorded| Told::next(&mut state, recorded)).collect();
            Ok((state, told))
        });
        let (state, told) = told.await.map_err(|Damaged(why)| QueryError::Store(why))?;
        writer.past = Some(state);
        Ok(told?)
    }

    /// Writes what is pending, and a checkpoint when it is time for one.
    async fn flush(&self, live: &Live, writer: &mut Writer, now: &Status) -> Result<(), Damaged> {
        let pending = self.pending();
        let (store, mut position, count) = (self.store(), writer.position, pending.len());
        let begun = position.sequence;
        let written = blocking(move || {
            let batch = rows::of_run(&pending, &mut position);
            store.write(batch).map(|()| position)
        });
        writer.position = written.await?;
        writer.due = None;
        self.pending.write().unwrap_or_else(PoisonError::into_inner).drain(..count);
        let at = writer.position.sequence;
        if at.0 / TELL_EVERY != begun.0 / TELL_EVERY {
            tracing::info!(%at, head = %now.sequence(), "indexing the log");
        }
        let many = at.0 >= writer.checkpointed.0 + self.options.checkpoint_every;
        if many || writer.rests_until <= Instant::now() {
            return self.checkpoint(live, writer).await;
        }
        Ok(())
    }

    async fn checkpoint(&self, live: &Live, writer: &mut Writer) -> Result<(), Damaged> {
        // Far behind, the state at hand is its own; else it is the live one.
        let state = writer.past.clone().unwrap_or_else(|| live.state());
        writer.checkpointed = state.sequence();
        let begun = Instant::now();
        self.keep(state).await?;
        let rest = (begun.elapsed() * CHECKPOINT_SHARE).max(self.options.checkpoint_rest);
        writer.rests_until = Instant::now() + rest;
        self.spare().await
    }

    /// Writes a checkpoint of the state, unless there is a newer one.
    pub(crate) async fn keep(&self, state: State) -> Result<(), Damaged> {
        let (store, every) = (self.store(), self.options.checkpoint_every);
        blocking(move || {
            if checkpoint::newest(&*store)? >= state.sequence() {
                return Ok(());
            }
            checkpoint::write(&*store, &state, every)
        })
        .await
    }

    /// Rewrites a store that is mostly dead space.
    async fn spare(&self) -> Result<(), Damaged> {
        let store = self.store();
        let size = blocking(move || Ok(store.size())).await?;
        if size < REWRITE_BYTES {
            return Ok(());
        }
        let store = self.store();
        let live = blocking(move || copied(&*store, None)).await?;
        if size < live.saturating_mul(REWRITE_RATIO) {
            return Ok(());
        }
        tracing::info!(size, live, "rewriting the index");
        let copy = |from: &dyn Store, to: &dyn Store| copied(from, Some(to)).map(drop);
        // This blocks a thread of the runtime for some seconds, once in a long while.
        tokio::task::yield_now().await;
        self.shelf.rewrite(copy).map_err(|error| Damaged(error.to_string()))?
    }
}

/// Copies all rows, and counts their bytes.
fn copied(from: &dyn Store, to: Option<&dyn Store>) -> Result<u64, Damaged> {
    let mut span = Span { from: Vec::new(), to: vec![u8::MAX] };
    let mut bytes = 0;
    loop {
        let rows = from.first(&span, PAGE)?;
        let Some((last, _)) = rows.last() else { return Ok(bytes) };
        span.from.clone_from(last);
        span.from.push(0);
        bytes += rows.iter().map(|(key, value)| (key.len() + value.len()) as u64).sum::<u64>();
        if let Some(to) = to {
            let rows = rows.into_iter().map(|(key, value)| (key, Some(value))).collect();
            to.write(Batch { rows })?;
        }
    }
}

/// How far a store holds the log.
pub(crate) fn position(store: &dyn Store) -> Result<Position, Damaged> {
    Ok(store.get(&rows::position())?.map(|row| rows::decode(&row)).transpose()?.unwrap_or_default())
}

/// Runs what waits for the disk or takes long beside the runtime.
pub(crate) async fn blocking<T: Send + 'static>(
    act: impl FnOnce() -> Result<T, Damaged> + Send + 'static,
) -> Result<T, Damaged> {
    let done = tokio::task::spawn_blocking(act).await;
    done.unwrap_or_else(|error| Err(Damaged(format!("indexing ended with {error}"))))
}
