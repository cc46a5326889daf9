//! Networks on a real kernel, with real clients: the DHCP clients of busybox and systemd, dig,
//! ping.
//!
//! Needs root, `ip`, `nft`, `nsenter`, `ping`, `busybox`, `dig` and `systemd-networkd`; touches
//! nothing outside the namespaces that it makes.

#![allow(clippy::unwrap_used, reason = "tests")]

mod world;

mod clients;
mod filter;
mod life;
