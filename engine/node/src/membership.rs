//! A node's life in its cluster: it says that it is there, hears the others, and holds a lease on the
//! guests that may be started elsewhere.
//!
//! ```text
//!  every 3 s ─ log.head()? ─► proof ─► lease ─┬─ held ──► a heartbeat every 2 s
//!                        Fence::held ◄── longer ┘└─ lost ──► Fence::fence, until it is found again
//! ```
//!
//! Who holds no lease says nothing either: a node that is heard and runs nothing would never be
//! replaced. What is lost, fenced or returned is decided elsewhere, on the log; here is only what a
//! node must do without being able to read it. [`stapes_core::lease`] has the rule and its times.
//!
//! The last proof is also kept in a file, so that a daemon that is restarted within its lease goes on
//! with it. One that comes too late asks first: if the log answers, the log says what to do.

mod proof;

use std::{
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use chrono::Utc;
use futures::StreamExt;
use stapes_core::{
    ids::{NodeId, Sequence},
    lease::{Boottime, Hearing, Lease, Standing},
    port::{
        DriverError,
        log::EventLog,
        presence::{Beat, Presence},
    },
};
use tokio::{
    sync::{Notify, watch},
    task::JoinSet,
    time::{MissedTickBehavior, interval, sleep, timeout},
};
use uuid::Uuid;

use self::proof::ProofFile;

const BEAT_EVERY: Duration = Duration::from_secs(2);
const ASK_EVERY: Duration = Duration::from_secs(3);
const ANSWER_MAX: Duration = Duration::from_secs(3);
/// How often the clock is looked at: timers stand still while the machine sleeps.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Between two attempts to stop what must be stopped.
const FENCE_AGAIN: Duration = Duration::from_secs(1);
const LISTEN_AGAIN: Duration = Duration::from_secs(1);

/// What becomes of the guests that may be started elsewhere.
#[async_trait]
pub trait Fence: Send + Sync + std::fmt::Debug + 'static {
    /// The lease is lost: stop them all. Repeated until the lease is found again, also when it
    /// succeeds: a start may have been under way.
    async fn fence(&self) -> Result<(), DriverError>;

    /// The lease is held until then; told each time that it gets longer. What was stopped stays so
    /// until the log says otherwise.
    async fn held(&self, until: Boottime);
}

/// The clock that leases run by.
pub trait Clock: Send + Sync + std::fmt::Debug + 'static {
    fn now(&self) -> Boottime;
}

/// The machine's own: it counts while the machine sleeps.
#[derive(Clone, Copy, Debug, Default)]
pub struct MachineClock;

impl Clock for MachineClock {
    fn now(&self) -> Boottime {
        let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
        let part = |value: i64| u64::try_from(value).unwrap_or(0);
        let nanoseconds = u32::try_from(now.tv_nsec).unwrap_or(0);
        Boottime(Duration::new(part(now.tv_sec), nanoseconds))
    }
}

/// Who this is, and where it is told.
#[derive(Clone, Debug)]
pub struct MembershipConfig {
    pub node: NodeId,
    /// Of this boot of the machine.
    pub boot: Uuid,
    /// Where the last proof is kept from one daemon to the next.
    pub proof: PathBuf,
}

/// What a member is connected to.
#[derive(Clone, Debug)]
pub struct Surroundings {
    pub log: Arc<dyn EventLog>,
    pub presence: Arc<dyn Presence>,
    pub fence: Arc<dyn Fence>,
    pub clock: Arc<dyn Clock>,
    /// How far this node's views are.
    pub applied: watch::Receiver<Sequence>,
}

/// A running member. Dropping it ends the heartbeats, and stops nothing.
#[derive(Debug)]
pub struct Membership {
    member: Arc<Member>,
    standing: watch::Receiver<Option<Standing>>,
    _tasks: JoinSet<()>,
}

#[derive(Debug)]
struct Member {
    config: MembershipConfig,
    around: Surroundings,
    proof: ProofFile,
    lease: Mutex<Lease>,
    hearing: Mutex<Hearing>,
    /// The first question was answered, or not in time.
    asked: watch::Sender<bool>,
    proved: Notify,
}

impl Membership {
    #[must_use]
    pub fn start(config: MembershipConfig, around: Surroundings) -> Self {
        let now = around.clock.now();
        let proof = ProofFile::new(config.proof.clone(), config.boot);
        let kept = Lease::new(proof.read(now));
        // A proof that still counts needs no question to be judged by.
        let judged = matches!(kept.standing(now), Standing::Held { .. });
        let member = Arc::new(Member {
            proof,
            lease: Mutex::new(kept),
            hearing: Mutex::new(Hearing::new(now)),
            asked: watch::Sender::new(judged),
            proved: Notify::new(),
            config,
            around,
        });
        let (tell, standing) = watch::channel(None);
        let mut tasks = JoinSet::new();
        tasks.spawn(member.clone().ask());
        tasks.spawn(member.clone().judge(tell));
        tasks.spawn(member.clone().obey(standing.clone()));
        tasks.spawn(member.clone().speak(standing.clone()));
        tasks.spawn(member.clone().listen());
        Self { member, standing, _tasks: tasks }
    }

    /// Whether the lease is held; `None` for as long as nobody can know.
    #[must_use]
    pub fn standing(&self) -> watch::Receiver<Option<Standing>> {
        self.standing.clone()
    }

    /// How long another node has been silent, as far as this one can hear.
    #[must_use]
    pub fn silence(&self, node: NodeId) -> Duration {
        let now = self.member.around.clock.now();
        self.member.hearing().silence(node, now)
    }

    /// Whether another node is lost, as far as this one can hear. A node that holds no lease hears
    /// too little to say so.
    #[must_use]
    pub fn has_lost(&self, node: NodeId) -> bool {
        let now = self.member.around.clock.now();
        let held = matches!(*self.standing.borrow(), Some(Standing::Held { .. }));
        held && self.member.hearing().is_lost(node, now)
    }
}

impl Member {
    fn lease(&self) -> std::sync::MutexGuard<'_, Lease> {
        self.lease.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn hearing(&self) -> std::sync::MutexGuard<'_, Hearing> {
        self.hearing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks the log for its head, again and again.
    async fn ask(self: Arc<Self>) {
        let mut turns = interval(ASK_EVERY);
        turns.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            turns.tick().await;
            // An answer is true of no earlier time than that of its question.
            let sent = self.around.clock.now();
            match timeout(ANSWER_MAX, self.around.log.head()).await {
                Ok(Ok(_)) => {
                    self.lease().proved(sent);
                    self.proof.write(sent);
                    self.proved.notify_one();
                }
                Ok(Err(error)) => tracing::debug!(%error, "the log gives no proof of contact"),
                Err(_) => tracing::debug!("the log does not answer in time"),
            }
            self.asked.send_replace(true);
        }
    }

    /// Holds the lease against the clock.
    async fn judge(self: Arc<Self>, tell: watch::Sender<Option<Standing>>) {
        let mut asked = self.asked.subscribe();
        if asked.wait_for(|asked| *asked).await.is_err() {
            return;
        }
        loop {
            let now = self.around.clock.now();
            let standing = self.lease().standing(now);
            tell.send_if_modified(|known| known.replace(standing) != Some(standing));
            let pause = match standing {
                Standing::Held { until } => until.since(now).min(LOOK_EVERY),
                Standing::Fence => LOOK_EVERY,
            };
            tokio::select! {
                () = sleep(pause) => {}
                () = self.proved.notified() => {}
            }
        }
    }

    /// Does what the standing asks for.
    async fn obey(self: Arc<Self>, mut standing: watch::Receiver<Option<Standing>>) {
        let mut held = false;
        loop {
            let now = *standing.borrow_and_update();
            match now {
                Some(Standing::Held { until }) => {
                    if !std::mem::replace(&mut held, true) {
                        tracing::info!("the lease on this node's guests is held");
                    }
                    self.around.fence.held(until).await;
                }
                Some(Standing::Fence) => {
                    held = false;
                    tracing::error!("no contact with the log: stops what may be started elsewhere");
                    self.fence(&mut standing).await;
                    continue;
                }
                None => {}
            }
            if standing.changed().await.is_err() {
                return;
            }
        }
    }

    /// Fences until the lease is found again; then the log says what to do.
    async fn fence(&self, standing: &mut watch::Receiver<Option<Standing>>) {
        let found = |standing: &Option<Standing>| matches!(standing, Some(Standing::Held { .. }));
        loop {
            if let Err(error) = self.around.fence.fence().await {
                tracing::error!(%error, "not everything is stopped yet");
            }
            if timeout(FENCE_AGAIN, standing.wait_for(found)).await.is_ok() {
                return;
            }
        }
    }

    /// Says that the node is there, while it holds its lease.
    async fn speak(self: Arc<Self>, standing: watch::Receiver<Option<Standing>>) {
        let mut turns = interval(BEAT_EVERY);
        turns.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            turns.tick().await;
            if !matches!(*standing.borrow(), Some(Standing::Held { .. })) {
                continue;
            }
            let beat = Beat {
                node: self.config.node,
                applied: *self.around.applied.borrow(),
                boot: self.config.boot,
                at: Utc::now(),
            };
            match timeout(BEAT_EVERY, self.around.presence.beat(beat)).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::debug!(%error, "a heartbeat is not sent"),
                Err(_) => tracing::debug!("a heartbeat is not sent in time"),
            }
        }
    }

    /// Notes whom it hears.
    async fn listen(self: Arc<Self>) {
        loop {
            match self.around.presence.heard().await {
                Ok(mut beats) => {
                    self.hearing().listen_anew(self.around.clock.now());
                    while let Some(beat) = beats.next().await {
                        let now = self.around.clock.now();
                        self.hearing().hear(beat.node, now);
                    }
                }
                Err(error) => tracing::debug!(%error, "the other nodes cannot be heard"),
            }
            sleep(LISTEN_AGAIN).await;
        }
    }
}

#[cfg(test)]
mod tests;
