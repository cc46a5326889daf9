//! Instances go from one host to another, and daemons are killed at every moment of it: whatever
//! happens, there is one instance afterwards, whole, on one of the two.

use std::{sync::Arc, time::Duration};

use stapes_core::{
    command::Command,
    ids::{CommitId, Epoch, OperationId, PoolId, VolumeId},
    instance::{LivePolicy, Status},
    node::{self, Node},
    port::{
        guest::Guests as _,
        log::{Commit, EventLog, Expected, MemoryLog, Part},
        storage::Storage as _,
    },
    record::{Actor, Body, Record},
};
use stapes_scenarios::pretend::{Daemon, Host, Neighbours, alice, instance_of_image, named};
use uuid::Uuid;

const PATIENCE: Duration = Duration::from_secs(20);
/// More moments than any move has.
const MOMENTS_MAX: u64 = 60;

/// Two hosts on one log, with an instance `web` on the first.
struct Pair {
    hosts: [Host; 2],
    daemons: [Option<Daemon>; 2],
    neighbours: Neighbours,
    pool: PoolId,
    /// Whether the strike hit a daemon, which was started again.
    killed: bool,
}

impl Pair {
    async fn new(running: bool) -> Self {
        let log: Arc<dyn EventLog> = Arc::new(MemoryLog::default());
        let neighbours = Neighbours::default();
        let mut hosts = ["one", "two"].map(|name| Host::beside(log.clone(), name, &neighbours));
        let first = hosts[0].start().await;
        first.furnish().await;
        let mut wanted = instance_of_image("web");
        wanted.start = running;
        first.run(Command::CreateInstance(Box::new(wanted))).await.expect("created");
        let second = hosts[1].start().await;
        let (pool, spec) = {
            let world = first.control.world();
            let pool = world.pool("default").expect("furnished");
            (pool.id, pool.spec())
        };
        hosts[1].storage.ensure_pool(&spec).await.expect("a pool");
        let daemons = [Some(first), Some(second)];
        let pair = Self { hosts, daemons, neighbours, pool, killed: false };
        for index in [0, 1] {
            pair.join(index).await;
        }
        let volume = pair.volume();
        pair.hosts[0].storage.write(pool, volume, "kept", b"content").expect("written");
        pair
    }

    fn daemon(&self, index: usize) -> &Daemon {
        self.daemons[index].as_ref().expect("it runs")
    }

    fn volume(&self) -> VolumeId {
        self.daemon(0).instance("web").expect("it is there").id.into()
    }

    /// What joining does to a node, as far as moves need it.
    async fn join(&self, index: usize) {
        let (host, control) = (&self.hosts[index], &self.daemon(index).control);
        let head = host.log.head().await.expect("the log is there");
        self.daemon(index).until("it read all", |it| it.control.world().sequence >= head).await;
        let stream = Node::stream(host.id());
        let tail = control.world().tail(stream);
        let address = format!("{}:8443", host.name);
        let joined = node::Event::Joined { address, fingerprint: String::new() };
        let record = Record {
            id: Uuid::now_v7(),
            time: chrono::Utc::now(),
            actor: Actor::system(),
            operation: OperationId(Uuid::now_v7()),
            caused_by: None,
            reason: None,
            epoch: Epoch::default(),
            prev: tail.digest,
            body: Body::Events(vec![joined.into()]),
        };
        let expected = Expected::Exact(tail.revision);
        let parts = vec![Part { stream, expected, payload: record.encode() }];
        host.log.append(Commit { id: CommitId(Uuid::now_v7()), parts }).await.expect("appended");
        let head = host.log.head().await.expect("the log is there");
        for daemon in self.daemons.iter().flatten() {
            daemon.until("it read all", |it| it.control.world().sequence >= head).await;
        }
    }

    /// Moves `web`, with a kill at the nth moment if there are so many.
    async fn moves(&mut self, live: LivePolicy, kill_at: u64) {
        self.neighbours.strike_at(kill_at);
        let mut struck = self.neighbours.struck();
        let command =
            Command::MoveInstance { target: named("web"), to: Some("two".to_owned()), live };
        let accepted = self.daemon(0).control.submit(command, alice()).await.expect("taken");
        loop {
            let control = self.daemon(0).control.clone();
            let mut changes = control.changes();
            let over = async {
                while control.world().operations.contains_key(&accepted.operation) {
                    changes.changed().await.expect("the daemon runs");
                }
            };
            tokio::select! {
                () = over => return,
                _ = struck.wait_for(Option::is_some), if !self.killed => {}
                () = tokio::time::sleep(PATIENCE) => panic!("the move does not end"),
            }
            self.bury().await;
        }
    }

    /// The daemon that was struck is started again.
    async fn bury(&mut self) {
        let struck = *self.neighbours.struck().borrow();
        let Some(node) = struck.filter(|_| !self.killed) else { return };
        self.killed = true;
        let index = self.hosts.iter().position(|host| host.id() == node).expect("one of them");
        self.daemons[index] = None;
        self.daemons[index] = Some(self.hosts[index].start().await);
    }

    /// What is true of it on both hosts when nothing is left to do.
    async fn settled(&self, running: bool) -> bool {
        let web = self.daemon(0).instance("web").expect("it is there");
        if web.job.is_some() || web.status.is_up() != running {
            return false;
        }
        let volume = VolumeId::from(web.id);
        for host in &self.hosts {
            let owns = host.id() == web.node;
            let guest = host.guests.running(web.id).await;
            let held = guest.is_some_and(|guest| guest.held.is_some());
            let there = host.storage.volumes(self.pool).await.expect("a pool");
            let left = host.storage.snapshots(self.pool, volume).await.expect("a pool");
            if guest.is_some() != (owns && running) || held || there.contains(&volume) != owns {
                return false;
            }
            let content = host.storage.read(self.pool, volume, "kept");
            if !left.is_empty() || (owns && content.as_deref() != Some(b"content")) {
                return false;
            }
        }
        true
    }

    async fn settles(&mut self, running: bool) {
        let mut moments = self.neighbours.moments();
        let waited = tokio::time::timeout(PATIENCE, async {
            while !self.settled(running).await {
                // Removals are acknowledged without a fact: the next thing anybody does tells.
                let pause = Duration::from_millis(50);
                let _again = tokio::time::timeout(pause, moments.changed()).await;
                self.bury().await;
            }
        });
        let settled = waited.await.is_ok();
        assert!(settled, "{:?}", self.daemon(0).instance("web"));
    }
}

/// Kills at the first moment, at the second, and so on until the move is over before.
async fn survives_every_kill(running: bool, live: LivePolicy) {
    for nth in 1..MOMENTS_MAX {
        let mut pair = Pair::new(running).await;
        pair.moves(live, nth).await;
        pair.settles(running).await;
        let web = pair.daemon(1).instance("web").expect("it is there");
        if !pair.killed {
            assert!(nth > 2, "there are moments in a move");
            assert_eq!((web.node, web.epoch()), (pair.hosts[1].id(), Epoch(1)));
            return;
        }
    }
    panic!("a move has fewer moments");
}

#[tokio::test]
async fn a_stopped_instance_survives_every_kill() {
    survives_every_kill(false, LivePolicy::Never).await;
}

#[tokio::test]
async fn a_near_live_move_survives_every_kill() {
    survives_every_kill(true, LivePolicy::Never).await;
}

#[tokio::test]
async fn a_live_move_survives_every_kill() {
    survives_every_kill(true, LivePolicy::Preferred).await;
}

#[tokio::test]
async fn a_guest_that_moved_alive_is_the_one_that_was() {
    let mut pair = Pair::new(true).await;
    let before = pair.hosts[0].guests.running(pair.daemon(0).instance("web").unwrap().id).await;
    pair.moves(LivePolicy::Required, u64::MAX / 2).await;
    pair.settles(true).await;
    let web = pair.daemon(0).instance("web").expect("it is there");
    assert!(matches!(web.status, Status::Running { .. }));
    let after = pair.hosts[1].guests.running(web.id).await.expect("it runs");
    assert_eq!(after.started_at, before.expect("it ran").started_at);
    assert_eq!(after.incarnation, web.guest);
}
