//! Guests that are only imagined: for `stapes daemon --simulated`, for the simulator and for tests.
//!
//! They keep the port's promises (the same [`super::laws`] pass) without a kernel: a guest is an
//! entry in a map, a program in it is one of a few words that [`words`] knows, and its streams
//! are real pipes so that callers need not know the difference.
//!
//! The world outlives the driver, as the real one does: [`SimulatedGuests::restarted`] is the
//! daemon's next process over the same guests.

use std::{
    collections::BTreeMap,
    io::Write as _,
    os::{fd::OwnedFd, unix::net::UnixStream},
    path::Path,
    sync::{Arc, Mutex, MutexGuard, mpsc::Sender},
};

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use futures::stream::{self, BoxStream, StreamExt as _};
use tokio::sync::mpsc;

use super::{
    Checkpointed, Console, ExecSession, ExecSpec, ExitCause, Exited, Guests, Measured,
    MeasuredInterface, Preflight, Release, Running, Stop, is_held,
};
use crate::{
    ids::InstanceId,
    lease::Boottime,
    port::{DriverError, storage::RootLayers},
    spec::{GuestSpec, Limits},
};

mod moving;
mod words;

/// What a console keeps, in bytes.
const CONSOLE_BYTES_MAX: usize = 256 * 1024;

/// Tells the time; the core reads no clock of its own.
pub type Clock = Arc<dyn Fn() -> DateTime<Utc> + Send + Sync>;

/// The guest port over an imagined host.
#[derive(Debug)]
pub struct SimulatedGuests {
    world: Arc<World>,
    exits: Mutex<Option<mpsc::UnboundedReceiver<Exited>>>,
}

/// The imagined host.
struct World {
    clock: Clock,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    guests: BTreeMap<InstanceId, Guest>,
    /// Ended by itself, and neither started nor stopped since.
    ended: BTreeMap<InstanceId, Exited>,
    listener: Option<mpsc::UnboundedSender<Exited>>,
    last_pid: i32,
}

struct Guest {
    running: Running,
    spec: GuestSpec,
    limits: Limits,
    console: Vec<u8>,
    viewers: Vec<UnixStream>,
    /// Where a signal reaches each program that runs in it.
    programs: BTreeMap<u64, Sender<i32>>,
    next_program: u64,
    deaf: bool,
    /// What it was answered that holds it.
    checkpoint: Option<Checkpointed>,
}

impl SimulatedGuests {
    /// An empty host whose clock is `clock`.
    #[must_use]
    pub fn new(clock: Clock) -> Self {
        Self::over(Arc::new(World { clock, state: Mutex::default() }))
    }

    /// The next driver over the same guests; this one hears of nothing any more.
    #[must_use]
    pub fn restarted(&self) -> Self {
        Self::over(Arc::clone(&self.world))
    }

    fn over(world: Arc<World>) -> Self {
        let (sender, receiver) = mpsc::unbounded_channel();
        world.lock().listener = Some(sender);
        Self { world, exits: Mutex::new(Some(receiver)) }
    }

    /// The guest ends by itself, for this cause. Whether it ran.
    pub fn end(&self, instance: InstanceId, cause: ExitCause) -> bool {
        self.world.end_by_itself(instance, cause)
    }

    /// From now on the guest does not hear a clean stop.
    pub fn deafen(&self, instance: InstanceId) {
        if let Some(guest) = self.world.lock().guests.get_mut(&instance) {
            guest.deaf = true;
        }
    }

    /// The limits that the guest runs under.
    #[must_use]
    pub fn limits(&self, instance: InstanceId) -> Option<Limits> {
        self.world.lock().guests.get(&instance).map(|guest| guest.limits)
    }
}

impl World {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Removes the guest and kills what runs in it.
    fn take(&self, instance: InstanceId) -> Option<Guest> {
        let guest = self.lock().guests.remove(&instance)?;
        for program in guest.programs.values() {
            // One that has just ended does not listen any more, and need not.
            let _ = program.send(9);
        }
        Some(guest)
    }

    fn end_by_itself(&self, instance: InstanceId, cause: ExitCause) -> bool {
        let Some(guest) = self.take(instance) else { return false };
        let Running { incarnation, .. } = guest.running;
        let exited = Exited { instance, incarnation, cause, at: (self.clock)() };
        let mut state = self.lock();
        state.ended.insert(instance, exited);
        if let Some(listener) = &state.listener {
            // A driver that is gone is followed by one that adopts.
            let _ = listener.send(exited);
        }
        true
    }

    fn with<T>(
        &self,
        instance: InstanceId,
        act: impl FnOnce(&mut Guest) -> T,
    ) -> Result<T, DriverError> {
        let mut state = self.lock();
        match state.guests.get_mut(&instance) {
            Some(guest) => Ok(act(guest)),
            None => Err(DriverError::NotFound(format!("running guest {instance}"))),
        }
    }
}

impl World {
    fn held(&self, instance: InstanceId) -> Option<super::Held> {
        self.lock().guests.get(&instance).and_then(|guest| guest.running.held)
    }

    /// As [`Self::with`], for what a held guest cannot do.
    fn free<T>(
        &self,
        instance: InstanceId,
        act: impl FnOnce(&mut Guest) -> T,
    ) -> Result<T, DriverError> {
        match self.held(instance) {
            Some(held) => Err(is_held(instance, held)),
            None => self.with(instance, act),
        }
    }
}

impl Guest {
    fn new(running: Running, spec: &GuestSpec) -> Self {
        Self {
            running,
            spec: spec.clone(),
            limits: spec.limits,
            console: Vec::new(),
            viewers: Vec::new(),
            programs: BTreeMap::new(),
            next_program: 0,
            deaf: false,
            checkpoint: None,
        }
    }

    fn say(&mut self, text: &[u8]) {
        self.console.extend_from_slice(text);
        let excess = self.console.len().saturating_sub(CONSOLE_BYTES_MAX);
        self.console.drain(..excess);
        self.viewers.retain_mut(|viewer| viewer.write_all(text).is_ok());
    }

    fn interfaces(&self) -> Vec<MeasuredInterface> {
        let address = |nic: &crate::spec::NicSpec| {
            nic.ipv4.map(|address| (address.into(), 24, "global".to_owned()))
        };
        let loopback = MeasuredInterface {
            name: "lo".to_owned(),
            mtu: 65536,
            up: true,
            loopback: true,
            addresses: vec![(std::net::Ipv4Addr::LOCALHOST.into(), 8, "local".to_owned())],
            ..MeasuredInterface::default()
        };
        let nics = self.spec.nics.iter().map(|nic| MeasuredInterface {
            name: nic.name.clone(),
            host_name: nic.host_name.clone(),
            mac: nic.mac.to_string(),
            mtu: 1500,
            up: true,
            addresses: address(nic).into_iter().collect(),
            ..MeasuredInterface::default()
        });
        std::iter::once(loopback).chain(nics).collect()
    }
}

#[async_trait]
impl Guests for SimulatedGuests {
    async fn start(&self, spec: &GuestSpec, _root: &RootLayers) -> Result<Running, DriverError> {
        let mut state = self.world.lock();
        if let Some(guest) = state.guests.get(&spec.instance) {
            if guest.running.incarnation == spec.incarnation {
                return Ok(guest.running);
            }
            return Err(super::runs_as_another(spec.instance, guest.running.incarnation));
        }
        state.last_pid += 1;
        let running = Running {
            instance: spec.instance,
            incarnation: spec.incarnation,
            pid: state.last_pid,
            started_at: (self.world.clock)(),
            frozen: false,
            held: None,
        };
        let mut guest = Guest::new(running, spec);
        guest.say(format!("hello from {}\r\n", spec.hostname).as_bytes());
        state.guests.insert(spec.instance, guest);
        state.ended.remove(&spec.instance);
        Ok(running)
    }

    async fn stop(&self, instance: InstanceId, how: Stop) -> Result<ExitCause, DriverError> {
        if let Stop::Clean { .. } = how
            && let Some(held) = self.world.held(instance)
        {
            return Err(is_held(instance, held));
        }
        let deaf = self.world.with(instance, |guest| guest.deaf).unwrap_or(false);
        if let (Stop::Clean { timeout }, true) = (how, deaf) {
            tokio::time::sleep(timeout).await;
            return Err(super::did_not_stop(instance, timeout));
        }
        self.world.take(instance);
        let ended = self.world.lock().ended.remove(&instance);
        Ok(ended.map_or_else(|| how.usual_cause(), |exited| exited.cause))
    }

    async fn freeze(&self, instance: InstanceId) -> Result<(), DriverError> {
        self.world.free(instance, |guest| guest.running.frozen = true)
    }

    async fn unfreeze(&self, instance: InstanceId) -> Result<(), DriverError> {
        self.world.free(instance, |guest| guest.running.frozen = false)
    }

    async fn set_limits(&self, instance: InstanceId, limits: &Limits) -> Result<(), DriverError> {
        self.world.with(instance, |guest| guest.limits = *limits)
    }

    /// Nobody but the daemon keeps imagined guests, and it ends them by a lease that is over since
    /// ever; others are not watched.
    async fn lease(
        &self,
        instance: InstanceId,
        until: Option<Boottime>,
    ) -> Result<(), DriverError> {
        self.world.with(instance, |_| ())?;
        if until == Some(Boottime::default()) {
            self.world.end_by_itself(instance, ExitCause::LeaseExpired);
        }
        Ok(())
    }

    async fn running(&self, instance: InstanceId) -> Option<Running> {
        self.world.lock().guests.get(&instance).map(|guest| guest.running)
    }

    async fn measure(&self, instance: InstanceId) -> Result<Measured, DriverError> {
        self.world.with(instance, |guest| Measured {
            pid: guest.running.pid,
            processes: 1 + guest.programs.len() as u64,
            cpu_ns: 1_000_000,
            memory_bytes: 1 << 20,
            memory_peak_bytes: 1 << 20,
            swap_bytes: 0,
            interfaces: guest.interfaces(),
        })
    }

    async fn exec(
        &self,
        instance: InstanceId,
        spec: &ExecSpec,
    ) -> Result<ExecSession, DriverError> {
        self.world.free(instance, |_| ())?;
        words::run(&self.world, instance, spec)
    }

    async fn console(
        &self,
        instance: InstanceId,
        _size: (u16, u16),
    ) -> Result<Console, DriverError> {
        let (ours, theirs) = UnixStream::pair().map_err(words::failed)?;
        self.world.with(instance, |guest| {
            let mut ours = ours;
            // What a socket buffer does not take at once, a viewer does not get.
            let _ = ours.set_nonblocking(true).and_then(|()| ours.write_all(&guest.console));
            guest.viewers.push(ours);
        })?;
        Ok(Console { stream: OwnedFd::from(theirs) })
    }

    async fn console_log(&self, instance: InstanceId) -> Result<Vec<u8>, DriverError> {
        self.world.with(instance, |guest| guest.console.clone())
    }

    async fn preflight(&self, instance: InstanceId) -> Result<Preflight, DriverError> {
        self.world.with(instance, |guest| moving::preflight(guest))
    }

    async fn checkpoint(
        &self,
        instance: InstanceId,
        into: &Path,
    ) -> Result<Checkpointed, DriverError> {
        moving::checkpoint(&self.world, instance, into)
    }

    async fn release(&self, instance: InstanceId, how: Release) -> Result<(), DriverError> {
        moving::release(&self.world, instance, how)
    }

    async fn restore(
        &self,
        spec: &GuestSpec,
        _root: &RootLayers,
        from: &Path,
    ) -> Result<Running, DriverError> {
        moving::restore(&self.world, spec, from)
    }

    async fn activate(&self, instance: InstanceId) -> Result<(), DriverError> {
        moving::activate(&self.world, instance)
    }

    async fn adopt(&self) -> Result<(Vec<Running>, Vec<Exited>), DriverError> {
        let state = self.world.lock();
        let running = state.guests.values().map(|guest| guest.running).collect();
        Ok((running, state.ended.values().copied().collect()))
    }

    fn exits(&self) -> BoxStream<'static, Exited> {
        let receiver = self.exits.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take();
        match receiver {
            Some(receiver) => stream::unfold(receiver, |mut receiver| async move {
                receiver.recv().await.map(|exited| (exited, receiver))
            })
            .boxed(),
            None => stream::empty().boxed(),
        }
    }
}

impl std::fmt::Debug for World {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let running = self.lock().guests.len();
        f.debug_struct("World").field("running", &running).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::port::guest::laws::{self, Ground};

    struct Imagined(SimulatedGuests);

    #[async_trait]
    impl Ground for Imagined {
        async fn guests(&mut self) -> Arc<dyn Guests> {
            self.0 = SimulatedGuests::new(Arc::new(|| DateTime::UNIX_EPOCH));
            Arc::new(self.0.restarted())
        }

        async fn restarted(&mut self) -> Arc<dyn Guests> {
            Arc::new(self.0.restarted())
        }

        fn images(&mut self) -> std::path::PathBuf {
            let name = format!("stapes-imagined-{}", std::process::id());
            std::env::temp_dir().join(name)
        }

        async fn guest(&mut self) -> (GuestSpec, RootLayers) {
            (laws::plain_guest("imagined"), RootLayers::Plain { root: "/nowhere".into() })
        }
    }

    #[tokio::test]
    async fn simulated_guests_keep_the_laws() {
        laws::all(&mut Imagined(SimulatedGuests::new(Arc::new(|| DateTime::UNIX_EPOCH)))).await;
    }
}
