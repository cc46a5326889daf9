//! Containers on a real kernel: busybox and systemd guests, limits, crashes, adoption.
//!
//! Needs root, `busybox` (static) and, for the systemd guest, `mmdebstrap` once.

mod host;
mod keep_laws;
mod life;
