//! The pure core of stapes: what happened, what may happen next, and what to do about it.
//!
//! Reading order: [`ids`] and [`record`] are the words of the log; each noun's module holds its
//! events, its state and its decisions; [`world`] is the fold of them all; [`command`] is what may
//! be asked; [`task`] is what a node must do about it; [`port`] is what the rest of stapes promises.
//!
//! Architecture Invariant: nothing here reads a clock, draws a random number, touches a file or a
//! socket, or waits. Times, ids and choices arrive as arguments, so that replay is exact.

pub mod address;
pub mod agent;
pub mod cluster;
pub mod command;
pub mod config;
pub mod decision;
pub mod event;
pub mod furniture;
pub mod ids;
pub mod image;
pub mod instance;
pub mod lease;
pub mod name;
pub mod network;
pub mod node;
pub mod operation;
pub mod placement;
pub mod pool;
pub mod port;
pub mod profile;
pub mod project;
pub mod record;
pub mod rejection;
pub mod resource;
pub mod server;
pub mod session;
pub mod spec;
pub mod table;
pub mod task;
pub mod template;
#[cfg(test)]
mod testing;
pub mod volume;
pub mod world;
