//! Warnings that the server raised.

use serde::{Deserialize, Serialize};

use super::Time;

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Warning {
    pub uuid: String,
    pub location: String,
    pub project: String,
    #[serde(rename = "type")]
    pub kind: String,
    pub count: u64,
    pub first_seen_at: Time,
    pub last_seen_at: Time,
    pub last_message: String,
    pub severity: String,
    /// `new`, `acknowledged` or `resolved`.
    pub status: String,
    pub entity_url: String,
}
