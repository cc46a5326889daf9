//! The backend of one node: control's world for the present, the log for everything else.
//!
//! ```text
//! log ─► control's world ─► this follower (names, what ended) ─► every client's live stream
//!  └───────────────────────────────────────────────────────────► history, the world as it was
//! ```

use std::{
    collections::VecDeque,
    fmt,
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use async_trait::async_trait;
use futures::{StreamExt, stream};
use stapes_control::{Control, SubmitError};
use stapes_core::{
    command::Command,
    event::Event,
    ids::{OperationId, Sequence, StreamId, StreamKind},
    operation::{self, Operation},
    port::log::{self as port, EventLog},
    record::{Recorded, Undecodable},
    world::World,
};
use tokio::sync::{Semaphore, broadcast};

use super::{
    Accepted, At, Backend, Followed, Following, Refusal, Request, Told, Verified,
    past::{self, fold},
};
use crate::naming::Naming;

/// Records that a live stream may lag behind before it has to read the log itself.
const QUEUE: usize = 16_384;
/// Operations that are listed when a client asks for those of the past.
const ENDED_MAX: usize = 10_000;
/// Folds of the whole log at the same time: each is a world in memory.
const FOLDS_MAX: usize = 2;
/// Before the log is followed again after it broke.
const AGAIN_AFTER: Duration = Duration::from_millis(500);

/// A cheap handle; clones share everything.
#[derive(Clone)]
pub struct Direct(Arc<Shared>);

struct Shared {
    control: Control,
    log: Arc<dyn EventLog>,
    index: RwLock<Index>,
    told: broadcast::Sender<Arc<Told>>,
    folds: Semaphore,
}

/// What the follower knows besides the world.
#[derive(Default)]
struct Index {
    sequence: Sequence,
    naming: Naming,
    ended: VecDeque<OperationId>,
}

impl fmt::Debug for Direct {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Direct").field("control", &self.0.control).finish_non_exhaustive()
    }
}

impl Direct {
    /// Follows the log for as long as it is held; must be called within a runtime.
    #[must_use]
    pub fn new(control: Control, log: Arc<dyn EventLog>) -> Self {
        let shared = Arc::new(Shared {
            control,
            log,
            index: RwLock::default(),
            told: broadcast::Sender::new(QUEUE),
            folds: Semaphore::new(FOLDS_MAX),
        });
        let weak = Arc::downgrade(&shared);
        tokio::spawn(async move {
            while let Some(shared) = weak.upgrade() {
                let after = shared.index().sequence;
                let follower = shared.log.follow(after).await;
                drop(shared);
                if let Ok(mut follower) = follower {
                    while let Some(Ok(followed)) = follower.next().await {
                        let Some(shared) = weak.upgrade() else { return };
                        if let port::Followed::Records(records) = followed
                            && let Err(error) = shared.take(&records).await
                        {
                            tracing::error!(%error, "events stop here");
                            return;
                        }
                    }
                }
                tokio::time::sleep(AGAIN_AFTER).await;
            }
        });
        Self(shared)
    }
}

impl Shared {
    fn index(&self) -> std::sync::RwLockReadGuard<'_, Index> {
        self.index.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the next records, after the world holds them.
    async fn take(&self, records: &[port::Stored]) -> Result<(), Undecodable> {
        if let Some(last) = records.last() {
            held(&self.control, last.sequence).await;
        }
        for stored in records {
            let recorded = Recorded::read(stored)?;
            let told = {
                let mut index = self.index.write().unwrap_or_else(PoisonError::into_inner);
                index.sequence = recorded.sequence;
                if let Some(operation) = ended(&recorded) {
                    if index.ended.len() == ENDED_MAX {
                        index.ended.pop_front();
                    }
                    index.ended.push_back(operation);
                }
                let subject = index.naming.subject(&recorded);
                Arc::new(Told { recorded, subject })
            };
            // Nobody listening is fine.
            let _ = self.told.send(told);
        }
        Ok(())
    }
}

/// Waits until the world holds the record, or never will.
async fn held(control: &Control, sequence: Sequence) {
    let mut changes = control.changes();
    while control.world().sequence < sequence {
        if changes.changed().await.is_err() {
            return;
        }
    }
}

/// The operation that this record ends, if it ends one.
fn ended(recorded: &Recorded) -> Option<OperationId> {
    let ends = |event: &Event| matches!(event, Event::Operation(event) if !matches!(event, operation::Event::Accepted { .. }));
    let is_one = recorded.stream.kind == StreamKind::Operation;
    (is_one && recorded.record.events().iter().any(ends)).then_some(OperationId(recorded.stream.id))
}

#[async_trait]
impl Backend for Direct {
    async fn submit(&self, command: Command, request: Request) -> Result<Accepted, Refusal> {
        let Request { actor, reason } = request;
        let request = stapes_control::Request { actor, reason, key: None };
        let accepted = self.0.control.submit(command, request).await?;
        Ok(Accepted {
            operation: accepted.operation,
            pending: accepted.pending,
            resources: accepted.resources,
            sequence: accepted.sequence,
        })
    }

    fn read(&self, look: &mut dyn FnMut(&World)) {
        look(&self.0.control.world());
    }

    async fn world_at(&self, at: At) -> Result<Arc<World>, Refusal> {
        let _turn = self.0.folds.acquire().await;
        fold(&*self.0.log, at).await.map(Arc::new)
    }

    async fn operation(&self, id: OperationId) -> Option<Operation> {
        if let Some(operation) = self.0.control.world().operations.get(&id) {
            return Some(operation.clone());
        }
        let records = past::stream(&*self.0.log, id.stream()).await.ok()?;
        let mut operation: Option<Operation> = None;
        for recorded in &records {
            for event in recorded.record.events() {
                let Event::Operation(event) = event else { continue };
                match &mut operation {
                    None => operation = Operation::begin(event, recorded.record.time),
                    Some(operation) => operation.evolve(event, recorded.record.time),
                }
            }
        }
        operation
    }

    async fn ended_operations(&self, count: usize) -> Result<Vec<Operation>, Refusal> {
        let ids: Vec<_> = self.0.index().ended.iter().rev().take(count).copied().collect();
        let found = stream::iter(ids).map(|id| self.operation(id)).buffered(16);
        Ok(found.filter_map(std::future::ready).collect().await)
    }

    async fn follow(&self, after: Option<Sequence>) -> Result<Following, Refusal> {
        match after {
            None => Ok(live(self.0.told.subscribe())),
            Some(after) => self.from(after).await,
        }
    }

    async fn history(&self, id: StreamId) -> Result<Vec<Told>, Refusal> {
        let records = past::stream(&*self.0.log, id).await?;
        let mut naming = self.0.index().naming.of_projects();
        Ok(records
            .into_iter()
            .map(|recorded| {
                let subject = naming.subject(&recorded);
                Told { recorded, subject }
            })
            .collect())
    }

    async fn verify(&self) -> Result<Verified, Refusal> {
        let _turn = self.0.folds.acquire().await;
        let served = self.0.control.world().clone();
        let folded = fold(&*self.0.log, At::Sequence(served.sequence)).await?;
        Ok(Verified {
            records: folded.sequence.0,
            sequence: folded.sequence,
            differences: past::differences(&served, &folded),
        })
    }
}

impl Direct {
    /// From a place in the log on, with the names of that time.
    async fn from(&self, after: Sequence) -> Result<Following, Refusal> {
        // From the present on the names of the present will do; from earlier on they are
        // learned again from the beginning.
        let (naming, from) = {
            let index = self.0.index();
            if after >= index.sequence {
                (index.naming.clone(), after)
            } else {
                (Naming::default(), Sequence(0))
            }
        };
        let follower = self.0.log.follow(from).await.map_err(|error| match error {
            port::ReadError::Regressed { head, .. } => {
                Refusal::Gone(format!("The log ends at {head}, before {after}"))
            }
            other @ (port::ReadError::Unavailable(_)
            | port::ReadError::Corrupt(_)
            | port::ReadError::Gap { .. }) => past::unreadable(&other),
        })?;
        let control = self.0.control.clone();
        let told = follower.scan(naming, move |naming, followed| {
            let items = match followed {
                Ok(port::Followed::Records(records)) => tell(naming, &records, after),
                Ok(port::Followed::CaughtUp(sequence)) => vec![Ok(Followed::CaughtUp(sequence))],
                Err(port::ReadError::Gap { missing }) => vec![Ok(Followed::Gap {
                    from: missing,
                    to: missing,
                    why: "the log does not hold it".to_owned(),
                })],
                Err(error) => vec![Err(past::unreadable(&error))],
            };
            let control = control.clone();
            async move {
                if let Some(Ok(Followed::Told(last))) = items.last() {
                    held(&control, last.recorded.sequence).await;
                }
                Some(stream::iter(items))
            }
        });
        Ok(told.flatten().boxed())
    }
}

fn tell(
    naming: &mut Naming,
    records: &[port::Stored],
    after: Sequence,
) -> Vec<Result<Followed, Refusal>> {
    let mut items = Vec::new();
    for stored in records {
        match Recorded::read(stored) {
            Ok(recorded) => {
                let subject = naming.subject(&recorded);
                if recorded.sequence > after {
                    items.push(Ok(Followed::Told(Arc::new(Told { recorded, subject }))));
                }
            }
            Err(error) => {
                items.push(Err(Refusal::Unavailable(error.to_string())));
                break;
            }
        }
    }
    items
}

/// What is new, as the follower tells it.
fn live(receiver: broadcast::Receiver<Arc<Told>>) -> Following {
    let told = stream::unfold(receiver, |mut receiver| async {
        match receiver.recv().await {
            Ok(told) => Some((Ok(Followed::Told(told)), receiver)),
            Err(broadcast::error::RecvError::Lagged(missed)) => {
                let text = format!("{missed} records were too many at once");
                Some((Err(Refusal::Unavailable(text)), receiver))
            }
            Err(broadcast::error::RecvError::Closed) => None,
        }
    });
    told.boxed()
}

impl From<SubmitError> for Refusal {
    fn from(error: SubmitError) -> Self {
        let text = error.to_string();
        match error {
            SubmitError::Rejected(rejection) => Self::Rejected(rejection),
            SubmitError::OutcomeUnknown(_) => Self::OutcomeUnknown(text),
            SubmitError::Contended
            | SubmitError::Unavailable(_)
            | SubmitError::Full(_)
            | SubmitError::Halted(_)
            | SubmitError::Secrets(_) => Self::Unavailable(text),
        }
    }
}
