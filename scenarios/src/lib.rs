//! Proofs that cross crates.
//!
//! [`pretend`] is a whole installation in one process: the shipped control, executor and log over
//! pretend guests, storage, networks and images.

pub mod pretend;
