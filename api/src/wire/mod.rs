//! The types of the Incus dialect, one file a noun, exactly as they lie on the wire.
//!
//! Clients of this dialect are written in Go, Python and more, and read what Go's encoder gives:
//! keys that are always there, `null` for a list that was never made, times of the year 1 for
//! "never". So every key is always emitted unless Incus leaves it out, and what comes in is read
//! as leniently as Go reads it ([`lenient`]). Wire types are not domain types: they are built by
//! the pure functions in `server::show` and live nowhere else.

pub mod certificate;
pub mod cluster;
pub mod envelope;
pub mod event;
pub mod exec;
pub mod image;
pub mod instance;
pub mod instance_state;
pub mod lenient;
pub mod network;
pub mod operation;
pub mod profile;
pub mod project;
pub mod resources;
pub mod server;
pub mod snapshot;
pub mod status;
pub mod storage;
pub mod time;
pub mod warning;

use std::collections::BTreeMap;

pub use lenient::{decode, or_default};
pub use status::StatusCode;
pub use time::Time;

/// Configuration: keys to values, all of them strings.
pub type ConfigMap = BTreeMap<String, String>;
/// Devices: names to their configuration.
pub type DevicesMap = BTreeMap<String, ConfigMap>;
