//! HTTP: the Incus dialect, our own extensions to it, and the client library.
//!
//! [`wire`] is the dialect's types, [`client`] speaks it.

pub mod client;
pub mod wire;
