//! The API through its own client, over a unix socket, against pretend drivers. No root, no
//! network.

#![allow(
    clippy::unwrap_used,
    clippy::wildcard_enum_match_arm,
    reason = "a test says what was unexpected by failing"
)]

mod dialect;
mod exec;
mod extensions;
mod images;
mod instances;
mod support;
