//! The program as it is run: what it prints, how it ends, what it asks of a daemon.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod log_files;
mod messages;
mod newcomer;
mod pretend;
mod tail;
