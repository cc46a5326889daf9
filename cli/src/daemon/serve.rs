//! The daemon's life: open the log, take over what runs, serve, and go.
//!
//! ```text
//! directory ─► footing (log) ─► control ─► drivers ─► executor takes over ─► sockets ─► until SIGTERM
//! ```
//!
//! The log is the node's own files, or the cluster's; nothing behind the footing asks which.
//!
//! The socket is there only after everything behind it is: whoever can connect is served.

use std::{io, path::Path, sync::Arc, time::Duration};

use stapes_api::server::{Api, Listener};
use stapes_control::{Control, SubmitError};
use stapes_core::{ids::NodeId, port::log::ReadError};
use stapes_drivers::exchange::Exchange;
use stapes_node::{Executor, ExecutorConfig, StartError};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::watch,
    task::JoinSet,
};

use super::{
    cluster::{ConfigError, Here, Member, MemberError},
    directory::{Directory, DirectoryError},
    footing::Footing,
    host::{self, HostError},
    identity, membership, shutdown, simulated,
    views::Watched,
};

/// How long requests under way may take to end after the daemon was told to go.
const DRAIN_MAX: Duration = Duration::from_secs(5);
/// How long a client that made the node a member has to hear so.
const TELL_FIRST: Duration = Duration::from_millis(500);

/// Why the daemon does not serve. Guests that run are not touched by any of it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DaemonError {
    #[error(transparent)]
    Directory(#[from] DirectoryError),
    #[error("the log cannot be opened")]
    Log(#[from] stapes_log::OpenError),
    #[error("the log cannot be read")]
    Read(#[from] ReadError),
    #[error("the host cannot be used")]
    Host(#[from] HostError),
    #[error("the installation cannot be taken up")]
    Submit(#[from] SubmitError),
    #[error("the node cannot be taken up")]
    Node(#[from] StartError),
    #[error("the views cannot be opened")]
    Views(#[from] stapes_projections::OpenError),
    #[error("the socket {path} cannot be served")]
    Socket { path: String, source: io::Error },
    #[error("signals cannot be received")]
    Signals(#[source] io::Error),
    #[error("the daemon stopped: {0}")]
    Broken(String),
    #[error("the node cannot be a member of its cluster")]
    Member(#[from] MemberError),
    #[error("the node's configuration as a member cannot be read")]
    Config(#[from] ConfigError),
    #[error("what the node had before it was a member cannot be sealed aside")]
    Seal(#[source] io::Error),
    #[error("{address} cannot be served")]
    Address { address: String, source: io::Error },
}

/// How a daemon's life ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    Gone,
    /// It is to start anew: the node is something else than it was.
    Again,
}

/// Serves until SIGTERM, SIGINT or `stapes shutdown`, or until the node becomes something else.
///
/// # Errors
/// Why it does not, or not any more.
pub(crate) async fn serve(dir: &Path, is_simulated: bool) -> Result<End, DaemonError> {
    let directory = Directory::prepare(dir)?;
    let start = identity::start(NodeId(directory.node_id()?));
    let (node, mut name) = (start.node, start.name.clone());
    let secrets = host::secrets(&directory)?;
    let Footing { log, tasks, here, member } = Footing::find(&directory, &start).await?;
    let control = Control::sealing(log.clone(), secrets.clone());
    here.governs(&control);
    let mut failing = JoinSet::new();
    failing.spawn({
        let control = control.clone();
        async move {
            control.follow().await;
            "the log cannot be trusted any more".to_owned()
        }
    });
    if let Some(member) = &member {
        match membership::take_up(&directory, member, &control, &start).await? {
            End::Gone => name.clone_from(&member.config.name),
            End::Again => return Ok(End::Again),
        }
    }
    let mut drivers = if is_simulated {
        simulated::drivers(&directory, secrets)?
    } else {
        host::drivers(&directory, secrets)?
    };
    let boot = start.boot;
    let rebooted = control.found(start).await?;
    if let Some(member) = &member {
        drivers.peers = Arc::new(member.peers(&control));
        membership::run(&directory, member, &control, &drivers, &mut failing).await?;
    }

    let views = Watched::open(&directory, &log, &control).await?;
    views.run(&mut failing);

    let executor = Executor::new(
        ExecutorConfig { node, state_dir: directory.node() },
        tasks,
        Arc::new(control.reports_of(node, &name).after_reboot(rebooted)),
        drivers.for_node(),
        views.progress(),
    )?;
    executor.take_over().await?;
    if let Some(member) = &member {
        let guests = (&control, drivers.guests.clone());
        membership::hold((&directory, member), guests, views.applied(), boot, &mut failing);
    }
    failing.spawn({
        let executor = executor.clone();
        async move {
            executor
                .run()
                .await
                .map_or_else(|error| error.to_string(), |()| "the log ended".to_owned())
        }
    });
    if rebooted {
        control.autostart(node).await?;
    }
    if is_simulated && member.is_none() {
        simulated::furnish(&control).await?;
    }

    let decided = control.world().sequence;
    tokio::select! {
        () = views.hold(decided) => {}
        Some(why) = failing.join_next() => {
            return Err(DaemonError::Broken(why.unwrap_or_else(|error| error.to_string())));
        }
    }
    let facts = identity::facts(&directory, name);
    let cluster = Arc::new(here.clone());
    let api = Api::clustering(views.backend(), drivers.for_api(), facts, cluster);
    let sources = drivers.exchange.clone();
    let (directory, control, here) = (&directory, &control, &here);
    let service = Service { node, directory, control, here, api, sources, failing };
    let outcome = service.until_told(member.as_deref()).await;
    drivers.retire().await;
    outcome
}

/// What is served, and what may end it.
struct Service<'a> {
    node: NodeId,
    directory: &'a Directory,
    control: &'a Control,
    here: &'a Here,
    api: Api,
    sources: Arc<Exchange>,
    failing: JoinSet<String>,
}

impl Service<'_> {
    async fn until_told(mut self, member: Option<&Member>) -> Result<End, DaemonError> {
        let path = self.directory.socket();
        let socket = |source| DaemonError::Socket { path: path.display().to_string(), source };
        let listener = Listener::bind(&path).await.map_err(socket)?;
        let mut terminate = signal(SignalKind::terminate()).map_err(DaemonError::Signals)?;
        let mut interrupt = signal(SignalKind::interrupt()).map_err(DaemonError::Signals)?;
        let shutdown_asked = self.api.shutdown_asked();
        let stop = watch::Sender::new(false);
        let stopped = || {
            let mut stop = stop.subscribe();
            async move {
                let _ = stop.wait_for(|stop| *stop).await;
            }
        };
        let remote = match member {
            Some(member) => {
                let served = (&self.api, self.control, self.sources.clone());
                Some(membership::listen(member, served, stopped()).await?)
            }
            None => None,
        };
        let served = tokio::spawn(listener.serve(self.api.router(), stopped()));
        tracing::info!(socket = %path.display(), "serving");
        let outcome = tokio::select! {
            _ = terminate.recv() => Ok(End::Gone),
            _ = interrupt.recv() => Ok(End::Gone),
            () = self.here.again() => Ok(End::Again),
            () = shutdown_asked => {
                shutdown::stop_guests(self.control, self.node).await;
                Ok(End::Gone)
            }
            Some(why) = self.failing.join_next() => {
                Err(DaemonError::Broken(why.unwrap_or_else(|error| error.to_string())))
            }
        };
        if matches!(outcome, Ok(End::Again)) {
            // Whoever asked for it is told how it ended first.
            tokio::time::sleep(TELL_FIRST).await;
        }
        tracing::info!("going; guests stay as they are");
        stop.send_replace(true);
        // Clients that hold a socket open do not keep the daemon.
        let _ = tokio::time::timeout(DRAIN_MAX, served).await;
        if let Some(remote) = remote {
            let _ = tokio::time::timeout(DRAIN_MAX, remote).await;
        }
        let _ = std::fs::remove_file(&path);
        outcome
    }
}
