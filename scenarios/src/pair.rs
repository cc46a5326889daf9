//! Two pretend hosts that are a cluster, with what can go wrong between them: a daemon is killed at
//! whatever moment is asked for, and started again.

use std::{sync::Arc, time::Duration};

use stapes_core::{
    cluster::Enable,
    command::Command,
    ids::{PoolId, VolumeId},
    node::Join,
    port::log::{EventLog, MemoryLog},
};
use uuid::Uuid;

use crate::pretend::{Daemon, Host, Neighbours, alice, instance_of_image};

/// How long anything between them may take.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// `one` and `two` on one log, with an instance `web` on the first.
#[derive(Debug)]
pub struct Pair {
    pub hosts: [Host; 2],
    daemons: [Option<Daemon>; 2],
    pub neighbours: Neighbours,
    pub pool: PoolId,
    /// Whether the strike hit a daemon, which was started again.
    pub killed: bool,
}

impl Pair {
    /// # Panics
    /// When they do not become a cluster.
    pub async fn new(running: bool) -> Self {
        let log: Arc<dyn EventLog> = Arc::new(MemoryLog::default());
        let neighbours = Neighbours::default();
        let mut hosts = ["one", "two"].map(|name| Host::beside(log.clone(), name, &neighbours));
        let first = hosts[0].start().await;
        first.furnish().await;
        let enable = Enable {
            cluster: Uuid::from_u128(1),
            node: first.node,
            name: "one".to_owned(),
            address: "one:8443".to_owned(),
            fingerprint: "of one".to_owned(),
        };
        first.run(Command::EnableCluster(Box::new(enable))).await.expect("a cluster");
        let token = Command::CreateJoinToken {
            name: "two".to_owned(),
            secret_hash: "two's".to_owned(),
            expires_at: chrono::Utc::now() + chrono::TimeDelta::hours(1),
        };
        first.run(token).await.expect("a token");
        let join = Join {
            start: hosts[1].facts(),
            address: "two:8443".to_owned(),
            fingerprint: "of two".to_owned(),
            secret_hash: "two's".to_owned(),
        };
        first.run(Command::JoinNode(Box::new(join))).await.expect("two members");
        let second = hosts[1].start().await;
        let there = hosts[1].id();
        first.run(Command::PrepareNode { node: there }).await.expect("the second is furnished");
        let pool = first.control.world().pool("default").expect("furnished").id;
        first
            .until("the second has a pool and a network", |daemon| {
                let world = daemon.control.world();
                world.pools.values().all(|pool| pool.parts.is_ready_on(there))
                    && world.networks.values().all(|network| network.parts.is_ready_on(there))
            })
            .await;
        let mut wanted = instance_of_image("web");
        (wanted.start, wanted.target) = (running, Some("one".to_owned()));
        first.run(Command::CreateInstance(Box::new(wanted))).await.expect("created");
        let daemons = [Some(first), Some(second)];
        let pair = Self { hosts, daemons, neighbours, pool, killed: false };
        let volume = pair.volume();
        pair.hosts[0].storage.write(pool, volume, "kept", b"content").expect("written");
        pair
    }

    /// # Panics
    /// When it does not run, which only [`Pair::bury`] changes.
    #[must_use]
    pub fn daemon(&self, index: usize) -> &Daemon {
        self.daemons[index].as_ref().expect("it runs")
    }

    /// The root of `web`.
    ///
    /// # Panics
    /// When there is none.
    #[must_use]
    pub fn volume(&self) -> VolumeId {
        self.daemon(0).instance("web").expect("it is there").id.into()
    }

    /// Asks the first for something and waits for its end, with a kill at the nth moment if there
    /// are so many.
    ///
    /// # Panics
    /// When it is refused, or does not end.
    pub async fn run(&mut self, command: Command, kill_at: u64) {
        self.neighbours.strike_at(kill_at);
        let mut struck = self.neighbours.struck();
        let accepted = self.daemon(0).control.submit(command, alice()).await.expect("taken");
        loop {
            let control = self.daemon(0).control.clone();
            let over = control.until(|world| !world.operations.contains_key(&accepted.operation));
            tokio::select! {
                over = over => return over.expect("the daemon runs"),
                _ = struck.wait_for(Option::is_some), if !self.killed => {}
                () = tokio::time::sleep(PATIENCE) => panic!("it does not end"),
            }
            self.bury().await;
        }
    }

    /// The daemon that was struck is started again.
    ///
    /// # Panics
    /// When it does not start.
    pub async fn bury(&mut self) {
        let struck = *self.neighbours.struck().borrow();
        let Some(node) = struck.filter(|_| !self.killed) else { return };
        self.killed = true;
        let index = self.hosts.iter().position(|host| host.id() == node).expect("one of them");
        self.daemons[index] = None;
        self.daemons[index] = Some(self.hosts[index].start().await);
    }
}
