//! One command at a time to the log, many at once.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard},
    time::Duration,
};

use chrono::{DateTime, SubsecRound, Utc};
use futures::StreamExt;
use stapes_core::{
    command::{Command, decide},
    decision::{Answer, Context},
    event::Event,
    ids::{CommitId, OperationId, Sequence},
    operation::{self, Resource},
    port::{
        log::{AppendError, Commit, EventLog, Followed, ReadError},
        secret::Sealer,
    },
    record::{Actor, Recorded},
    rejection::Rejection,
    world::World,
};
use tokio::sync::watch;
use uuid::Uuid;

use crate::{
    encode,
    flight::{Claim, Flight},
    seal,
};

/// Decisions lost to other writers before a command gives up.
const CONFLICTS_MAX: u32 = 32;
/// How long a command that lost again and again waits before it is decided again, at most.
const LOST_PAUSE_MAX: Duration = Duration::from_millis(128);
/// How long a commit whose outcome is unknown is asked for. A JetStream leader's death stops
/// acknowledgements for 5 to 9 seconds.
const UNKNOWN_MAX: Duration = Duration::from_secs(20);
/// How long a command waits for the world to hold what was appended.
const FOLLOW_MAX: Duration = Duration::from_secs(30);
/// Answers remembered for clients that repeat a request.
const ANSWERS_MAX: usize = 4096;
/// Failed operations remembered for the watch that asked for them.
const FAILURES_MAX: usize = 1024;

/// Who asks, and how.
#[derive(Clone, Debug)]
pub struct Request {
    pub actor: Actor,
    /// The user's own words.
    pub reason: Option<String>,
    /// Repeating a request with the same key changes nothing and gives the first answer.
    pub key: Option<String>,
}

impl Request {
    #[must_use]
    pub const fn by(actor: Actor) -> Self {
        Self { actor, reason: None, key: None }
    }
}

/// A command that was taken: what follows from it is durable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Accepted {
    /// To wait for, if `pending`.
    pub operation: OperationId,
    pub pending: bool,
    pub resources: Vec<Resource>,
    /// Readers that hold this sequence see the command's effect.
    pub sequence: Sequence,
}

/// Nothing has changed unless the variant says otherwise.
#[derive(Debug, thiserror::Error)]
pub enum SubmitError {
    #[error(transparent)]
    Rejected(#[from] Rejection),
    #[error("gave up after {CONFLICTS_MAX} decisions lost to other writers; try again")]
    Contended,
    #[error("the log cannot be written: {0}")]
    Unavailable(String),
    #[error("the log's disk is full: {0}; free space there, then try again")]
    Full(String),
    #[error("whether the log holds the decision is unknown: {0}; look before trying again")]
    OutcomeUnknown(String),
    /// The log cannot be trusted any more, so nothing is written to it.
    #[error("writes are stopped: {0}")]
    Halted(String),
    /// So nothing that holds secrets is written.
    #[error("secrets cannot be sealed: {0}")]
    Secrets(String),
}

/// A cheap handle; clones share everything.
#[derive(Clone, Debug)]
pub struct Control(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    log: Arc<dyn EventLog>,
    sealer: Option<Arc<dyn Sealer>>,
    world: RwLock<World>,
    flight: Mutex<Flight>,
    followed: watch::Sender<Position>,
    answers: Mutex<VecDeque<(CommitId, Accepted)>>,
    /// The newest operations that failed, and why.
    failures: Mutex<VecDeque<(OperationId, String)>>,
}

#[derive(Clone, Debug, Default)]
struct Position {
    sequence: Sequence,
    caught_up: bool,
    halted: Option<String>,
}

impl Control {
    /// Nothing is decided before [`Control::follow`] has caught up. Secrets stay as they come: for
    /// logs that hold none.
    #[must_use]
    pub fn new(log: Arc<dyn EventLog>) -> Self {
        Self::with(log, None)
    }

    /// The same; secrets are sealed before anything is decided.
    #[must_use]
    pub fn sealing(log: Arc<dyn EventLog>, sealer: Arc<dyn Sealer>) -> Self {
        Self::with(log, Some(sealer))
    }

    fn with(log: Arc<dyn EventLog>, sealer: Option<Arc<dyn Sealer>>) -> Self {
        Self(Arc::new(Shared {
            log,
            sealer,
            world: RwLock::default(),
            flight: Mutex::default(),
            followed: watch::Sender::new(Position::default()),
            answers: Mutex::default(),
            failures: Mutex::default(),
        }))
    }

    /// Follows the log for as long as it can be trusted. To be spawned.
    pub async fn follow(self) {
        let why = match self.follow_until_broken().await {
            Ok(()) => "the log ended".to_owned(),
            Err(why) => why,
        };
        tracing::error!(why, "writes are stopped");
        self.0.followed.send_modify(|position| position.halted = Some(why));
    }

    async fn follow_until_broken(&self) -> Result<(), String> {
        let text = |error: ReadError| error.to_string();
        let mut follower = self.0.log.follow(Sequence(0)).await.map_err(text)?;
        while let Some(followed) = follower.next().await {
            match followed.map_err(text)? {
                Followed::Records(records) => {
                    let sequence = self.apply(&records)?;
                    self.0.followed.send_modify(|position| position.sequence = sequence);
                }
                Followed::CaughtUp(_) => {
                    self.0.followed.send_modify(|position| position.caught_up = true)
                }
            }
        }
        Ok(())
    }

    fn apply(&self, records: &[stapes_core::port::log::Stored]) -> Result<Sequence, String> {
        let decoded = records.iter().map(Recorded::read).collect::<Result<Vec<_>, _>>();
        let decoded = decoded.map_err(|error| error.to_string())?;
        let mut world = self.0.world.write().unwrap_or_else(PoisonError::into_inner);
        for recorded in &decoded {
            world.apply(recorded).map_err(|error| error.to_string())?;
            self.remember_failure(recorded);
        }
        Ok(world.sequence)
    }

    fn remember_failure(&self, recorded: &Recorded) {
        for event in recorded.record.events() {
            let Event::Operation(operation::Event::Failed { error }) = event else { continue };
            let mut failures = self.0.failures.lock().unwrap_or_else(PoisonError::into_inner);
            if failures.len() == FAILURES_MAX {
                failures.pop_front();
            }
            failures.push_back((OperationId(recorded.stream.id), error.clone()));
        }
    }

    /// Why an operation failed, if it did and not long ago.
    pub(crate) fn error_of(&self, operation: OperationId) -> Option<String> {
        let failures = self.0.failures.lock().unwrap_or_else(PoisonError::into_inner);
        let found = failures.iter().rev().find(|(known, _)| *known == operation);
        found.map(|(_, error)| error.clone())
    }

    /// Waits until the world holds all that was in the log when this was called.
    ///
    /// # Errors
    /// [`SubmitError::Halted`] when the log cannot be trusted.
    pub async fn caught_up(&self) -> Result<(), SubmitError> {
        self.wait(|position| position.caught_up).await
    }

    async fn wait(&self, done: impl Fn(&Position) -> bool) -> Result<(), SubmitError> {
        let mut followed = self.0.followed.subscribe();
        let position =
            followed.wait_for(|position| position.halted.is_some() || done(position)).await;
        match position.ok().and_then(|position| position.halted.clone()) {
            Some(why) => Err(SubmitError::Halted(why)),
            None => Ok(()),
        }
    }

    /// The world as decisions see it.
    pub fn world(&self) -> RwLockReadGuard<'_, World> {
        self.0.world.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes whenever [`Control::world`] does.
    #[must_use]
    pub fn changes(&self) -> Changes {
        Changes(self.0.followed.subscribe())
    }

    /// Decides and appends. What it answers is durable, and in [`Control::world`].
    ///
    /// # Errors
    /// The refusal, or why the log could not take it.
    pub async fn submit(
        &self,
        command: Command,
        request: Request,
    ) -> Result<Accepted, SubmitError> {
        let commit = match &request.key {
            Some(key) => CommitId::derive(&[&request.actor.name, key]),
            None => CommitId(Uuid::now_v7()),
        };
        let operation = match &request.key {
            Some(_) => OperationId::derive(&[&commit.to_string()]),
            None => OperationId(Uuid::now_v7()),
        };
        let context = Context {
            commit,
            operation,
            time: now(),
            actor: request.actor,
            reason: request.reason,
            caused_by: None,
        };
        self.submit_in(command, context).await
    }

    /// The same under ids that are given.
    pub(crate) async fn submit_in(
        &self,
        mut command: Command,
        context: Context,
    ) -> Result<Accepted, SubmitError> {
        if let Some(answer) = self.answered(context.commit) {
            return Ok(answer);
        }
        self.seal(&mut command).await?;
        for lost in 0..CONFLICTS_MAX {
            let (claim, commit, answer) = match self.decide_and_claim(&command, &context).await? {
                Decided::Nothing(accepted) => return Ok(accepted),
                Decided::Claimed { claim, commit, answer } => (claim, commit, answer),
            };
            let claim = Claimed { flight: &self.0.flight, claim };
            match self.append(commit).await {
                Ok(sequence) => {
                    tracing::debug!(%sequence, operation = %answer.operation, "appended");
                    self.hold(sequence).await?;
                    drop(claim);
                    let Answer { operation, pending, resources } = answer;
                    let accepted = Accepted { operation, pending, resources, sequence };
                    self.remember(context.commit, &accepted);
                    return Ok(accepted);
                }
                Err(Lost::Race) => {
                    drop(claim);
                    tokio::time::sleep(pause_after(lost, context.commit)).await;
                    self.catch_up().await?;
                }
                Err(Lost::For(error)) => return Err(error),
            }
        }
        Err(SubmitError::Contended)
    }

    async fn seal(&self, command: &mut Command) -> Result<(), SubmitError> {
        let Some(sealer) = &self.0.sealer else { return Ok(()) };
        self.caught_up().await?;
        // The world is not held while keys are read.
        let brought = seal::brought(&self.world(), command)?;
        let Some(brought) = brought else { return Ok(()) };
        sealer.prepare(Some(brought.seals_for()), brought.sealed()).await;
        brought.seal(&**sealer)
    }

    async fn decide_and_claim(
        &self,
        command: &Command,
        context: &Context,
    ) -> Result<Decided, SubmitError> {
        self.caught_up().await?;
        let exclusive = command.is_exclusive();
        loop {
            let (mut released, streams) = {
                let mut flight = self.flight();
                let world = self.world();
                let mut decision = decide(&world, context, command)?;
                if let Some(sealer) = &self.0.sealer {
                    seal::reseal_copies(&**sealer, &mut decision)?;
                }
                if decision.is_empty() {
                    let Answer { operation, pending, resources } = decision.answer;
                    let sequence = world.sequence;
                    return Ok(Decided::Nothing(Accepted {
                        operation,
                        pending,
                        resources,
                        sequence,
                    }));
                }
                let streams: Vec<_> = decision.events.iter().map(|(stream, _)| *stream).collect();
                if flight.is_free(&streams, exclusive) {
                    let claim = flight.claim(streams, exclusive);
                    let answer = decision.answer.clone();
                    let commit = encode::commit(&world, context, decision);
                    return Ok(Decided::Claimed { claim, commit, answer });
                }
                (flight.released(), streams)
            };
            // Somebody holds one of the streams; what is decided then may differ.
            while released.changed().await.is_ok() && !self.flight().is_free(&streams, exclusive) {}
        }
    }

    async fn append(&self, commit: Commit) -> Result<Sequence, Lost> {
        let deadline = tokio::time::Instant::now() + UNKNOWN_MAX;
        let mut pause = Duration::from_millis(50);
        loop {
            match self.0.log.append(commit.clone()).await {
                Ok(appended) => return Ok(appended.last),
                Err(AppendError::Conflict { .. }) => return Err(Lost::Race),
                Err(AppendError::OutcomeUnknown(cause))
                    if tokio::time::Instant::now() < deadline =>
                {
                    tracing::warn!(%cause, commit = %commit.id, "the log did not answer; asking again");
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(Duration::from_secs(2));
                }
                Err(AppendError::OutcomeUnknown(cause)) => {
                    return Err(Lost::For(SubmitError::OutcomeUnknown(cause.to_string())));
                }
                Err(AppendError::Full(why)) => return Err(Lost::For(SubmitError::Full(why))),
                Err(
                    error @ (AppendError::Unavailable(_)
                    | AppendError::Corrupt(_)
                    | AppendError::Invalid(_)),
                ) => {
                    return Err(Lost::For(SubmitError::Unavailable(chain(&error))));
                }
            }
        }
    }

    /// Waits until the world holds the record, so that what is decided next knows of it.
    ///
    /// # Errors
    /// [`SubmitError::Halted`] when the log cannot be trusted, or the record is not read in time.
    pub async fn hold(&self, sequence: Sequence) -> Result<(), SubmitError> {
        let held = self.wait(|position| position.sequence >= sequence);
        match tokio::time::timeout(FOLLOW_MAX, held).await {
            Ok(result) => result,
            Err(_) => Err(SubmitError::Halted(format!(
                "record {sequence} was appended and is not read back"
            ))),
        }
    }

    /// Until the world holds all that is in the log now: what won a race, or what a node that reads
    /// the log itself has seen already.
    pub(crate) async fn catch_up(&self) -> Result<(), SubmitError> {
        let head =
            self.0.log.head().await.map_err(|error| SubmitError::Unavailable(chain(&error)))?;
        self.hold(head).await
    }

    fn flight(&self) -> MutexGuard<'_, Flight> {
        self.0.flight.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn answered(&self, commit: CommitId) -> Option<Accepted> {
        let answers = self.0.answers.lock().unwrap_or_else(PoisonError::into_inner);
        answers
            .iter()
            .rev()
            .take(ANSWERS_MAX)
            .find(|(known, _)| *known == commit)
            .map(|(_, answer)| answer.clone())
    }

    fn remember(&self, commit: CommitId, answer: &Accepted) {
        let mut answers = self.0.answers.lock().unwrap_or_else(PoisonError::into_inner);
        if answers.len() == ANSWERS_MAX {
            answers.pop_front();
        }
        answers.push_back((commit, answer.clone()));
    }
}

/// A watch over the world.
#[derive(Debug)]
pub struct Changes(watch::Receiver<Position>);

impl Changes {
    /// Waits for the next change after the last one seen.
    ///
    /// # Errors
    /// When nothing will change any more.
    pub async fn changed(&mut self) -> Result<(), SubmitError> {
        let halted = |why: &str| SubmitError::Halted(why.to_owned());
        self.0.changed().await.map_err(|_| halted("the daemon is going"))?;
        self.0.borrow_and_update().halted.as_deref().map_or(Ok(()), |why| Err(halted(why)))
    }
}

enum Decided {
    /// It is so already, or joins what is under way.
    Nothing(Accepted),
    Claimed {
        claim: Claim,
        commit: Commit,
        answer: Answer,
    },
}

/// Why an append did not happen.
enum Lost {
    Race,
    For(SubmitError),
}

/// Longer the more often it lost, and for each command another: those who race part ways. The first
/// loss is most often the only one.
fn pause_after(lost: u32, commit: CommitId) -> Duration {
    if lost == 0 {
        return Duration::ZERO;
    }
    let longest = Duration::from_millis(1 << lost.min(10)).min(LOST_PAUSE_MAX);
    let drawn = commit.0.as_bytes()[15 - (lost as usize % 8)];
    longest * (u32::from(drawn) + 1) / 256
}

/// Gives the streams back when the decision is over, however it ends.
struct Claimed<'a> {
    flight: &'a Mutex<Flight>,
    claim: Claim,
}

impl Drop for Claimed<'_> {
    fn drop(&mut self) {
        self.flight.lock().unwrap_or_else(PoisonError::into_inner).release(&self.claim);
    }
}

/// The wall clock, as precise as the log keeps it.
pub(crate) fn now() -> DateTime<Utc> {
    Utc::now().trunc_subsecs(6)
}

/// An error with its causes.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}
