//! The daemon's life: open the log, take over what runs, serve, and go.
//!
//! ```text
//! directory ─► footing (log) ─► control ─► drivers ─► executor takes over ─► sockets ─► until SIGTERM
//! ```
//!
//! The log is the node's own files, or the cluster's; nothing behind the footing asks which.
//!
//! The sockets are there only after everything behind them is: whoever can connect is served. A member
//! whose log is away for long is the exception: see [`early`](super::early).

use std::{io, path::Path, sync::Arc, time::Duration};

use stapes_api::backend::Facts;
use stapes_control::{Control, SubmitError};
use stapes_core::{ids::NodeId, node::Start, port::log::ReadError};
use stapes_node::{Executor, ExecutorConfig, StartError};
use tokio::{task::JoinSet, time::timeout};

use super::{
    cluster::{ClusterKeys, ConfigError, Here, MemberError},
    directory::{Directory, DirectoryError},
    door::{Door, House, Told},
    early::{Early, PATIENCE},
    footing::{Footing, Seated},
    host::{self, Drivers, HostError},
    identity, membership, shutdown, simulated,
    views::Watched,
};

/// How long what is known may take to be written down when the daemon goes.
const KEEP_MAX: Duration = Duration::from_secs(5);
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
    let daemon = Daemon::prepare(dir, is_simulated)?;
    let Daemon { directory, start, seated, .. } = &daemon;
    let mut finding = Box::pin(Footing::find(directory, start, seated.as_ref()));
    let found = timeout(PATIENCE, &mut finding).await;
    let mut early = match (&found, seated) {
        (Err(_), Some(seated)) => {
            Early::begin(directory, seated, || daemon.drivers(), daemon.facts()).await?
        }
        (Ok(_), _) | (_, None) => None,
    };
    let drivers = early.as_ref().map(Early::drivers);
    let raising = async {
        let footing = match found {
            Ok(footing) => footing?,
            Err(_) => finding.await?,
        };
        daemon.raise(footing, drivers).await
    };
    let raised = match &mut early {
        None => raising.await,
        Some(early) => tokio::select! {
            raised = raising => raised,
            () = early.told() => Ok(Raised::Ends(End::Gone)),
        },
    };
    let whole = match raised {
        Ok(Raised::Whole(whole)) => whole,
        Ok(Raised::Ends(end)) => return leave(early, Ok(end)).await,
        Err(error) => return leave(early, Err(error)).await,
    };
    let backend = whole.views.backend();
    let door = match early {
        Some(early) => early.give_way(backend),
        None => {
            let (drivers, here, facts) = (&whole.drivers, &whole.here, daemon.facts());
            let seat = seated.as_ref().map(|seated| &*seated.seat);
            Door::open(House { directory, backend, drivers, facts, here, seat }).await?
        }
    };
    whole.until_told(door, start.node).await
}

/// Before anything was whole.
async fn leave(
    early: Option<Early>,
    outcome: Result<End, DaemonError>,
) -> Result<End, DaemonError> {
    if let Some(early) = early {
        early.close().await;
    }
    outcome
}

/// What is known before the log is.
struct Daemon {
    directory: Directory,
    start: Start,
    secrets: Arc<ClusterKeys>,
    /// Of a member.
    seated: Option<Seated>,
    is_simulated: bool,
}

/// Everything that there is behind the sockets.
struct Whole {
    control: Control,
    here: Here,
    drivers: Drivers,
    views: Watched,
    failing: JoinSet<String>,
}

enum Raised {
    Whole(Box<Whole>),
    Ends(End),
}

impl Daemon {
    fn prepare(dir: &Path, is_simulated: bool) -> Result<Self, DaemonError> {
        let directory = Directory::prepare(dir)?;
        let start = identity::start(NodeId(directory.node_id()?));
        let secrets = host::secrets(&directory)?;
        let seated = Seated::find(&directory, start.node)?;
        Ok(Self { directory, start, secrets, seated, is_simulated })
    }

    fn drivers(&self) -> Result<Drivers, DaemonError> {
        let (directory, secrets) = (&self.directory, self.secrets.clone());
        Ok(if self.is_simulated {
            simulated::drivers(directory, secrets)?
        } else {
            host::drivers(directory, secrets)?
        })
    }

    fn facts(&self) -> Facts {
        let seated = self.seated.as_ref().map(|seated| seated.seat.config.name.clone());
        identity::facts(&self.directory, seated.unwrap_or_else(|| self.start.name.clone()))
    }

    /// From the log to all that is behind the sockets. `drivers`, if somebody uses the host already.
    async fn raise(
        &self,
        footing: Footing,
        drivers: Option<Drivers>,
    ) -> Result<Raised, DaemonError> {
        let Self { directory, start, .. } = self;
        let Footing { log, tasks, here, member } = footing;
        let node = start.node;
        let control = Control::sealing(log.clone(), self.secrets.clone());
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
            match membership::take_up(directory, member, &control, start).await? {
                End::Gone => {}
                End::Again => return Ok(Raised::Ends(End::Again)),
            }
        }
        let mut drivers = drivers.map_or_else(|| self.drivers(), Ok)?;
        let rebooted = control.found(start.clone()).await?;
        if let Some(member) = &member {
            drivers.peers = Arc::new(member.peers(&control));
            membership::run(directory, member, &control, &drivers, &mut failing).await?;
        }

        let views = Watched::open(directory, &log, &control).await?;
        views.run(&mut failing);

        let name = self.facts().server_name;
        let executor = Executor::new(
            ExecutorConfig { node, state_dir: directory.node(), boot: start.boot },
            tasks,
            Arc::new(control.reports_of(node, &name).after_reboot(rebooted)),
            drivers.for_node(),
            views.progress(),
        )?;
        executor.take_over().await?;
        if let Some(member) = &member {
            let guests = (&control, drivers.guests.clone());
            let applied = views.applied();
            membership::hold((directory, member), guests, applied, start.boot, &mut failing);
        }
        failing.spawn(async move {
            executor
                .run()
                .await
                .map_or_else(|error| error.to_string(), |()| "the log ended".to_owned())
        });
        if rebooted {
            control.autostart(node).await?;
        }
        if self.is_simulated && member.is_none() {
            simulated::furnish(&control).await?;
        }
        let ready = async {
            if let Some(member) = &member {
                membership::equip(member, &control).await;
            }
            let decided = control.world().sequence;
            views.hold(decided).await;
        };
        tokio::select! {
            () = ready => {}
            Some(why) = failing.join_next() => return Err(broken(why)),
        }
        Ok(Raised::Whole(Box::new(Whole { control, here, drivers, views, failing })))
    }
}

fn broken(why: Result<String, tokio::task::JoinError>) -> DaemonError {
    DaemonError::Broken(why.unwrap_or_else(|error| error.to_string()))
}

impl Whole {
    async fn until_told(mut self, mut door: Door, node: NodeId) -> Result<End, DaemonError> {
        let outcome = tokio::select! {
            told = door.told() => {
                if told == Told::ByClient {
                    shutdown::stop_guests(&self.control, node).await;
                }
                Ok(End::Gone)
            }
            () = self.here.again() => Ok(End::Again),
            Some(why) = self.failing.join_next() => Err(broken(why)),
        };
        if matches!(outcome, Ok(End::Again)) {
            // Whoever asked for it is told how it ended first.
            tokio::time::sleep(TELL_FIRST).await;
        }
        tracing::info!("going; guests stay as they are");
        door.close().await;
        drop(self.failing);
        // What is known is there at the next start, whether or not the log is.
        let _ = timeout(KEEP_MAX, self.views.keep()).await;
        self.drivers.retire().await;
        outcome
    }
}
