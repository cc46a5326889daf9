//! A whole installation in one process, over pretend hosts.

use std::{
    collections::BTreeMap,
    io::Read as _,
    os::fd::OwnedFd,
    path::PathBuf,
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use stapes_control::{Accepted, Control, NodeReports, Request, SubmitError};
pub use stapes_core::furniture::{instance as instance_of_image, target as named};
use stapes_core::{
    command::Command,
    furniture::{self, ETH0, ROOT, default_profile, devices, import, network, pool},
    ids::{Fingerprint, NodeId},
    instance::{Instance, Status},
    node,
    port::{
        DriverError,
        guest::SimulatedGuests,
        image::MemoryImages,
        log::{EventLog, MemoryLog},
        network::MemoryNetworks,
        peer::{Arrivals, PeerAddress, Peers, Sources, Wanted, checkpoint_dir},
        report::{ReportError, Reports, Unwatched},
        secret::PretendSealer,
        storage::{MemoryStorage, Storage as _},
    },
    record::{Actor, Protocol},
    task::{Observation, Report, Task},
};
use stapes_node::{Drivers, Executor, ExecutorConfig, LogTasks};
use tokio::sync::watch;

/// How long anything pretended may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// One node's host: it outlives the daemons that run on it.
#[derive(Debug)]
pub struct Host {
    pub guests: Arc<SimulatedGuests>,
    pub storage: Arc<MemoryStorage>,
    pub networks: Arc<MemoryNetworks>,
    pub images: Arc<MemoryImages>,
    pub secrets: Arc<PretendSealer>,
    pub log: Arc<dyn EventLog>,
    pub name: String,
    /// Changes when the machine is rebooted.
    boot: uuid::Uuid,
    neighbours: Neighbours,
    dir: tempfile::TempDir,
}

/// Hosts that fetch from each other, and the moments at which one of their daemons can be killed.
#[derive(Clone, Debug, Default)]
pub struct Neighbours {
    sources: Arc<Mutex<BTreeMap<NodeId, Arc<dyn Sources>>>>,
    moments: Arc<Moments>,
}

#[derive(Debug, Default)]
struct Moments {
    /// How many there were.
    count: watch::Sender<u64>,
    /// At this one the daemon in question stands still; then whose it is.
    deadly: Mutex<Option<u64>>,
    doomed: watch::Sender<Option<NodeId>>,
}

impl Neighbours {
    /// At the nth moment from now the daemon whose moment it is stops doing anything.
    ///
    /// # Panics
    /// Never: no holder of the lock panics.
    pub fn strike_at(&self, nth: u64) {
        let now = *self.moments.count.borrow();
        *self.moments.deadly.lock().expect("no holder panics") = Some(now + nth);
        self.moments.doomed.send_replace(None);
    }

    /// Nothing is fetched from this node until its daemon starts again.
    ///
    /// # Panics
    /// Never: no holder of the lock panics.
    pub fn silence(&self, node: NodeId) {
        self.sources.lock().expect("no holder panics").remove(&node);
    }

    /// Whose daemon was struck.
    #[must_use]
    pub fn struck(&self) -> watch::Receiver<Option<NodeId>> {
        self.moments.doomed.subscribe()
    }

    /// Changes whenever a daemon did something.
    #[must_use]
    pub fn moments(&self) -> watch::Receiver<u64> {
        self.moments.count.subscribe()
    }

    async fn moment(&self, node: NodeId) {
        let mut now = 0;
        self.moments.count.send_modify(|count| {
            *count += 1;
            now = *count;
        });
        let deadly = *self.moments.deadly.lock().expect("no holder panics");
        if deadly == Some(now) {
            self.moments.doomed.send_replace(Some(node));
            std::future::pending::<()>().await;
        }
    }
}

#[derive(Debug)]
struct Neighbour {
    here: NodeId,
    all: Neighbours,
}

#[async_trait]
impl Peers for Neighbour {
    async fn fetch(&self, from: &PeerAddress, wanted: &Wanted) -> Result<OwnedFd, DriverError> {
        self.all.moment(self.here).await;
        let sources = self.all.sources.lock().expect("no holder panics").get(&from.node).cloned();
        let missing = || DriverError::Failed(format!("{} does not answer", from.address));
        let (sources, wanted) = (sources.ok_or_else(missing)?, wanted.clone());
        let (reader, writer) =
            std::io::pipe().map_err(|error| DriverError::Failed(error.to_string()))?;
        tokio::spawn(async move { sources.send(&wanted, writer.into()).await });
        Ok(reader.into())
    }
}

/// What a pretend host gives to others and takes from them.
#[derive(Debug)]
struct Exchange {
    storage: Arc<MemoryStorage>,
    checkpoints: PathBuf,
}

#[async_trait]
impl Sources for Exchange {
    async fn send(&self, wanted: &Wanted, into: OwnedFd) -> Result<u64, DriverError> {
        match wanted {
            Wanted::Root { pool, volume, snapshot, parent, make } => {
                if *make {
                    self.storage.create_snapshot(*pool, *volume, *snapshot).await?;
                }
                self.storage.send(*pool, *volume, *snapshot, *parent, into).await
            }
            Wanted::Image { pool, fingerprint } => {
                self.storage.send_image(*pool, fingerprint, into).await
            }
            Wanted::ImageFiles { .. } | Wanted::Key { .. } => {
                Err(DriverError::NotFound(format!("{wanted:?}")))
            }
            Wanted::Checkpoint { operation, .. } => {
                // A pretend guest is one small file.
                let from = checkpoint_dir(&self.checkpoints, *operation).join("imagined");
                let file = std::fs::File::open(from).map_err(broken)?;
                std::io::copy(&mut &file, &mut std::fs::File::from(into)).map_err(broken)
            }
        }
    }
}

#[async_trait]
impl Arrivals for Exchange {
    async fn land(&self, wanted: &Wanted, from: OwnedFd) -> Result<u64, DriverError> {
        match wanted {
            Wanted::Image { pool, fingerprint } => {
                self.storage.receive_image(*pool, fingerprint, from).await
            }
            Wanted::Checkpoint { operation, .. } => {
                let at = checkpoint_dir(&self.checkpoints, *operation);
                // Whoever writes may need this thread.
                let read = tokio::task::spawn_blocking(move || {
                    let mut content = Vec::new();
                    std::fs::File::from(from).read_to_end(&mut content).map(|_| content)
                });
                let content =
                    read.await.map_err(std::io::Error::other).flatten().map_err(broken)?;
                std::fs::create_dir_all(&at).map_err(broken)?;
                std::fs::write(at.join("imagined"), &content).map_err(broken)?;
                Ok(content.len() as u64)
            }
            Wanted::Root { .. } | Wanted::ImageFiles { .. } | Wanted::Key { .. } => {
                Err(DriverError::Refused(format!("{wanted:?} does not land here")))
            }
        }
    }
}

fn broken(error: std::io::Error) -> DriverError {
    DriverError::Failed(error.to_string())
}

/// A node's reports, each with a moment before and after it.
#[derive(Debug)]
struct Watched {
    reports: NodeReports,
    here: NodeId,
    all: Neighbours,
}

#[async_trait]
impl Reports for Watched {
    async fn report(&self, report: Report) -> Result<(), ReportError> {
        self.all.moment(self.here).await;
        self.reports.report(report).await?;
        self.all.moment(self.here).await;
        Ok(())
    }

    async fn observe(&self, observation: Observation) -> Result<(), ReportError> {
        self.reports.observe(observation).await
    }

    async fn is_wanted(&self, task: &Task) -> Result<bool, ReportError> {
        self.reports.is_wanted(task).await
    }
}

/// A daemon on a host. Dropping it is `kill -9`.
#[derive(Debug)]
pub struct Daemon {
    pub control: Control,
    pub node: NodeId,
    tasks: Vec<tokio::task::JoinHandle<()>>,
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.tasks.iter().for_each(tokio::task::JoinHandle::abort);
    }
}

impl Default for Host {
    fn default() -> Self {
        Self::with_log(Arc::new(MemoryLog::default()))
    }
}

impl Host {
    /// # Panics
    /// When there is no room for a temporary directory.
    #[must_use]
    pub fn with_log(log: Arc<dyn EventLog>) -> Self {
        Self::beside(log, "pretend", &Neighbours::default())
    }

    /// One of several hosts on one log.
    ///
    /// # Panics
    /// When there is no room for a temporary directory.
    #[must_use]
    pub fn beside(log: Arc<dyn EventLog>, name: &str, neighbours: &Neighbours) -> Self {
        Self {
            name: name.to_owned(),
            neighbours: neighbours.clone(),
            guests: Arc::new(SimulatedGuests::new(Arc::new(chrono::Utc::now))),
            storage: Arc::default(),
            networks: Arc::new(MemoryNetworks::new()),
            images: Arc::default(),
            secrets: Arc::default(),
            log,
            boot: uuid::Uuid::nil(),
            dir: tempfile::tempdir().expect("there is a temporary directory"),
        }
    }

    /// Starts a daemon. Only one at a time.
    ///
    /// # Panics
    /// When it does not start.
    pub async fn start(&mut self) -> Daemon {
        self.guests = Arc::new(self.guests.restarted());
        let control = Control::sealing(self.log.clone(), self.secrets.clone());
        let node = self.id();
        let mut tasks = vec![tokio::spawn(control.clone().follow())];
        let rebooted = control.found(self.facts()).await.expect("the installation is founded");
        let (storage, checkpoints) = (self.storage.clone(), self.dir.path().join("checkpoints"));
        let exchange = Arc::new(Exchange { storage, checkpoints });
        let drivers = Drivers {
            guests: self.guests.clone(),
            storage: self.storage.clone(),
            networks: self.networks.clone(),
            images: self.images.clone(),
            secrets: self.secrets.clone(),
            peers: Arc::new(Neighbour { here: node, all: self.neighbours.clone() }),
            arrivals: exchange.clone(),
            checkpoints: exchange.checkpoints.clone(),
        };
        let config =
            ExecutorConfig { node, state_dir: self.dir.path().to_owned(), boot: self.boot };
        let reports = control.reports_of(node, &self.name).after_reboot(rebooted);
        let reports = Arc::new(Watched { reports, here: node, all: self.neighbours.clone() });
        let queue = Arc::new(LogTasks::new(self.log.clone(), node));
        let executor = Executor::new(config, queue, reports, drivers, Arc::new(Unwatched));
        let executor = executor.expect("the executor starts");
        self.neighbours.sources.lock().expect("no holder panics").insert(node, exchange);
        executor.take_over().await.expect("what runs is taken over");
        tasks.push(tokio::spawn(
            async move { executor.run().await.expect("the log can be followed") },
        ));
        Daemon { control, node, tasks }
    }

    /// What ran is gone without a trace, and the machine is on again.
    pub fn lose_power(&mut self) {
        self.guests = Arc::new(SimulatedGuests::new(Arc::new(chrono::Utc::now)));
        self.boot = uuid::Uuid::now_v7();
    }

    /// Its node's.
    #[must_use]
    pub fn id(&self) -> NodeId {
        NodeId::derive(&[&self.name])
    }

    /// What its daemons say of it when they start.
    #[must_use]
    pub fn facts(&self) -> node::Start {
        node::Start { boot: self.boot, ..furniture::node(&self.name) }
    }
}

/// Somebody at the host's keyboard.
#[must_use]
pub fn alice() -> Request {
    Request::by(Actor { protocol: Protocol::Unix, name: "alice".to_owned() })
}

/// The fingerprint of the image that [`Daemon::furnish`] brings.
///
/// # Panics
/// Never: it is a fingerprint.
#[must_use]
pub fn image() -> Fingerprint {
    Fingerprint::new("ab".repeat(32)).expect("64 digits")
}

impl Daemon {
    /// Submits and waits for the operation's end.
    ///
    /// # Errors
    /// The refusal.
    ///
    /// # Panics
    /// When the operation does not end.
    pub async fn run(&self, command: Command) -> Result<Accepted, SubmitError> {
        let accepted = self.control.submit(command, alice()).await?;
        self.until("the operation ends", |daemon| !daemon.is_under_way(&accepted)).await;
        Ok(accepted)
    }

    fn is_under_way(&self, accepted: &Accepted) -> bool {
        self.control.world().operations.contains_key(&accepted.operation)
    }

    /// Waits until it is so.
    ///
    /// # Panics
    /// When it never is.
    pub async fn until(&self, what: &str, is_so: impl Fn(&Self) -> bool) {
        let mut changes = self.control.changes();
        let so = async {
            while !is_so(self) {
                changes.changed().await.expect("the daemon runs");
            }
        };
        assert!(tokio::time::timeout(PATIENCE, so).await.is_ok(), "waited in vain until {what}");
    }

    /// A pool, a network, a default profile with both, and an image `test`.
    ///
    /// # Panics
    /// When one of them is refused.
    pub async fn furnish(&self) {
        let profile = default_profile(devices(&[ROOT, ETH0]));
        let pool = pool("btrfs", &[("size", "1GiB")]);
        for command in [pool, network(&[]), profile, import("ab", "test", None)] {
            self.run(command).await.expect("it is furnished");
        }
    }

    /// The instance as decisions see it.
    #[must_use]
    pub fn instance(&self, name: &str) -> Option<Instance> {
        self.control.world().instance("default", name).ok().cloned()
    }

    /// # Panics
    /// When there is no such instance.
    #[must_use]
    pub fn status(&self, name: &str) -> Status {
        self.instance(name).expect("the instance is there").status
    }
}
