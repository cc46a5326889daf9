//! A whole installation in one process, over pretend hosts.

use std::{sync::Arc, time::Duration};

use stapes_control::{Accepted, Control, Request, SubmitError};
use stapes_core::{
    command::Command,
    config::{Config, Devices},
    ids::{Fingerprint, NodeId},
    image,
    instance::{self, Instance, Status, Target},
    node,
    port::{
        guest::SimulatedGuests,
        image::{ImageFacts, ImageKind, MemoryImages},
        log::{EventLog, MemoryLog},
        network::MemoryNetworks,
        report::Unwatched,
        secret::PretendSealer,
        storage::MemoryStorage,
    },
    profile,
    record::{Actor, Protocol},
};
use stapes_node::{Drivers, Executor, ExecutorConfig, LogTasks};

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
    dir: tempfile::TempDir,
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
        Self {
            guests: Arc::new(SimulatedGuests::new(Arc::new(chrono::Utc::now))),
            storage: Arc::default(),
            networks: Arc::new(MemoryNetworks::new()),
            images: Arc::default(),
            secrets: Arc::default(),
            log,
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
        let node = NodeId::derive(&["pretend"]);
        let mut tasks = vec![tokio::spawn(control.clone().follow())];
        control.found(self.node(node)).await.expect("the installation is founded");
        let drivers = Drivers {
            guests: self.guests.clone(),
            storage: self.storage.clone(),
            networks: self.networks.clone(),
            images: self.images.clone(),
            secrets: self.secrets.clone(),
        };
        let config = ExecutorConfig { node, state_dir: self.dir.path().to_owned() };
        let reports = Arc::new(control.reports_of(node, "pretend"));
        let queue = Arc::new(LogTasks::new(self.log.clone(), node));
        let executor = Executor::new(config, queue, reports, drivers, Arc::new(Unwatched));
        let executor = executor.expect("the executor starts");
        executor.take_over().await.expect("what runs is taken over");
        tasks.push(tokio::spawn(
            async move { executor.run().await.expect("the log can be followed") },
        ));
        Daemon { control, node, tasks }
    }

    fn node(&self, node: NodeId) -> node::Start {
        node::Start {
            node,
            name: "pretend".to_owned(),
            architecture: "x86_64".to_owned(),
            cpus: 2,
            memory_bytes: 8 << 30,
            boot: uuid::Uuid::nil(),
            version: "0".to_owned(),
        }
    }
}

/// Somebody at the host's keyboard.
#[must_use]
pub fn alice() -> Request {
    Request::by(Actor { protocol: Protocol::Unix, name: "alice".to_owned() })
}

/// An instance of the default project.
#[must_use]
pub fn named(name: &str) -> Target {
    Target { project: "default".to_owned(), name: name.to_owned() }
}

/// The fingerprint of the image that [`Daemon::furnish`] brings.
///
/// # Panics
/// Never: it is a fingerprint.
#[must_use]
pub fn image() -> Fingerprint {
    Fingerprint::new("ab".repeat(32)).expect("64 digits")
}

/// A request for an instance of that image.
#[must_use]
pub fn instance_of_image(name: &str) -> instance::Create {
    instance::Create {
        project: "default".to_owned(),
        name: name.to_owned(),
        kind: ImageKind::Container,
        ephemeral: false,
        description: String::new(),
        config: Config::new(),
        devices: Devices::new(),
        profiles: None,
        source: instance::Source::Image("test".to_owned()),
        start: false,
        target: None,
    }
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
        let pool = Command::CreatePool {
            name: "default".to_owned(),
            driver: "btrfs".to_owned(),
            description: String::new(),
            config: [("size".to_owned(), "1GiB".to_owned())].into(),
        };
        self.run(pool).await.expect("the pool is made");
        let network = stapes_core::network::Create {
            project: "default".to_owned(),
            name: "stapesbr0".to_owned(),
            ..Default::default()
        };
        self.run(Command::CreateNetwork(Box::new(network))).await.expect("the network is made");
        let device = |pairs: &[(&str, &str)]| {
            pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
        };
        let wanted = profile::Wanted {
            devices: [
                (
                    "root".to_owned(),
                    device(&[("type", "disk"), ("path", "/"), ("pool", "default")]),
                ),
                ("eth0".to_owned(), device(&[("type", "nic"), ("network", "stapesbr0")])),
            ]
            .into(),
            ..Default::default()
        };
        let (project, name) = ("default".to_owned(), "default".to_owned());
        let configure =
            Command::ConfigureProfile { project, name, wanted: Box::new(wanted), expected: None };
        self.run(configure).await.expect("the profile is configured");
        let facts = ImageFacts {
            fingerprint: image(),
            size_bytes: 1,
            kind: ImageKind::Container,
            architecture: "x86_64".to_owned(),
            created_at: chrono::DateTime::UNIX_EPOCH,
            expires_at: None,
            properties: [("os".to_owned(), "Test".to_owned())].into(),
            split: false,
            filename: "test.tar".to_owned(),
        };
        let import = image::Import {
            project: "default".to_owned(),
            facts,
            properties: Config::new(),
            public: false,
            auto_update: false,
            profiles: Vec::new(),
            aliases: vec![("test".to_owned(), String::new())],
            node: None,
        };
        self.run(Command::ImportImage(Box::new(import))).await.expect("the image is imported");
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
