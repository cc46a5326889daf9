//! The cluster, as far as a server that is in none tells of it.

use serde::{Deserialize, Serialize};

use super::or_default;

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Cluster {
    pub server_name: String,
    pub enabled: bool,
    #[serde(deserialize_with = "or_default")]
    pub member_config: Vec<serde_json::Value>,
}
