//! What the API needs of the rest of stapes, in core's words.
//!
//! The write path is [`Backend::submit`]; everything that is read comes from the fold of the log
//! (a [`World`]) or from the log itself ([`Backend::follow`]). What is live (a guest's memory, a
//! pool's free space) comes through core's ports, in [`Drivers`].

mod cluster;
mod known;
mod viewed;

use std::{fmt, path::PathBuf, sync::Arc};

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use futures::stream::BoxStream;
use stapes_core::{
    command::Command,
    ids::{OperationId, Sequence, StreamId, StreamKind},
    operation::{Operation, Resource},
    port::{guest::Guests, image::Images, network::Networks, secret::Sealer, storage::Storage},
    record::{Actor, Recorded},
    rejection::Rejection,
    world::World,
};
use stapes_projections::Entry;
use uuid::Uuid;

pub use cluster::{
    Clustering, Connection, DrawnToken, Founding, Health, Joining, LogAccess, LogKind, Lost,
};
pub use known::Known;
pub use viewed::Viewed;

/// Who asks, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    pub actor: Actor,
    /// The user's own words.
    pub reason: Option<String>,
}

/// A command that was decided; durable, and seen by [`Backend::read`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Accepted {
    pub operation: OperationId,
    /// Whether the operation goes on.
    pub pending: bool,
    pub resources: Vec<Resource>,
    /// Of the decision's last record.
    pub sequence: Sequence,
}

/// Why a request was not done.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// It cannot be done; nothing has changed.
    #[error(transparent)]
    Rejected(#[from] Rejection),
    /// Not now; nothing has changed.
    #[error("{0}")]
    Unavailable(String),
    /// Whether it was done is not known.
    #[error("{0}")]
    OutcomeUnknown(String),
    /// What is asked about is not kept.
    #[error("{0}")]
    Gone(String),
}

/// A place in history.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum At {
    Sequence(Sequence),
    Time(DateTime<Utc>),
}

/// What a record is about, by the names of that moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subject {
    pub kind: StreamKind,
    pub id: Uuid,
    /// `None` for what is in no project.
    pub project: Option<String>,
    pub name: String,
}

/// A record with the names that belong to it.
#[derive(Clone, Debug, PartialEq)]
pub struct Told {
    pub recorded: Recorded,
    pub subject: Subject,
    /// Its events in words, and from what to what.
    pub entries: Vec<Entry>,
}

/// What a follower of the log sees.
#[derive(Clone, Debug, PartialEq)]
pub enum Followed {
    Told(Arc<Told>),
    /// All that there was is told; what follows is new.
    CaughtUp(Sequence),
    /// These are not kept.
    Gap {
        from: Sequence,
        to: Sequence,
        why: String,
    },
}

pub type Following = BoxStream<'static, Result<Followed, Refusal>>;

/// What a replay of the whole log found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified {
    pub records: u64,
    pub sequence: Sequence,
    /// In words; empty when the views are what the log says.
    pub differences: Vec<String>,
}

#[async_trait]
pub trait Backend: Send + Sync + fmt::Debug + 'static {
    /// Whether it has heard the log; until then it only knows what was true once.
    fn is_whole(&self) -> bool {
        true
    }

    /// Decides a command. When it answers, the views hold the decision.
    async fn submit(&self, command: Command, request: Request) -> Result<Accepted, Refusal>;

    /// Waits a moment until what is read is at least as new as this.
    async fn reach(&self, sequence: Sequence);

    /// Lends the world as it is now. The look must be short: nothing is written meanwhile.
    fn read(&self, look: &mut dyn FnMut(&World));

    /// The world as it was.
    async fn world_at(&self, at: At) -> Result<Arc<World>, Refusal>;

    /// An operation, under way or ended.
    async fn operation(&self, id: OperationId) -> Option<Operation>;

    /// Operations that ended, newest first, of all projects.
    async fn ended_operations(&self, count: usize) -> Result<Vec<Operation>, Refusal>;

    /// Every record after `after`, then every new one; each is told after the views hold it.
    /// `None`: only new ones.
    async fn follow(&self, after: Option<Sequence>) -> Result<Following, Refusal>;

    /// The records of one stream, oldest first.
    async fn history(&self, stream: StreamId) -> Result<Vec<Told>, Refusal>;

    /// Folds the whole log anew and compares.
    async fn verify(&self) -> Result<Verified, Refusal>;
}

impl dyn Backend {
    /// One look at the world.
    pub fn look<R>(&self, look: impl FnOnce(&World) -> R) -> R {
        let mut look = Some(look);
        let mut seen = None;
        self.read(&mut |world| seen = look.take().map(|look| look(world)));
        // The trait's one promise here is that it calls what it is given.
        seen.expect("a backend lends its world")
    }
}

/// The drivers of this node, for what is live.
#[derive(Clone, Debug)]
pub struct Drivers {
    pub guests: Arc<dyn Guests>,
    pub images: Arc<dyn Images>,
    pub storage: Arc<dyn Storage>,
    pub networks: Arc<dyn Networks>,
    /// Opens secrets for those who may see them.
    pub secrets: Arc<dyn Sealer>,
}

/// What does not change while the daemon runs.
#[derive(Clone, Debug)]
pub struct Facts {
    /// The host's name.
    pub server_name: String,
    pub version: String,
    /// `STAPES_DIR`.
    pub directory: PathBuf,
    /// Pool drivers with their versions.
    pub storage_drivers: Vec<(String, String)>,
    pub firewall: String,
}
