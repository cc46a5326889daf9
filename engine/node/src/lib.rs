//! The executor on each node: it performs the tasks that the log orders from it, and reports.
//!
//! ```text
//! queue of this node's tasks ─► dispatcher ─► one queue a subject ─► drivers
//!        ▲                                          │ report (durable), then
//!        └──────────────── acknowledged ◄───────────┘ the task is done with
//! ```
//!
//! Every task is a reconcile: the drivers look at the world and converge, so a task may be performed
//! again after any crash. What was performed, and what came of it, is remembered beside the guests
//! ([`memory`]), so that a task that comes again is answered rather than repeated.
//!
//! Architecture Invariant: nothing here decides. A node knows its own tasks and no other record.

mod dispatcher;
mod executor;
pub mod files;
pub mod identity;
mod ledger;
pub mod membership;
mod memory;
mod perform;
mod phases;
mod queue;
mod settling;
mod subject;
mod travel;

pub use executor::{Drivers, Executor, ExecutorConfig, StartError};
pub use queue::LogTasks;
