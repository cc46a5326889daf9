//! Proofs that cross crates.
//!
//! [`pretend`] is a whole installation in one process: the shipped control, executor and log over
//! pretend guests, storage, networks and images, and [`pair`] two of them. [`real`] is the shipped program, started and
//! crashed as a child, on real guests or pretended ones. [`hosts`] is several of them, each on a
//! machine made of network namespaces.

pub mod hosts;
pub mod pair;
pub mod pretend;
pub mod real;
