//! The write path: load, decide, append; and reports into facts.
//!
//! ```text
//! submit ─► decide(world, command) ─► append ─► follow ─► world ─► answer
//!              ▲  claims the streams it touches            │ frees them
//!              └────────────────── conflict ◄──────────────┘
//! ```
//!
//! [`Control`] keeps the aggregates that it decides on in memory by following the log; it asks no
//! projection and touches no host. Decisions on one aggregate go one at a time within a process
//! (claims); between processes the log's expected revisions decide, and what touches no common
//! stream but must not pass each other meets on the guard's (`Command::relies_on_catalog`).

mod control;
mod encode;
mod flight;
mod founding;
mod reports;
mod seal;
mod waiting;
mod watch;

pub use control::{Accepted, Changes, Control, Request, SubmitError};
pub use reports::NodeReports;
pub use watch::{Ears, Watch};
