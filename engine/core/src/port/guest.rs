//! The guest port: running containers and virtual machines on one node.
//!
//! A guest lives in a process of its own, outside the daemon; the daemon finds it again after a
//! restart. Every method may be repeated.

use std::{collections::BTreeMap, os::fd::OwnedFd, path::Path, time::Duration};

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use futures::stream::BoxStream;
use serde::{Deserialize, Serialize};

use super::{DriverError, storage::RootLayers};
use crate::{
    ids::InstanceId,
    lease::Boottime,
    spec::{GuestSpec, Incarnation, Limits},
};

pub mod laws;
mod live;
mod simulated;
pub use live::{Checkpointed, Held, Mobility, Preflight, Release, holds_no_guest, is_held};
pub use simulated::{Clock, SimulatedGuests};

/// A guest that runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Running {
    pub instance: InstanceId,
    pub incarnation: Incarnation,
    /// Of its init, on the host.
    pub pid: i32,
    pub started_at: DateTime<Utc>,
    pub frozen: bool,
    /// It stands still in the middle of a move.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held: Option<Held>,
}

/// A guest that ran.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exited {
    pub instance: InstanceId,
    pub incarnation: Incarnation,
    pub cause: ExitCause,
    pub at: DateTime<Utc>,
}

/// Why a guest does not run any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ExitCause {
    /// Halted or powered off from inside, or its init left with status 0.
    GuestShutdown,
    /// Rebooted from inside: it is to be started again.
    GuestReboot,
    /// Killed because it was asked for.
    Forced,
    /// Killed because its node lost contact with the log: it may run elsewhere now.
    LeaseExpired,
    /// The kernel killed its init for want of memory.
    OutOfMemory,
    /// Its init left with this status.
    Status(i32),
    /// Its init was killed by this signal.
    Signal(i32),
    /// The host was restarted under it.
    HostReboot,
    /// Its shim is gone, and with it the knowledge of why.
    Lost,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// Ask its init to shut down, and wait so long.
    Clean { timeout: Duration },
    /// Kill everything in it.
    Force,
}

impl Stop {
    /// How a guest ends that is stopped so; also the answer when it did not run at all.
    #[must_use]
    pub const fn usual_cause(self) -> ExitCause {
        match self {
            Self::Clean { .. } => ExitCause::GuestShutdown,
            Self::Force => ExitCause::Forced,
        }
    }
}

/// The refusal to start a guest while another incarnation of it runs.
#[must_use]
pub fn runs_as_another(instance: InstanceId, incarnation: Incarnation) -> DriverError {
    DriverError::Refused(format!(
        "{instance} runs already as epoch {} generation {}; stop it first",
        incarnation.epoch, incarnation.generation
    ))
}

/// What a clean stop answers when its time runs out.
#[must_use]
pub fn did_not_stop(instance: InstanceId, timeout: Duration) -> DriverError {
    DriverError::Failed(format!(
        "{instance} did not shut down within {} s and runs on; stop it with --force to kill it",
        timeout.as_secs()
    ))
}

/// What one look at a running guest says.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Measured {
    pub pid: i32,
    pub processes: u64,
    pub cpu_ns: u64,
    pub memory_bytes: u64,
    pub memory_peak_bytes: u64,
    pub swap_bytes: u64,
    pub interfaces: Vec<MeasuredInterface>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MeasuredInterface {
    pub name: String,
    pub host_name: String,
    pub mac: String,
    pub mtu: u32,
    pub up: bool,
    pub loopback: bool,
    /// Address, prefix length and scope (`global`, `link`, `local`).
    pub addresses: Vec<(std::net::IpAddr, u8, String)>,
    pub bytes_received: u64,
    pub bytes_sent: u64,
    pub packets_received: u64,
    pub packets_sent: u64,
}

/// A program to run inside.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExecSpec {
    /// The program and its arguments; the program is looked up in the guest's `PATH`.
    pub command: Vec<String>,
    pub environment: BTreeMap<String, String>,
    pub working_directory: Option<String>,
    pub user: u32,
    pub group: u32,
    /// A terminal of this many columns and rows.
    pub terminal: Option<(u16, u16)>,
}

/// A program that runs inside.
#[derive(Debug)]
pub struct ExecSession {
    /// With a terminal: its master. Without: the writing end of its standard input.
    pub input: OwnedFd,
    /// Without a terminal: the reading ends of its standard output and error.
    pub output: Option<(OwnedFd, OwnedFd)>,
    pub control: Box<dyn ExecControl>,
}

#[async_trait]
pub trait ExecControl: Send + Sync + std::fmt::Debug {
    async fn resize(&self, columns: u16, rows: u16) -> Result<(), DriverError>;
    async fn signal(&self, signal: i32) -> Result<(), DriverError>;
    /// Its exit status, once; a wait that was dropped before it answered may be repeated.
    /// 128 + n when signal n killed it, 126 when it could not be executed, 127 when it was not
    /// found.
    async fn wait(&mut self) -> Result<i32, DriverError>;
}

/// A guest's console: what it wrote lately, and a connection to it.
#[derive(Debug)]
pub struct Console {
    pub stream: OwnedFd,
}

#[async_trait]
pub trait Guests: Send + Sync + std::fmt::Debug + 'static {
    /// Starts the guest, or finds that this incarnation runs. On an error nothing of it is left.
    async fn start(&self, spec: &GuestSpec, root: &RootLayers) -> Result<Running, DriverError>;
    /// Stops it and removes all that its running left on the host. Answers how it ended; a guest
    /// that does not run is stopped ([`DriverError::NotFound`] is never answered). A frozen guest
    /// is thawed for a clean stop.
    /// A clean stop whose time runs out is [`DriverError::Failed`] and the guest runs on.
    async fn stop(&self, instance: InstanceId, how: Stop) -> Result<ExitCause, DriverError>;
    async fn freeze(&self, instance: InstanceId) -> Result<(), DriverError>;
    async fn unfreeze(&self, instance: InstanceId) -> Result<(), DriverError>;
    async fn set_limits(&self, instance: InstanceId, limits: &Limits) -> Result<(), DriverError>;

    /// It may run until then and no longer: whoever keeps it kills it then, whatever has become of
    /// the daemon, and it ends as [`ExitCause::LeaseExpired`], which is told as an exit. A later
    /// lease takes the place of an earlier one; none: it runs for as long as it likes.
    async fn lease(&self, instance: InstanceId, until: Option<Boottime>)
    -> Result<(), DriverError>;

    async fn running(&self, instance: InstanceId) -> Option<Running>;
    async fn measure(&self, instance: InstanceId) -> Result<Measured, DriverError>;
    async fn exec(&self, instance: InstanceId, spec: &ExecSpec)
    -> Result<ExecSession, DriverError>;
    async fn console(&self, instance: InstanceId, size: (u16, u16))
    -> Result<Console, DriverError>;
    /// The newest part of what the console showed, up to 256 KiB.
    async fn console_log(&self, instance: InstanceId) -> Result<Vec<u8>, DriverError>;

    /// Whether it can be moved while it runs, in a few milliseconds and without touching it.
    async fn preflight(&self, instance: InstanceId) -> Result<Preflight, DriverError>;
    /// Writes its memory, processes and connections into the directory `into`, which is made, and
    /// holds it: it executes nothing, and no packet reaches or leaves it. Asked again, it answers
    /// the same. Its disk is complete as soon as this answers, and not before. On an error the
    /// guest runs on.
    async fn checkpoint(
        &self,
        instance: InstanceId,
        into: &Path,
    ) -> Result<Checkpointed, DriverError>;
    /// Ends the holding of a guest. Resumed, it goes on as if nothing had been, its connections too
    /// (fine when it runs already; refused for one that was restored and not activated). Killed, it
    /// is removed as by a stop, held or not (fine when it is gone).
    async fn release(&self, instance: InstanceId, how: Release) -> Result<(), DriverError>;
    /// A guest may be restored here soon: what takes a while is done before it stands still. What
    /// is missing is told by [`Guests::restore`].
    async fn expect_restore(&self) {}
    /// The guest stands still elsewhere and is about to be restored here: what is sent to it is kept
    /// for it as far as that is possible, until it is activated or stopped.
    async fn attract(&self, _spec: &GuestSpec) {}
    /// Makes the guest of a checkpoint that was written to `from`, held until it is activated; or
    /// finds that this incarnation is here. `root` is a copy of its disk from after the checkpoint.
    /// On an error nothing of it is left, and the files are as before.
    async fn restore(
        &self,
        spec: &GuestSpec,
        root: &RootLayers,
        from: &Path,
    ) -> Result<Running, DriverError>;
    /// Lets a restored guest run, and tells the network where it is now. Fine when it runs already.
    async fn activate(&self, instance: InstanceId) -> Result<(), DriverError>;

    /// Finds the guests that run from before the daemon was started, and those that ended since,
    /// and removes what is left of what nobody runs. Called once, before anything else. An end is
    /// told again at each adoption until the guest is started or stopped.
    async fn adopt(&self) -> Result<(Vec<Running>, Vec<Exited>), DriverError>;
    /// Guests that end without [`Guests::stop`] being called. One receiver.
    fn exits(&self) -> BoxStream<'static, Exited>;
}
