//! The companion: a second server that stands beside a lone one while it starts.
//!
//! A cluster's server waits at its start until it is connected to another one, and founds a cluster of
//! two at least. So whoever is alone is given company for these two seconds:
//!
//! ```text
//! founding:   companion with a store ─► the two agree ─► companion is voted out ─► it ends
//! later:      companion without ─► the server is its own majority and starts ─► it ends
//! ```
//!
//! It listens on loopback, nobody may log in to it, and it is this node's server by certificate.

use std::{path::PathBuf, time::Duration};

use rustix::process::Signal;
use tokio::time::Instant;

use super::{
    ManagedConfig, ManagedError,
    ask::System,
    config::{companion_name, render_companion},
    paths::{Paths, create_dir, remove_dir, write},
    process::{Process, end_recorded},
};

const ENDS_WITHIN: Duration = Duration::from_secs(10);
/// How long the two may take to become one.
const VOTED_OUT_WITHIN: Duration = Duration::from_secs(30);
const PAUSE: Duration = Duration::from_millis(100);

#[derive(Debug)]
pub(super) struct Companion {
    process: Process,
    dir: PathBuf,
    name: String,
}

impl Companion {
    /// Starts it; with a store when `keeps`.
    pub(super) fn start(
        config: &ManagedConfig,
        paths: &Paths,
        keeps: bool,
    ) -> Result<Self, ManagedError> {
        let dir = paths.companion.clone();
        create_dir(&dir)?;
        let file = dir.join("nats.conf");
        write(&file, &render_companion(config, &dir, keeps)?)?;
        let process = Process::start(&config.binary, &file, &record(paths))?;
        Ok(Self { process, dir, name: companion_name(config) })
    }

    /// Makes the server that `system` speaks to the only one of its cluster.
    pub(super) async fn vote_out(&self, system: &System) -> Result<(), ManagedError> {
        let until = Instant::now() + VOTED_OUT_WITHIN;
        let mut last = "it has not answered".to_owned();
        while Instant::now() < until {
            match system.meta().await {
                Ok(Some(meta)) if meta.cluster_size == 1 => return Ok(()),
                Ok(Some(meta)) if meta.leader.as_deref() == Some(&self.name) => {
                    last = told(system.step_down().await, "the companion leads");
                }
                Ok(Some(meta)) => {
                    let size = meta.cluster_size;
                    last =
                        told(system.vote_out(&self.name).await, &format!("{size} servers decide"));
                }
                Ok(None) => "it has no leader".clone_into(&mut last),
                Err(error) => last = error.to_string(),
            }
            tokio::time::sleep(PAUSE).await;
        }
        Err(ManagedError::NotReady { waited: VOTED_OUT_WITHIN, answers: true, why: last })
    }

    pub(super) async fn end(self) -> Result<(), ManagedError> {
        self.process.end(Signal::TERM, ENDS_WITHIN).await?;
        remove_dir(&self.dir)
    }
}

/// Ends one that an earlier daemon left.
pub(super) async fn end_leftover(paths: &Paths) -> Result<(), ManagedError> {
    end_recorded(&record(paths)).await?;
    remove_dir(&paths.companion)
}

fn record(paths: &Paths) -> PathBuf {
    paths.companion.join("process.json")
}

fn told(answer: Result<(), ManagedError>, otherwise: &str) -> String {
    answer.err().map_or_else(|| otherwise.to_owned(), |error| error.to_string())
}
