//! Containers on a real kernel: busybox and systemd guests, limits, crashes, adoption.
//!
//! Needs root, `busybox` (static) and, for the systemd guest, `mmdebstrap` once.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
#![expect(clippy::print_stdout, reason = "what a move takes is measured")]

mod client;
mod crashes;
mod debian;
mod host;
mod keep_laws;
mod life;
mod moving;
mod programs;
mod templates;
