//! Storage on the real kernel: needs root, `mkfs.btrfs` and loop devices.
#![expect(clippy::unwrap_used, reason = "a test fails where it unwraps")]

mod host;
mod hostile;
mod kills;
mod laws;
mod overlay;
mod pools;
mod streams;
mod transfer;
