//! The executor's life: put the host back in order, take over what runs, then do as the log says.

use std::{io, path::PathBuf, sync::Arc, time::Duration};

use stapes_core::{
    agent::asks_first,
    ids::NodeId,
    port::{
        DriverError,
        guest::Guests,
        image::Images,
        log::ReadError,
        network::Networks,
        peer::{Arrivals, Peers},
        queue::Tasks,
        report::{Progress, ReportError, Reports},
        secret::Sealer,
        storage::Storage,
    },
    task::{Observation, Task},
};
use uuid::Uuid;

use crate::{dispatcher::Dispatcher, memory::Memory, settling::Settling, travel};

/// How long a report that cannot be taken waits before it is repeated, at first and at most.
const REPORT_PAUSE_MIN: Duration = Duration::from_millis(50);
const REPORT_PAUSE_MAX: Duration = Duration::from_secs(5);

/// What touches the host.
#[derive(Clone, Debug)]
pub struct Drivers {
    pub guests: Arc<dyn Guests>,
    pub storage: Arc<dyn Storage>,
    pub networks: Arc<dyn Networks>,
    pub images: Arc<dyn Images>,
    /// Opens what a guest is given of its secrets.
    pub secrets: Arc<dyn Sealer>,
    /// The other nodes.
    pub peers: Arc<dyn Peers>,
    /// Keeps what came from them.
    pub arrivals: Arc<dyn Arrivals>,
    /// Where held guests are written down, those that came from elsewhere too.
    pub checkpoints: PathBuf,
}

#[derive(Clone, Debug)]
pub struct ExecutorConfig {
    pub node: NodeId,
    /// For what it remembers.
    pub state_dir: PathBuf,
    /// The host's, since it was started last: what was done before may be lost.
    pub boot: Uuid,
}

/// A cheap handle; clones share everything.
#[derive(Clone, Debug)]
pub struct Executor {
    pub(crate) config: ExecutorConfig,
    pub(crate) tasks: Arc<dyn Tasks>,
    pub(crate) reports: Arc<dyn Reports>,
    pub(crate) drivers: Drivers,
    pub(crate) progress: Arc<dyn Progress>,
    pub(crate) memory: Memory,
    pub(crate) settling: Arc<Settling>,
}

#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("the node's memory in {dir} cannot be used")]
    Memory { dir: PathBuf, source: io::Error },
    #[error("the guests that run cannot be taken over")]
    Adopt(#[source] DriverError),
    #[error(transparent)]
    Log(#[from] ReadError),
    #[error(transparent)]
    Report(#[from] ReportError),
}

impl Executor {
    /// # Errors
    /// When its memory cannot be opened.
    pub fn new(
        config: ExecutorConfig,
        tasks: Arc<dyn Tasks>,
        reports: Arc<dyn Reports>,
        drivers: Drivers,
        progress: Arc<dyn Progress>,
    ) -> Result<Self, StartError> {
        let memory = Memory::open(&config.state_dir, config.boot)
            .map_err(|source| StartError::Memory { dir: config.state_dir.clone(), source })?;
        let settling = Arc::default();
        Ok(Self { config, tasks, reports, drivers, progress, memory, settling })
    }

    /// Puts pools and networks back, takes over the guests that run and reports those that ended.
    /// To be called once, before [`Executor::run`].
    ///
    /// # Errors
    /// When what runs cannot be found out, or cannot be reported. A pool or a network that cannot be
    /// put back is logged: its guests' tasks will say so.
    pub async fn take_over(&self) -> Result<(), StartError> {
        self.restore_host()
            .await
            .map_err(|source| StartError::Memory { dir: self.config.state_dir.clone(), source })?;
        let (running, exited) = self.drivers.guests.adopt().await.map_err(StartError::Adopt)?;
        if running.iter().all(|running| running.held.is_none()) {
            travel::forget_all_checkpoints(&self.drivers.checkpoints);
        }
        running.iter().for_each(|running| travel::watch_hold(self, *running));
        tracing::info!(running = running.len(), exited = exited.len(), "guests taken over");
        self.reports.observe(Observation::Adopted { running, exited }).await?;
        Ok(())
    }

    async fn restore_host(&self) -> io::Result<()> {
        for spec in self.memory.pools()? {
            if let Err(error) = self.drivers.storage.ensure_pool(&spec).await {
                tracing::error!(pool = spec.name, %error, "storage pool is not usable");
            }
        }
        for spec in self.memory.networks()? {
            if let Err(error) = self.drivers.networks.ensure_network(&spec).await {
                tracing::error!(network = spec.bridge, %error, "network is not usable");
            }
        }
        for reservations in self.memory.reservations() {
            let Some(first) = reservations.first() else { continue };
            if let Err(error) = self.drivers.networks.reserve(first.instance, &reservations).await {
                tracing::error!(instance = %first.instance, %error, "addresses are not reserved");
            }
        }
        Ok(())
    }

    /// Performs this node's tasks for as long as they are delivered.
    ///
    /// # Errors
    /// Why they are not delivered any more.
    pub async fn run(&self) -> Result<(), ReadError> {
        tokio::select! {
            ended = Dispatcher::new(self.clone()).run() => ended,
            never = self.settling.run(self) => never,
        }
    }

    /// Whether the log still wants the task, where that matters. Without the log nobody knows, and the
    /// task waits: its guest may run elsewhere by now.
    pub(crate) async fn is_wanted(&self, task: &Task) -> bool {
        if !asks_first(&task.work) {
            return true;
        }
        self.insist("leave to go on", || self.reports.is_wanted(task)).await.unwrap_or(false)
    }

    /// Asks until there is an answer, which of a report says that it is durable: an unavailable log is
    /// asked again and again, since the task is not done with before. `None`, and a line in the log,
    /// for what makes no sense.
    pub(crate) async fn insist<T, F>(&self, what: &str, ask: impl Fn() -> F) -> Option<T>
    where
        F: Future<Output = Result<T, ReportError>>,
    {
        let mut pause = REPORT_PAUSE_MIN;
        loop {
            match ask().await {
                Ok(answer) => return Some(answer),
                Err(ReportError::Refused(why)) => {
                    tracing::warn!(what, why, "the log refuses it");
                    return None;
                }
                Err(ReportError::Unavailable(why)) => {
                    tracing::warn!(what, why, "the log does not answer; it is asked again");
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(REPORT_PAUSE_MAX);
                }
            }
        }
    }
}
