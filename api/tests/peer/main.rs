//! What nodes fetch from each other, over real TLS on loopback with real certificates.
#![expect(clippy::unwrap_used, reason = "a test fails where it unwraps")]

mod certificates;
mod failures;
mod fetch;
mod listener;
mod node;
