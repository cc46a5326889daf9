//! What the views knew when they were closed: for as long as the log cannot say what came since.

use std::{path::Path, sync::Arc};

use stapes_core::{
    ids::{OperationId, Sequence},
    world::World,
};

use crate::{
    checkpoint, index,
    operations::OperationView,
    state::State,
    store::{Damaged, Shelf},
    views::OpenError,
};

/// The newest checkpoint of a store. It was true once, and nobody compared it with the log since.
#[derive(Clone, Debug)]
pub struct Recalled(State);

impl Recalled {
    /// `None` when there is no checkpoint, or none that can be trusted. The store is closed when this
    /// answers, so that [`Views`](crate::Views) can open it.
    ///
    /// # Errors
    /// When the directory cannot be read.
    pub async fn read(directory: &Path) -> Result<Option<Self>, OpenError> {
        let directory = directory.to_owned();
        let opened = tokio::task::spawn_blocking(move || Shelf::open(Some(&directory))).await;
        let opened = opened.map_err(std::io::Error::other).and_then(|opened| opened);
        let (shelf, _) = opened.map_err(OpenError::Directory)?;
        let newest = Sequence(u64::MAX - 1);
        let read = index::blocking(move || checkpoint::read(&*shelf.store(), newest)).await;
        Ok(read
            .unwrap_or_else(|Damaged(why)| {
                tracing::warn!(why, "the newest checkpoint cannot be read");
                None
            })
            .map(Self))
    }

    #[must_use]
    pub fn world(&self) -> &Arc<World> {
        &self.0.world
    }

    /// Of the last record that it knows of.
    #[must_use]
    pub fn sequence(&self) -> Sequence {
        self.0.sequence()
    }

    /// An operation that was under way, or had ended a moment before.
    #[must_use]
    pub fn operation(&self, id: OperationId) -> Option<&OperationView> {
        self.0.operations.get(id)
    }

    /// Operations that had ended, newest first.
    pub fn ended(&self) -> impl Iterator<Item = &OperationView> {
        self.0.operations.ended()
    }
}
