//! What one node fetches from another: [`PeerClient`] asks, [`router`] answers.
//!
//! `GET /internal/v1/transfer?wanted=<JSON of Wanted>` over mutual TLS. Both sides know the other by a
//! certificate of the cluster's authority and ask whether that node is a member now. The body is
//! [`frame`]s, so that a failure in the middle is told and not mistaken for the end.

use std::sync::Arc;

use stapes_core::ids::NodeId;

mod client;
mod frame;
mod server;

pub use client::PeerClient;
pub use server::{members_only, router};

/// Whether a node is a member of the cluster now.
pub type IsMember = Arc<dyn Fn(NodeId) -> bool + Send + Sync>;

const PATH: &str = "/internal/v1/transfer";
