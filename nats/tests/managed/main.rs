//! Real servers under a managed server's care: alone, from one to three, killed, and asked for what
//! they must not give.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod alone;
mod farm;
mod growth;
mod refusal;
