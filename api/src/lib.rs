//! HTTP: the Incus dialect, our own extensions to it, and the client library.
//!
//! [`wire`] is the dialect's types, [`client`] speaks it, [`server`] answers it from what
//! [`backend`] names: the write path, the fold of the log, and the drivers for what is live.

pub mod backend;
pub mod client;
pub mod joining;
pub mod peer;
pub mod server;
pub mod tls;
pub mod wire;
