//! The log port on NATS JetStream: not built yet.
//!
//! A cluster's log is to live here: [`EventLog`](stapes_core::port::log::EventLog) on one JetStream
//! stream a cluster, one exact subject an aggregate, with
//! [the port's laws](stapes_core::port::log::laws) against a real `nats-server`. Until then stapes
//! runs on one host, on the embedded log.
