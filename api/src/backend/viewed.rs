//! The backend of one node: control for what is asked to happen, the views for all that is read.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use futures::{StreamExt, stream};
use stapes_control::{Control, SubmitError};
use stapes_core::{
    command::Command,
    ids::{OperationId, Revision, Sequence, StreamId},
    operation::Operation,
    port::log::{EventLog, PARTS_MAX, ReadError},
    record::Recorded,
    world::World,
};
use stapes_projections::{
    self as projections, AsOf, Behind, Entry, OperationFilter, PAGE_MAX, QueryError, Views,
};
use tokio::sync::Semaphore;

use super::{
    Accepted, At, Backend, Followed, Following, Refusal, Request, Subject, Told, Verified,
};

/// How long an answer waits for the views to hold what it wrote.
const READ_YOUR_WRITES_MAX: Duration = Duration::from_secs(10);
/// Folds of the whole log at the same time: each is a world in memory.
const FOLDS_MAX: usize = 2;
/// Entries of one timeline at most.
const HISTORY_MAX: usize = 100_000;

/// A cheap handle; clones share everything.
#[derive(Clone, Debug)]
pub struct Viewed {
    control: Control,
    views: Views,
    log: Arc<dyn EventLog>,
    folds: Arc<Semaphore>,
}

impl Viewed {
    /// Both follow `log`, and are driven by whoever made them.
    #[must_use]
    pub fn new(control: Control, views: Views, log: Arc<dyn EventLog>) -> Self {
        Self { control, views, log, folds: Arc::new(Semaphore::new(FOLDS_MAX)) }
    }

    /// Where the commit ends that the record belongs to: between two of its records nothing ever was.
    async fn end_of_commit(&self, sequence: Sequence) -> Result<Sequence, Refusal> {
        let records =
            self.log.read(sequence, PARTS_MAX).await.map_err(|error| unreadable(&error))?;
        let end = records.iter().find(|record| record.last_in_commit);
        Ok(end.map_or(sequence, |end| end.sequence))
    }

    /// The entries of one timeline, oldest first.
    async fn entries(&self, id: StreamId) -> Result<Vec<Entry>, Refusal> {
        let mut entries = Vec::new();
        let mut before = None;
        while entries.len() < HISTORY_MAX {
            let page = self.views.timeline(&[id], before, PAGE_MAX).await?;
            entries.extend(page.rows);
            before = page.next;
            if before.is_none() {
                break;
            }
        }
        entries.reverse();
        Ok(entries)
    }
}

#[async_trait]
impl Backend for Viewed {
    async fn submit(&self, command: Command, request: Request) -> Result<Accepted, Refusal> {
        let request =
            stapes_control::Request { actor: request.actor, reason: request.reason, key: None };
        // Whoever asks may have been told what control has not read yet: that an operation ended.
        self.control.hold(self.views.sequence()).await?;
        let accepted = self.control.submit(command, request).await?;
        self.views.wait_for(accepted.sequence, READ_YOUR_WRITES_MAX).await?;
        Ok(Accepted {
            operation: accepted.operation,
            pending: accepted.pending,
            resources: accepted.resources,
            sequence: accepted.sequence,
        })
    }

    async fn reach(&self, sequence: Sequence) {
        // What is older than asked for is told all the same.
        let _ = self.views.wait_for(sequence, READ_YOUR_WRITES_MAX).await;
    }

    fn read(&self, look: &mut dyn FnMut(&World)) {
        self.views.read(look);
    }

    async fn world_at(&self, at: At) -> Result<Arc<World>, Refusal> {
        let _turn = self.folds.acquire().await;
        let as_of = match at {
            At::Sequence(Sequence(0)) => AsOf::Sequence(Sequence(0)),
            At::Sequence(sequence) => AsOf::Sequence(self.end_of_commit(sequence).await?),
            At::Time(time) => AsOf::Time(time),
        };
        let world = self.views.world_at(as_of).await?;
        match at {
            At::Time(time) if world.sequence == Sequence(0) => {
                Err(Refusal::Gone(format!("The log begins after {time}")))
            }
            At::Time(_) | At::Sequence(_) => Ok(world),
        }
    }

    async fn operation(&self, id: OperationId) -> Option<Operation> {
        self.views.operation(id).await.ok().flatten().map(|view| view.operation)
    }

    async fn ended_operations(&self, count: usize) -> Result<Vec<Operation>, Refusal> {
        let mut ended = Vec::new();
        let mut before = None;
        while ended.len() < count {
            let filter = OperationFilter { ended_only: true, ..OperationFilter::default() };
            let page =
                self.views.operations(filter, before, (count - ended.len()).min(PAGE_MAX)).await?;
            ended.extend(page.rows.into_iter().map(|view| view.operation));
            before = page.next;
            if before.is_none() {
                break;
            }
        }
        ended.truncate(count);
        Ok(ended)
    }

    async fn follow(&self, after: Option<Sequence>) -> Result<Following, Refusal> {
        let head = self.views.sequence();
        if let Some(after) = after.filter(|after| *after > head) {
            return Err(Refusal::Gone(format!("The log ends at {head}, before {after}")));
        }
        let followed = self.views.follow(after).flat_map(|followed| {
            stream::iter(match followed {
                Ok(projections::Followed::Told(told)) => told
                    .into_iter()
                    .map(|told| Ok(Followed::Told(Arc::new(named(&told)))))
                    .collect(),
                Ok(projections::Followed::CaughtUp(sequence)) => {
                    vec![Ok(Followed::CaughtUp(sequence))]
                }
                Err(error) => vec![Err(error.into())],
            })
        });
        Ok(followed.boxed())
    }

    async fn history(&self, id: StreamId) -> Result<Vec<Told>, Refusal> {
        let entries = self.entries(id).await?;
        let stored =
            self.log.read_stream(id, Revision(0)).await.map_err(|error| unreadable(&error))?;
        let mut history = Vec::with_capacity(stored.len());
        for stored in &stored {
            let recorded =
                Recorded::read(stored).map_err(|error| Refusal::Unavailable(error.to_string()))?;
            let from = entries.partition_point(|entry| entry.sequence < recorded.sequence);
            let of_record =
                entries[from..].iter().take_while(|entry| entry.sequence == recorded.sequence);
            let of_record: Vec<_> =
                of_record.filter(|entry| entry.subject.stream == id).cloned().collect();
            // What was appended after the timeline was read is left to the next request.
            let Some(first) = of_record.first() else { continue };
            let subject = subject(&first.subject);
            history.push(Told { recorded, subject, entries: of_record });
        }
        Ok(history)
    }

    async fn verify(&self) -> Result<Verified, Refusal> {
        let _turn = self.folds.acquire().await;
        let verified = self.views.verify().await?;
        Ok(Verified {
            records: verified.sequence.0,
            sequence: verified.sequence,
            differences: verified.differences,
        })
    }
}

fn subject(subject: &projections::Subject) -> Subject {
    Subject {
        kind: subject.stream.kind,
        id: subject.stream.id,
        project: subject.project.as_ref().map(|project| project.name.clone()),
        name: subject.name.clone(),
    }
}

fn named(told: &projections::Told) -> Told {
    Told {
        recorded: told.recorded.clone(),
        subject: subject(&told.subject),
        entries: told.entries.clone(),
    }
}

fn unreadable(error: &ReadError) -> Refusal {
    Refusal::Unavailable(format!("the log cannot be read: {error}"))
}

impl From<QueryError> for Refusal {
    fn from(error: QueryError) -> Self {
        let text = error.to_string();
        match error {
            QueryError::Future { .. } => Self::Gone(text),
            QueryError::Blocked(_) | QueryError::Log(_) | QueryError::Store(_) => {
                Self::Unavailable(text)
            }
        }
    }
}

impl From<Behind> for Refusal {
    /// The command was taken; only the answer is missing.
    fn from(error: Behind) -> Self {
        Self::OutcomeUnknown(format!("the change is made, but {error}"))
    }
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
