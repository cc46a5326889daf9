//! Networks on a real kernel, with real clients: busybox's DHCP client, dig, ping.
//!
//! Needs root, `ip`, `nft`, `nsenter`, `ping`, `busybox` and `dig`; touches nothing outside the
//! namespaces that it makes.

#![allow(clippy::unwrap_used, reason = "tests")]

mod world;

mod clients;
mod filter;
mod life;
