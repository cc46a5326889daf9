//! Moving a guest while it runs: the shim's half, over CRIU.
//!
//! ```text
//!  checkpoint                                  restore (another shim, another host)
//!  console put away                            cgroups, root, /dev, console, pairs of interfaces
//!  criu dump ──► hook "network-lock":          criu restore ──► hook "post-restore" waits
//!               │ interfaces' ports closed                       │ held
//!           ──► hook "post-dump" waits                           │
//!               │ held                                           │
//!     resume ───┤ hook fails: criu lets it go     activate ──────┤ interfaces into their bridges
//!     kill ─────┘ group and criu are killed       kill ──────────┘ hook succeeds: it runs
//! ```
//!
//! **Held** means: every process stands still in ptrace's or CRIU's own hands, and no packet
//! passes. Who holds is a process of CRIU that waits for its hook, and the hook ([`hook`]) waits
//! for a word in a pipe with a name ([`rendezvous`]): neither the daemon nor this shim need live
//! meanwhile, and no clock ends it.
//!
//! **Why ports are closed after the guest stands still.** What it said in its last moment has left
//! then. Said through a port that is closed already, it would be said again by the kernel that the guest
//! comes to, which knows nothing of the way to its peers and so waits for a whole second.
//!
//! **Why the target is held before anything of it runs.** CRIU calls "post-restore" when memory,
//! files and sockets are there and no process has run yet. Held there, the guest exists once
//! however the move ends, and its first packets leave after its interfaces are in their bridges:
//! an ARP request that got lost would cost a second.
//!
//! **What CRIU does not know** is given to it from outside: the root (a mount of ours), `/dev` and
//! the disks (mounts that only the host may make), the console (a terminal whose other end is
//! the shim's), and the interfaces (whose other ends are in the host's bridges). [`kept`] says
//! what of these goes along, in one more file beside CRIU's.

use std::{
    fs::File,
    os::fd::{AsFd as _, OwnedFd},
};

use crate::{
    fault::{Doing as _, Result},
    spec::Spec,
    start::{self, Started},
    sys::terminal::Terminal,
};

/// The first argument of the process with which a host's CRIU is tried.
pub const SUBJECT: &str = "--criu-subject";

/// The guest that is moved, and what belongs to it.
#[derive(Clone, Copy)]
pub(crate) struct Subject<'a> {
    pub(crate) spec: &'a Spec,
    pub(crate) directory: &'a OwnedFd,
    pub(crate) guest: &'a Started,
    pub(crate) console: &'a Terminal,
}

impl Subject<'_> {
    /// Its console is put away.
    fn unplug_console(&self) -> Result<()> {
        start::unplug_console(self.guest.pidfd.as_fd(), self.shims()?.as_fd())
    }

    /// Its console is back in its place, and the network reaches it.
    fn open(&self) -> Result<()> {
        self.plug_console()?;
        ports::open(&self.spec.nics)
    }

    fn plug_console(&self) -> Result<()> {
        let guest = self.guest.pidfd.as_fd();
        start::plug_console(guest, self.shims()?.as_fd(), self.console)
    }

    fn shims(&self) -> Result<File> {
        File::open(self.spec.cgroups.shims()).doing("open the shims' cgroup")
    }
}

pub mod announce;
mod criu;
mod dump;
mod held;
pub mod hook;
pub mod kept;
mod ports;
pub mod processes;
pub(crate) mod rendezvous;
mod restore;
mod stage;
mod subject;
pub mod unread;

pub(crate) use dump::begin as checkpoint;
pub(crate) use dump::{keep, objection};
pub(crate) use held::{Hold, Step};
pub(crate) use restore::{Restored, restore};
pub(crate) use subject::main as be_subject;
