//! The small process that holds one running guest, and the words it is spoken to in.
//!
//! ```text
//!  daemon ── clone3 ──► shim ── clone3 ──► init of the guest
//!    │                   │ pidfd, console master, control socket, cgroups
//!    └── ctl (seqpacket) ┘
//! ```
//!
//! The daemon's driver uses [`spec`], [`protocol`], [`transport`], [`cgroup`] and [`record`]; the
//! rest is the shim itself, which [`supervise::main`] runs. The shim is one thread, asks nobody
//! anything, and ends only after its guest has: restarting or upgrading the daemon never touches a
//! guest. What it must tell after its end stands in files beside the control socket.
//!
//! Architecture Invariant: the shim is single-threaded. It forks, changes its credentials for a
//! moment and enters namespaces on behalf of others, none of which a second thread would survive.

pub mod cgroup;
mod console;
mod exec;
mod exit;
pub mod fault;
pub mod live;
pub mod protocol;
pub mod record;
pub mod spec;
mod start;
mod stop;
pub mod supervise;
pub mod sys;
pub mod transport;

pub use start::takes_descriptors;
