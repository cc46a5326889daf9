//! stapes on NATS: the cluster's log and its nodes' task queues on JetStream.
//!
//! ```text
//! append ──► one message, or one atomic batch ──► stream STAPES_<cluster> (R1, R3, R5)
//!                                                     │ one consumer a process
//!                                                     ▼
//!            read · read_stream · follow ◄── index and newest records in memory
//! ```
//!
//! [`Connection`] reaches the servers, which may be [`managed`] ones; [`JetStreamLog`] is the log port
//! on them, kept to [its laws](stapes_core::port::log::laws), and [`JetStreamTasks`] the queue port.
//! This crate alone knows async-nats, which was chosen because it is the servers' makers' own client.
//!
//! Architecture Invariant: JetStream is trusted with nothing that can be checked. Contiguity, whole
//! commits and revisions are checked on every record that comes in, and what is acknowledged is
//! compared with what is delivered.

mod connection;
mod error;
pub mod log;
pub mod managed;
mod presence;
mod queue;
#[cfg(feature = "host")]
pub mod testing;

pub use connection::{Authentication, ConnectConfig, Connection, TlsFiles};
pub use error::OpenError;
pub use log::{JetStreamLog, Keepers, LogConfig, Replica};
pub use presence::NatsPresence;
pub use queue::{JetStreamTasks, remove_queues_of_others};
