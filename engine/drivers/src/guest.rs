//! Containers: the guest port over the host's kernel.
//!
//! Each guest lives in a process of its own, the shim (`stapes-shim`); this driver starts shims,
//! talks with them, and finds them again after the daemon was restarted. What must be known then
//! stands in `<run_dir>/<instance>/` ([`stapes_shim::record`]); what can be read or set without
//! the shim (cgroups, interfaces) is.
//!
//! ```text
//!   start ─► directory, lock, spec ─► shim ─► Hello      watcher ─► exits()
//!   stop  ─► Kill | Shutdown ─► Exited ─► no directory, no cgroup
//!   adopt ─► each directory: shim there? its guest there? an exit record? the same boot?
//! ```
//!
//! **Addresses.** An interface is up and has its MAC address when init begins; its IP addresses
//! come by DHCP and router advertisements, as with Incus. A guest without a DHCP client has none
//! until somebody sets one inside: an address set from outside would stand there twice as soon as
//! a client ran.
//!
//! **A shim that is killed** does not take its guest along: a new one takes the guest over, with a
//! new console. Only a parent sees whether a guest rebooted or was halted, so that such a guest's
//! end by itself is told as a shutdown from then on.
//!
//! **An end is told** by [`Guests::exits`], and again at each adoption until the guest is started
//! or stopped: a daemon that dies between hearing and reporting loses nothing.

use std::{
    collections::BTreeMap,
    fmt, io,
    os::fd::{AsFd as _, OwnedFd},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use futures::stream::{self, BoxStream, StreamExt as _};
use stapes_core::{
    ids::InstanceId,
    lease::Boottime,
    port::{
        DriverError,
        guest::{
            Checkpointed, Console, ExecSession, ExecSpec, ExitCause, Exited, Guests, Held,
            Measured, Preflight, Release, Running, Stop, is_held,
        },
        storage::{RootLayers, Storage},
    },
    spec::{GuestSpec, Limits},
};
use stapes_shim::{
    cgroup::Layout,
    protocol::{Exit, Hello},
};
use tokio::sync::mpsc;
use tokio_util::sync::{CancellationToken, DropGuard};

mod adopt;
mod conversation;
mod convert;
mod directory;
mod exec;
mod interfaces;
mod live;
mod look;
mod preflight;
mod spawn;
mod start;
mod stop;
mod watch;

pub use preflight::{Check, preflight};

/// Ends that nobody has heard of yet, at most; then guests' watchers wait.
const EXITS_MAX: usize = 1024;

/// Where containers are and what makes them.
#[derive(Clone, Debug)]
pub struct ContainersConfig {
    /// Their records; on a disk, to be able to tell after the host was restarted.
    pub run_dir: PathBuf,
    /// The program `stapes-shim`.
    pub shim: PathBuf,
    /// The name of our cgroup in each hierarchy; no two daemons on a host have the same.
    pub cgroup_parent: String,
    /// Where data volumes are, for guests with volumes as disks.
    pub storage: Option<Arc<dyn Storage>>,
    /// No start takes longer.
    pub start_timeout: Duration,
    /// The program `criu`; `STAPES_CRIU` names another, and without either it is looked for in
    /// `PATH`.
    pub criu: Option<PathBuf>,
    /// No restore of a guest takes longer.
    pub restore_timeout: Duration,
    /// Gives overlays their layers by path even where the kernel takes descriptors.
    pub layers_by_path: bool,
}

impl ContainersConfig {
    #[must_use]
    pub fn new(run_dir: impl Into<PathBuf>, shim: impl Into<PathBuf>, parent: &str) -> Self {
        Self {
            run_dir: run_dir.into(),
            shim: shim.into(),
            cgroup_parent: parent.to_owned(),
            storage: None,
            start_timeout: Duration::from_secs(60),
            criu: live::configured(),
            restore_timeout: Duration::from_secs(600),
            layers_by_path: false,
        }
    }
}

/// The containers of this host that are ours.
#[derive(Debug)]
pub struct Containers {
    inner: Arc<Inner>,
    exits: Mutex<Option<mpsc::Receiver<Exited>>>,
    /// Ends the watchers; the guests go on.
    _watching: DropGuard,
}

struct Inner {
    config: ContainersConfig,
    layout: Layout,
    /// Probed once: the kernel stays the same.
    layers_by_path: bool,
    /// Where shims are born.
    shims: OwnedFd,
    programs: spawn::Programs,
    /// The CRIU that was tried and is good.
    criu: OnceLock<PathBuf>,
    slots: Mutex<BTreeMap<InstanceId, Arc<Slot>>>,
    exits: mpsc::Sender<Exited>,
    over: CancellationToken,
}

/// One instance: one start, stop or adoption at a time.
#[derive(Default)]
struct Slot {
    turn: tokio::sync::Mutex<()>,
    state: Mutex<SlotState>,
}

#[derive(Default)]
struct SlotState {
    known: Option<Known>,
    /// Its end, should it come now, is the answer to a stop and no news.
    stopping: bool,
    /// It came while stopping.
    ended: Option<Exit>,
    /// What is sent to it while it is on its way here.
    catches: Vec<live::Catch>,
    /// The shim of the guest that was stopped last, which may not be done with its root.
    leaving: Option<Arc<OwnedFd>>,
}

/// A guest that runs, as far as we know.
#[derive(Clone)]
struct Known {
    hello: Arc<Hello>,
    directory: Arc<directory::Directory>,
    spec: Arc<stapes_shim::spec::Spec>,
    held: Arc<Mutex<Option<Held>>>,
    shim: Arc<OwnedFd>,
}

impl Known {
    fn held(&self) -> Option<Held> {
        *locked(&self.held)
    }

    fn set_held(&self, held: Option<Held>) {
        *locked(&self.held) = held;
    }
}

impl Containers {
    /// Prepares the cgroups and the directory for records. Inside a tokio runtime.
    ///
    /// # Errors
    /// [`DriverError::Refused`] when this host cannot run containers, with what it lacks.
    pub fn new(config: ContainersConfig) -> Result<Self, DriverError> {
        if let Some(check) = preflight::missing() {
            let Check { name, detail, hint, .. } = check;
            return Err(DriverError::Refused(format!("{name}: {detail}. {hint}")));
        }
        let refused = |doing: &str| {
            let doing = doing.to_owned();
            move |error: io::Error| DriverError::Refused(format!("{doing}: {error}"))
        };
        let layout = Layout::discover(&config.cgroup_parent).map_err(refused("find cgroups"))?;
        layout.prepare().map_err(refused("prepare cgroups"))?;
        let shims = std::fs::File::open(layout.shims()).map_err(refused("open cgroup"))?.into();
        std::fs::create_dir_all(&config.run_dir)
            .map_err(refused(&format!("make {}", config.run_dir.display())))?;
        let programs = spawn::Programs::open(&config.shim)
            .map_err(refused(&format!("open {}", config.shim.display())))?;
        let (sender, receiver) = mpsc::channel(EXITS_MAX);
        let over = CancellationToken::new();
        let watching = over.clone().drop_guard();
        let layers_by_path = config.layers_by_path || !stapes_shim::takes_descriptors();
        let slots = Mutex::default();
        let criu = OnceLock::new();
        let inner = Inner {
            config,
            layout,
            layers_by_path,
            shims,
            programs,
            criu,
            slots,
            exits: sender,
            over,
        };
        let exits = Mutex::new(Some(receiver));
        Ok(Self { inner: Arc::new(inner), exits, _watching: watching })
    }

    /// Removes our cgroups, if no guest runs: for who takes stapes off the host.
    pub fn retire(&self) {
        self.inner.layout.retire();
    }
}

impl Inner {
    fn slot(&self, instance: InstanceId) -> Arc<Slot> {
        Arc::clone(locked(&self.slots).entry(instance).or_default())
    }

    fn known(&self, instance: InstanceId) -> Option<Known> {
        let slot = locked(&self.slots).get(&instance).map(Arc::clone)?;
        locked(&slot.state).known.clone()
    }

    fn must_know(&self, instance: InstanceId) -> Result<Known, DriverError> {
        self.known(instance)
            .ok_or_else(|| DriverError::NotFound(format!("running guest {instance}")))
    }

    /// For what a guest that stands still cannot do.
    fn must_be_free(&self, instance: InstanceId) -> Result<Known, DriverError> {
        let known = self.must_know(instance)?;
        match known.held() {
            Some(held) => Err(is_held(instance, held)),
            None => Ok(known),
        }
    }

    /// Does what may block away from the runtime's threads.
    async fn blocking<T: Send + 'static>(
        self: &Arc<Self>,
        act: impl FnOnce(&Self) -> T + Send + 'static,
    ) -> Result<T, DriverError> {
        let inner = Arc::clone(self);
        let done = tokio::task::spawn_blocking(move || act(&inner)).await;
        done.map_err(|error| DriverError::Failed(format!("the host's driver broke: {error}")))
    }

    fn running(&self, instance: InstanceId, known: &Known) -> Running {
        let held = known.held();
        // One whose CRIU was killed is held by its cgroup.
        let frozen = held.is_none() && self.layout.group(&instance.to_string()).is_frozen();
        convert::running(instance, &known.hello, frozen, held)
    }

    async fn freeze(self: &Arc<Self>, id: InstanceId, frozen: bool) -> Result<(), DriverError> {
        self.must_be_free(id)?;
        self.blocking(move |inner| inner.layout.group(&id.to_string()).freeze(frozen))
            .await?
            .map_err(convert::failed(if frozen { "freeze the guest" } else { "thaw the guest" }))
    }
}

#[async_trait]
impl Guests for Containers {
    async fn start(&self, spec: &GuestSpec, root: &RootLayers) -> Result<Running, DriverError> {
        self.inner.start(spec, root).await
    }

    async fn stop(&self, instance: InstanceId, how: Stop) -> Result<ExitCause, DriverError> {
        self.inner.stop(instance, how).await
    }

    async fn freeze(&self, instance: InstanceId) -> Result<(), DriverError> {
        self.inner.freeze(instance, true).await
    }

    async fn unfreeze(&self, instance: InstanceId) -> Result<(), DriverError> {
        self.inner.freeze(instance, false).await
    }

    async fn set_limits(&self, id: InstanceId, limits: &Limits) -> Result<(), DriverError> {
        self.inner.must_know(id)?;
        let limits = convert::limits(limits);
        let set = move |inner: &Inner| inner.layout.group(&id.to_string()).set_limits(&limits);
        self.inner.blocking(set).await?.map_err(convert::fault)
    }

    async fn lease(&self, id: InstanceId, until: Option<Boottime>) -> Result<(), DriverError> {
        self.inner.lease(id, until).await
    }

    async fn running(&self, instance: InstanceId) -> Option<Running> {
        self.inner.known(instance).map(|known| self.inner.running(instance, &known))
    }

    async fn measure(&self, instance: InstanceId) -> Result<Measured, DriverError> {
        self.inner.measure(instance).await
    }

    async fn exec(&self, id: InstanceId, spec: &ExecSpec) -> Result<ExecSession, DriverError> {
        self.inner.exec(id, spec).await
    }

    async fn console(&self, id: InstanceId, size: (u16, u16)) -> Result<Console, DriverError> {
        self.inner.console(id, size).await
    }

    async fn console_log(&self, instance: InstanceId) -> Result<Vec<u8>, DriverError> {
        self.inner.console_log(instance).await
    }

    async fn preflight(&self, instance: InstanceId) -> Result<Preflight, DriverError> {
        self.inner.preflight(instance).await
    }

    async fn checkpoint(&self, id: InstanceId, into: &Path) -> Result<Checkpointed, DriverError> {
        self.inner.checkpoint(id, into).await
    }

    async fn release(&self, instance: InstanceId, how: Release) -> Result<(), DriverError> {
        self.inner.release(instance, how).await
    }

    async fn expect_restore(&self) {
        self.inner.try_criu().await;
    }

    async fn attract(&self, spec: &GuestSpec) {
        let spec = spec.clone();
        // The kernel takes its time to open such sockets.
        if let Err(error) = self.inner.blocking(move |inner| inner.attract(&spec)).await {
            tracing::warn!(%error, "what is sent to the guest is not kept");
        }
    }

    async fn restore(
        &self,
        spec: &GuestSpec,
        root: &RootLayers,
        from: &Path,
    ) -> Result<Running, DriverError> {
        self.inner.restore(spec, root, from).await
    }

    async fn activate(&self, instance: InstanceId) -> Result<(), DriverError> {
        self.inner.activate(instance).await
    }

    async fn adopt(&self) -> Result<(Vec<Running>, Vec<Exited>), DriverError> {
        self.inner.adopt().await
    }

    fn exits(&self) -> BoxStream<'static, Exited> {
        match locked(&self.exits).take() {
            Some(receiver) => stream::unfold(receiver, |mut receiver| async move {
                receiver.recv().await.map(|exited| (exited, receiver))
            })
            .boxed(),
            None => stream::empty().boxed(),
        }
    }
}

/// No holder of these locks panics or waits; a poisoned one is as good as any.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Reaps a child that has ended. One that is not ours is its parent's to reap.
fn reap(pidfd: &OwnedFd) -> io::Result<()> {
    use rustix::process::{WaitId, WaitIdOptions, waitid};
    match waitid(WaitId::PidFd(pidfd.as_fd()), WaitIdOptions::EXITED) {
        Ok(_) | Err(rustix::io::Errno::CHILD) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

impl fmt::Debug for Inner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Containers").field("config", &self.config).finish_non_exhaustive()
    }
}
