//! Events of the websocket `/1.0/events`.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{Time, or_default};

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Event {
    /// `operation`, `lifecycle` or `logging`.
    #[serde(rename = "type")]
    pub kind: String,
    pub timestamp: Time,
    pub metadata: Value,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub location: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub project: String,
    /// Ours: where on the log it is, to resume from with `since=`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sequence: Option<u64>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Lifecycle {
    /// e.g. `instance-started`.
    pub action: String,
    /// The URL of what it happened to.
    pub source: String,
    #[serde(skip_serializing_if = "Map::is_empty", deserialize_with = "or_default")]
    pub context: Map<String, Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub requestor: Option<Requestor>,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub project: String,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Requestor {
    pub username: String,
    /// `unix`, `tls` or `oidc`.
    pub protocol: String,
    pub address: String,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Logging {
    pub message: String,
    pub level: String,
    #[serde(deserialize_with = "or_default")]
    pub context: std::collections::BTreeMap<String, String>,
}
