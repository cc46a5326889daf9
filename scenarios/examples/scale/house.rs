//! The installation under measurement: log, control, views, API and the task that answers for all nodes.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use stapes_api::{
    backend::{Drivers, Facts, Viewed},
    client::Client,
    server::{Api, Listener},
};
use stapes_control::Control;
use stapes_core::{
    command::{Command, decide},
    decision::Context,
    furniture::{self, ETH0, ROOT, default_profile, devices, import, network, pool},
    ids::{CommitId, NodeId, OperationId},
    instance::Status,
    node::Start,
    port::{
        guest::SimulatedGuests,
        image::MemoryImages,
        log::{EventLog, MemoryLog},
        network::MemoryNetworks,
        secret::PretendSealer,
        storage::MemoryStorage,
    },
    record::Actor,
};
use stapes_log::SegmentLog;
use stapes_projections::{Options, Views};
use stapes_scenarios::pretend::alice;
use tempfile::TempDir;

use crate::{
    CLIENTS, UNDER_WAY_MAX,
    answering::answer_all,
    measure::{Times, rss, stage},
};

pub(crate) struct House {
    pub(crate) client: Client,
    control: Control,
    views: Views,
    _directory: TempDir,
}

impl House {
    pub(crate) async fn open(kind: &str) -> Self {
        let directory = tempfile::Builder::new().prefix("stapes-scale-").tempdir().unwrap();
        let log: Arc<dyn EventLog> = match kind {
            "memory" => Arc::new(MemoryLog::default()),
            "segment" => {
                let dir = directory.path().join("log");
                Arc::new(SegmentLog::open(dir, stapes_log::Options::default()).unwrap())
            }
            other => panic!("{other:?} is no kind of log: memory or segment"),
        };
        let secrets = Arc::new(PretendSealer::default());
        let control = Control::sealing(log.clone(), secrets.clone());
        tokio::spawn(control.clone().follow());
        control.found(start(0)).await.unwrap();
        tokio::spawn(answer_all(control.clone(), log.clone()));
        let views = directory.path().join("views");
        let views = Views::open(Some(&views), log.clone(), Options::default()).await.unwrap();
        let driven = views.clone();
        tokio::spawn(async move { panic!("the views stopped: {}", driven.run().await) });
        let drivers = Drivers {
            guests: Arc::new(SimulatedGuests::new(Arc::new(chrono::Utc::now))),
            images: Arc::new(MemoryImages::default()),
            storage: Arc::new(MemoryStorage::default()),
            networks: Arc::new(MemoryNetworks::new()),
            secrets,
        };
        let facts = Facts {
            server_name: name(0),
            version: "6.0".to_owned(),
            directory: directory.path().to_owned(),
            storage_drivers: vec![("btrfs".to_owned(), "6".to_owned())],
            firewall: "nftables".to_owned(),
        };
        let backend = Arc::new(Viewed::new(control.clone(), views.clone(), log));
        let api = Api::new(backend, drivers, facts);
        let socket = directory.path().join("unix.socket");
        let listener = Listener::bind(&socket).await.unwrap();
        let router = api.router();
        tokio::spawn(listener.serve(router, std::future::pending()));
        Self { client: Client::unix(socket), control, views, _directory: directory }
    }

    /// The first node is a cluster, with a pool, a network with room for everybody, a profile and an
    /// image.
    pub(crate) async fn furnish(&self) {
        for command in furniture::cluster(&[&name(0)]) {
            self.submit(command).await;
        }
        self.submit(pool("btrfs", &[])).await;
        self.submit(network(&[("ipv4.address", "10.0.0.1/8"), ("ipv6.address", "none")])).await;
        self.submit(default_profile(devices(&[ROOT, ETH0]))).await;
        self.submit(import("ab", "test", Some(id(0)))).await;
        self.quiet().await;
    }

    async fn submit(&self, command: Command) {
        self.control.submit(command, alice()).await.unwrap();
    }

    /// A token, the joiner's entry, and what its daemon does at its start.
    pub(crate) async fn join(&self, number: usize) {
        let [token, join, _] = furniture::joining(&name(number));
        self.submit(token).await;
        self.submit(join).await;
        self.control.found(start(number)).await.unwrap();
    }

    /// Submits commands `0..count` as several clients do, and waits for none of their ends.
    pub(crate) async fn submit_all(
        &self,
        count: usize,
        command: impl Fn(usize) -> Command + Copy + Send + 'static,
    ) -> Times {
        let next = Arc::new(AtomicUsize::new(0));
        let client = async |next: Arc<AtomicUsize>, control: Control| {
            let (mut times, mut changes) = (Times::default(), control.changes());
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= count {
                    return times;
                }
                while control.world().operations.len() >= UNDER_WAY_MAX {
                    changes.changed().await.unwrap();
                }
                let before = Instant::now();
                control.submit(command(number), alice()).await.unwrap();
                times.add(before);
            }
        };
        let clients = (0..CLIENTS).map(|_| client(next.clone(), self.control.clone()));
        let mut all = Times::default();
        for times in futures::future::join_all(clients).await {
            all.extend(times);
        }
        all
    }

    /// Until no operation is under way.
    pub(crate) async fn quiet(&self) {
        let mut changes = self.control.changes();
        let is_quiet = || {
            let world = self.control.world();
            let coming = |pool: &stapes_core::pool::Pool| pool.usable().is_err();
            world.operations.is_empty() && !world.pools.values().any(coming)
        };
        while !is_quiet() {
            changes.changed().await.unwrap();
        }
    }

    /// That all of it is there.
    pub(crate) fn check(&self, nodes: usize, instances: usize) {
        let world = self.control.world();
        assert_eq!((world.nodes.len(), world.instances.len()), (nodes, instances));
        let running = |status: Status| matches!(status, Status::Running { .. });
        assert!(world.instances.values().all(|instance| running(instance.status)));
        println!("the log has {} records", world.sequence);
    }

    /// Decides without appending: what one decision costs on the world as it is.
    pub(crate) fn decide(&self, what: &str, count: usize, command: impl Fn(usize) -> Command) {
        let world = self.control.world().clone();
        let (since, mut times) = (Instant::now(), Times::default());
        for number in 0..count {
            let context = Context {
                commit: CommitId(uuid::Uuid::new_v4()),
                operation: OperationId(uuid::Uuid::new_v4()),
                time: chrono::Utc::now(),
                actor: Actor::system(),
                reason: None,
                caused_by: None,
            };
            let command = command(number);
            let before = Instant::now();
            decide(&world, &context, &command).unwrap();
            times.add(before);
        }
        stage(&format!("decide {what}"), count, since, times);
    }

    /// How evenly the instances lie.
    pub(crate) fn spread(&self, nodes: usize) {
        let world = self.control.world();
        let counts = (0..nodes).map(|number| world.ledger.load(id(number)).instances);
        let (least, most) = (counts.clone().min(), counts.max());
        println!("instances on a node: {} to {}", least.unwrap_or(0), most.unwrap_or(0));
    }

    /// What a snapshot of the world costs, and the change after it.
    pub(crate) fn snapshot(&self) {
        let before = Instant::now();
        let copies: Vec<_> = (0..1000).map(|_| self.control.world().clone()).collect();
        println!("a snapshot of the world: {:.2?}", before.elapsed() / 1000);
        drop(copies);
    }

    pub(crate) async fn views_hold(&self) {
        let (since, sequence) = (Instant::now(), self.control.world().sequence);
        while self.views.wait_for(sequence, Duration::from_secs(5)).await.is_err() {}
        println!("the views were {:.1?} behind, RSS {}", since.elapsed(), rss());
    }
}

fn id(number: usize) -> NodeId {
    NodeId::derive(&[&name(number)])
}

fn name(number: usize) -> String {
    format!("node{number:04}")
}

/// A large one.
fn start(number: usize) -> Start {
    let boot = uuid::Uuid::from_u128(number as u128);
    Start { cpus: 32, memory_bytes: 128 << 30, boot, ..furniture::node(&name(number)) }
}
