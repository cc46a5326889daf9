//! What is read: the projections, and the API's backend over them.

use std::sync::Arc;

use stapes_api::backend::{Backend, Viewed};
use stapes_control::Control;
use stapes_core::port::{
    log::EventLog,
    report::{Progress, Unwatched},
};
use stapes_projections::{OpenError, Options, Views};
use tokio::task::JoinSet;

use super::directory::Directory;

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

    pub(crate) fn run(&self, failing: &mut JoinSet<String>) {
        let views = self.views.clone();
        failing.spawn(async move { views.run().await.to_string() });
    }

    pub(crate) fn backend(&self) -> Arc<dyn Backend> {
        self.backend.clone()
    }

    pub(crate) fn progress(&self) -> Arc<dyn Progress> {
        Arc::new(Unwatched)
    }
}
