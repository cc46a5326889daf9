//! What is read: the projections, and the API's backend over them.

use std::{sync::Arc, time::Duration};

use stapes_api::backend::{Backend, Viewed};
use stapes_control::Control;
use stapes_core::{
    ids::Sequence,
    port::{
        log::EventLog,
        report::{Progress, Unwatched},
    },
};
use stapes_projections::{OpenError, Options, Views};
use tokio::{sync::watch, task::JoinSet};

use super::directory::Directory;

/// How often an operator who waits is told why.
const PATIENCE: Duration = Duration::from_secs(5);

#[derive(Debug)]
pub(crate) struct Watched {
    views: Views,
    backend: Arc<dyn Backend>,
}

impl Watched {
    pub(crate) async fn open(
        directory: &Directory,
        log: &Arc<dyn EventLog>,
        control: &Control,
    ) -> Result<Self, OpenError> {
        let views = Views::open(Some(&directory.views()), log.clone(), Options::default()).await?;
        let backend = Arc::new(Viewed::new(control.clone(), views.clone(), log.clone()));
        Ok(Self { views, backend })
    }

    /// How far they are.
    pub(crate) fn applied(&self) -> watch::Receiver<Sequence> {
        let mut status = self.views.watch();
        let (tell, applied) = watch::channel(self.views.sequence());
        tokio::spawn(async move {
            while status.changed().await.is_ok() && !tell.is_closed() {
                let sequence = status.borrow_and_update().sequence();
                tell.send_replace(sequence);
            }
        });
        applied
    }

    pub(crate) fn run(&self, failing: &mut JoinSet<String>) {
        let views = self.views.clone();
        failing.spawn(async move { views.run().await.to_string() });
    }

    /// Waits until the views hold all that was decided, so that nobody is told that something is
    /// not there that is only not read yet. Only a rebuild of a long log takes longer than a moment.
    pub(crate) async fn hold(&self, sequence: Sequence) {
        while self.views.wait_for(sequence, PATIENCE).await.is_err() {
            let at = self.views.sequence();
            tracing::info!(%at, of = %sequence, "the views are being built; nothing is served yet");
        }
    }

    /// Writes down what they hold.
    pub(crate) async fn keep(&self) {
        if let Err(error) = self.views.keep().await {
            tracing::warn!(%error, "what is known is not written down");
        }
    }

    pub(crate) fn backend(&self) -> Arc<dyn Backend> {
        self.backend.clone()
    }

    pub(crate) fn progress(&self) -> Arc<dyn Progress> {
        Arc::new(Unwatched)
    }
}
