//! A member whose log answers, is slow, is silent and comes back; time passes by itself.

use std::sync::atomic::{AtomicU64, Ordering};

use stapes_core::{
    ids::{Revision, StreamId},
    lease::{FENCED_AFTER, LEASE, LOST_AFTER},
    port::{
        log::{AppendError, Appended, Commit, Follower, MemoryLog, ReadError, Stored},
        presence::MemoryPresence,
    },
};
use tempfile::TempDir;
use tokio::time::Instant;

use super::*;

/// A log behind a line that can be cut.
#[derive(Debug, Default)]
struct Line {
    log: MemoryLog,
    /// How long an answer takes; none comes when it is `None`.
    answers_after: Mutex<Option<Duration>>,
}

impl Line {
    fn set(&self, answers_after: Option<Duration>) {
        *self.answers_after.lock().unwrap() = answers_after;
    }
}

#[async_trait]
impl EventLog for Line {
    async fn head(&self) -> Result<Sequence, ReadError> {
        let takes = *self.answers_after.lock().unwrap();
        match takes {
            Some(takes) => {
                sleep(takes).await;
                self.log.head().await
            }
            None => std::future::pending().await,
        }
    }
    async fn append(&self, commit: Commit) -> Result<Appended, AppendError> {
        self.log.append(commit).await
    }
    async fn read(&self, first: Sequence, count: usize) -> Result<Vec<Stored>, ReadError> {
        self.log.read(first, count).await
    }
    async fn read_stream(&self, of: StreamId, after: Revision) -> Result<Vec<Stored>, ReadError> {
        self.log.read_stream(of, after).await
    }
    async fn follow(&self, after: Sequence) -> Result<Follower, ReadError> {
        self.log.follow(after).await
    }
    async fn cursor(&self, name: &str) -> Result<Sequence, ReadError> {
        self.log.cursor(name).await
    }
    async fn set_cursor(&self, name: &str, at: Sequence) -> Result<(), AppendError> {
        self.log.set_cursor(name, at).await
    }
}

/// Time as the test lets it pass, and as the machine sleeps.
#[derive(Debug)]
struct Watch {
    began: Instant,
    slept_seconds: AtomicU64,
}

impl Clock for Watch {
    fn now(&self) -> Boottime {
        let slept = Duration::from_secs(self.slept_seconds.load(Ordering::SeqCst));
        Boottime(Duration::from_secs(1000) + self.began.elapsed() + slept)
    }
}

/// What was asked of the guests' keeper, and when.
#[derive(Debug)]
struct Guests {
    began: Instant,
    done: Mutex<Vec<(&'static str, Duration)>>,
    failures: AtomicU64,
}

#[async_trait]
impl Fence for Guests {
    async fn fence(&self) -> Result<(), DriverError> {
        self.done.lock().unwrap().push(("fence", self.began.elapsed()));
        match self.failures.load(Ordering::SeqCst) {
            0 => Ok(()),
            left => {
                self.failures.store(left - 1, Ordering::SeqCst);
                Err(DriverError::Failed("a guest does not stop".to_owned()))
            }
        }
    }
    async fn held(&self, until: Boottime) {
        assert!(until.0 > Duration::from_secs(1000) + self.began.elapsed());
        self.done.lock().unwrap().push(("held", self.began.elapsed()));
    }
}

struct Scene {
    dir: TempDir,
    began: Instant,
    line: Arc<Line>,
    guests: Arc<Guests>,
    watch: Arc<Watch>,
    presence: MemoryPresence,
    applied: watch::Sender<Sequence>,
}

const fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

fn node() -> NodeId {
    NodeId(Uuid::from_u128(1))
}

impl Scene {
    fn new() -> Self {
        let began = Instant::now();
        let line = Arc::new(Line::default());
        line.set(Some(Duration::ZERO));
        Self {
            dir: tempfile::tempdir().unwrap(),
            began,
            line,
            guests: Arc::new(Guests { began, done: Mutex::default(), failures: AtomicU64::new(0) }),
            watch: Arc::new(Watch { began, slept_seconds: AtomicU64::new(0) }),
            presence: MemoryPresence::default(),
            applied: watch::Sender::new(Sequence(7)),
        }
    }

    fn start(&self) -> Membership {
        self.start_in(Uuid::from_u128(0xb007))
    }

    fn start_in(&self, boot: Uuid) -> Membership {
        let proof = self.dir.path().join("lease");
        let around = Surroundings {
            log: self.line.clone(),
            presence: Arc::new(self.presence.clone()),
            fence: self.guests.clone(),
            clock: self.watch.clone(),
            applied: self.applied.subscribe(),
        };
        Membership::start(MembershipConfig { node: node(), boot, proof }, around)
    }

    /// Lets the clock of the test, which stands still otherwise, get to this.
    async fn at(&self, time: Duration) {
        tokio::time::sleep_until(self.began + time).await;
    }

    fn done(&self) -> Vec<(&'static str, Duration)> {
        self.guests.done.lock().unwrap().clone()
    }

    /// What was asked for, one after the other; repetitions count once.
    fn names(&self) -> Vec<&'static str> {
        let mut names: Vec<_> = self.done().into_iter().map(|(name, _)| name).collect();
        names.dedup();
        names
    }

    fn fenced_at(&self) -> Option<Duration> {
        self.done().into_iter().find(|(name, _)| *name == "fence").map(|(_, at)| at)
    }
}

#[tokio::test(start_paused = true)]
async fn while_the_log_answers_the_node_is_heard_and_nothing_is_fenced() {
    let scene = Scene::new();
    let mut beats = scene.presence.heard().await.unwrap();
    let membership = scene.start();
    for _ in 0..30 {
        let beat = beats.next().await.unwrap();
        assert_eq!((beat.node, beat.applied), (node(), Sequence(7)));
    }
    assert!((seconds(57)..seconds(63)).contains(&scene.began.elapsed()), "one every 2 s");
    assert_eq!(scene.names(), ["held"]);
    assert!(!membership.has_lost(node()) && membership.silence(node()) <= BEAT_EVERY);
    let other = NodeId(Uuid::from_u128(2));
    assert!(membership.has_lost(other) && membership.silence(other) > LOST_AFTER);
}

#[tokio::test(start_paused = true)]
async fn a_lease_ends_fifteen_seconds_after_the_last_question_that_was_answered() {
    let scene = Scene::new();
    scene.line.set(Some(seconds(2)));
    let _membership = scene.start();
    scene.at(seconds(60)).await;
    scene.line.set(None);
    scene.at(seconds(120)).await;
    assert_eq!(scene.names(), ["held", "fence"]);
    // The questions are sent at 0, 3, 6 ..; the one of 57 is the last that is answered.
    assert_eq!(scene.fenced_at(), Some(seconds(57) + LEASE));
    assert!(LEASE < LOST_AFTER + FENCED_AFTER);
}

#[tokio::test(start_paused = true)]
async fn who_holds_no_lease_says_nothing_and_who_finds_it_again_is_heard() {
    let scene = Scene::new();
    let membership = scene.start();
    scene.at(seconds(10)).await;
    scene.line.set(None);
    scene.at(seconds(30)).await;
    let mut beats = scene.presence.heard().await.unwrap();
    assert!(timeout(seconds(30), beats.next()).await.is_err(), "it is fenced and silent");
    let other = NodeId(Uuid::from_u128(2));
    assert!(!membership.has_lost(other), "nor does it judge the others");
    scene.line.set(Some(Duration::ZERO));
    timeout(seconds(10), beats.next()).await.unwrap().unwrap();
    assert_eq!(scene.names(), ["held", "fence", "held"]);
}

#[tokio::test(start_paused = true)]
async fn what_does_not_stop_is_stopped_again_until_the_lease_is_back() {
    let scene = Scene::new();
    let _membership = scene.start();
    scene.at(seconds(5)).await;
    scene.guests.failures.store(4, Ordering::SeqCst);
    scene.line.set(None);
    scene.at(seconds(60)).await;
    let fences = scene.done().iter().filter(|(name, _)| *name == "fence").count();
    assert!(fences > 40, "a start may have been under way: {fences}");
    scene.line.set(Some(Duration::ZERO));
    scene.at(seconds(120)).await;
    assert_eq!(scene.names(), ["held", "fence", "held"]);
}

#[tokio::test(start_paused = true)]
async fn a_lease_is_told_each_time_that_it_gets_longer() {
    let scene = Scene::new();
    let _membership = scene.start();
    scene.at(seconds(30)).await;
    let told: Vec<_> = scene.done().into_iter().map(|(_, at)| at).collect();
    let expected: Vec<_> = (0..=10).map(|turn| ASK_EVERY * turn).collect();
    assert_eq!(told, expected[..told.len()]);
    assert!(told.len() >= 10);
}

#[tokio::test(start_paused = true)]
async fn a_machine_that_slept_fences_at_once() {
    let scene = Scene::new();
    let _membership = scene.start();
    scene.at(seconds(20)).await;
    scene.line.set(None);
    scene.watch.slept_seconds.store(3600, Ordering::SeqCst);
    scene.at(seconds(20) + LOOK_EVERY + LOOK_EVERY / 2).await;
    assert_eq!(scene.names(), ["held", "fence"]);
}

#[tokio::test(start_paused = true)]
async fn a_daemon_that_comes_back_in_time_goes_on_with_the_lease() {
    let scene = Scene::new();
    let membership = scene.start();
    scene.at(seconds(10)).await;
    drop(membership);
    scene.line.set(None);
    let again = scene.start();
    scene.at(seconds(12)).await;
    let standing = *again.standing().borrow();
    assert!(matches!(standing, Some(Standing::Held { .. })), "nobody need answer: {standing:?}");
    assert_eq!(scene.names(), ["held"]);
    scene.at(seconds(60)).await;
    assert_eq!(scene.fenced_at(), Some(seconds(9) + LEASE));
}

#[tokio::test(start_paused = true)]
async fn a_daemon_that_comes_too_late_asks_before_it_fences() {
    let scene = Scene::new();
    drop(scene.start());
    scene.at(seconds(60)).await;
    let membership = scene.start();
    let mut standing = membership.standing();
    assert_eq!(*standing.borrow_and_update(), None);
    standing.changed().await.unwrap();
    assert!(matches!(*standing.borrow(), Some(Standing::Held { .. })), "the log answered");
    drop(membership);

    // It does not answer, and what the file says is of another boot.
    scene.line.set(None);
    let began = scene.began.elapsed();
    let _membership = scene.start_in(Uuid::from_u128(0xdead));
    scene.at(began + seconds(10)).await;
    assert_eq!(scene.fenced_at(), Some(began + ANSWER_MAX));
}

#[tokio::test(start_paused = true)]
async fn a_proof_of_the_future_is_not_believed() {
    let scene = Scene::new();
    scene.line.set(None);
    let file = scene.dir.path().join("lease");
    for text in [r#"{"boot":"00000000-0000-0000-0000-00000000b007","asked_ms":99000000}"#, "{"] {
        std::fs::write(&file, text).unwrap();
        scene.guests.done.lock().unwrap().clear();
        let began = scene.began.elapsed();
        let _membership = scene.start();
        scene.at(began + seconds(10)).await;
        assert_eq!(scene.fenced_at(), Some(began + ANSWER_MAX), "{text}");
    }
}

#[test]
fn the_machines_clock_goes_forward() {
    let before = MachineClock.now();
    assert!(before > Boottime::default() && MachineClock.now() >= before);
}
