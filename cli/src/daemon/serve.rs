//! The daemon's life: open the log, take over what runs, serve, and go.
//!
//! ```text
//! directory ─► log ─► control ─► drivers ─► executor takes over ─► socket ─► until SIGTERM
//! ```
//!
//! The socket is there only after everything behind it is: whoever can connect is served.

use std::{io, path::Path, sync::Arc, time::Duration};

use stapes_api::server::{Api, Listener};
use stapes_control::{Control, SubmitError};
use stapes_core::{
    ids::NodeId,
    port::log::{EventLog, ReadError},
};
use stapes_log::SegmentLog;
use stapes_node::{Executor, ExecutorConfig, LogTasks, StartError};
use tokio::signal::unix::{SignalKind, signal};

use super::{
    directory::{Directory, DirectoryError},
    host::{self, HostError},
    identity, shutdown, simulated,
    views::Watched,
};

/// How long requests under way may take to end after the daemon was told to go.
const DRAIN_MAX: Duration = Duration::from_secs(5);

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
}

/// Serves until SIGTERM, SIGINT or `stapes shutdown`.
///
/// # Errors
/// Why it does not, or not any more.
pub(crate) async fn serve(dir: &Path, is_simulated: bool) -> Result<(), DaemonError> {
    let directory = Directory::prepare(dir)?;
    let log: Arc<dyn EventLog> =
        Arc::new(SegmentLog::open(directory.log(), stapes_log::Options::default())?);
    let node = NodeId(directory.node_id()?);

    let secrets = host::secrets(&directory)?;
    let control = Control::sealing(log.clone(), secrets.clone());
    let mut failing = tokio::task::JoinSet::new();
    failing.spawn({
        let control = control.clone();
        async move {
            control.follow().await;
            "the log cannot be trusted any more".to_owned()
        }
    });
    let drivers = if is_simulated {
        simulated::drivers(&directory, secrets)?
    } else {
        host::drivers(&directory, secrets)?
    };
    let start = identity::start(node);
    let name = start.name.clone();
    let rebooted = control.found(start).await?;

    let views = Watched::open(&directory, &log, &control).await?;
    views.run(&mut failing);

    let executor = Executor::new(
        ExecutorConfig { node, state_dir: directory.node() },
        Arc::new(LogTasks::new(log.clone(), node)),
        Arc::new(control.reports_of(node, &name)),
        drivers.for_node(),
        views.progress(),
    )?;
    executor.take_over().await?;
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
    if is_simulated {
        simulated::furnish(&control).await?;
    }

    let decided = control.world().sequence;
    tokio::select! {
        () = views.hold(decided) => {}
        Some(why) = failing.join_next() => {
            return Err(DaemonError::Broken(why.unwrap_or_else(|error| error.to_string())));
        }
    }
    let api = Api::new(views.backend(), drivers.for_api(), identity::facts(&directory, name));
    let outcome = until_told(&directory, (&control, node), api, failing).await;
    drivers.retire().await;
    outcome
}

async fn until_told(
    directory: &Directory,
    (control, node): (&Control, NodeId),
    api: Api,
    mut failing: tokio::task::JoinSet<String>,
) -> Result<(), DaemonError> {
    let path = directory.socket();
    let socket = |source| DaemonError::Socket { path: path.display().to_string(), source };
    let listener = Listener::bind(&path).await.map_err(socket)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(DaemonError::Signals)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(DaemonError::Signals)?;
    let shutdown_asked = api.shutdown_asked();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let served = tokio::spawn(listener.serve(api.router(), async move {
        let _ = stopped.await;
    }));
    tracing::info!(socket = %path.display(), "serving");
    let outcome = tokio::select! {
        _ = terminate.recv() => Ok(()),
        _ = interrupt.recv() => Ok(()),
        () = shutdown_asked => {
            shutdown::stop_guests(control, node).await;
            Ok(())
        }
        Some(why) = failing.join_next() => Err(DaemonError::Broken(why.unwrap_or_else(|error| error.to_string()))),
    };
    tracing::info!("going; guests stay as they are");
    let _ = stop.send(());
    // Clients that hold a socket open do not keep the daemon.
    let _ = tokio::time::timeout(DRAIN_MAX, served).await;
    let _ = std::fs::remove_file(&path);
    outcome
}
