//! Snapshots of instances.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::{ConfigMap, DevicesMap, Time, lenient, or_default};

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct InstanceSnapshot {
    pub expires_at: Time,
    pub architecture: String,
    #[serde(deserialize_with = "lenient::config")]
    pub config: ConfigMap,
    pub created_at: Time,
    #[serde(deserialize_with = "lenient::devices")]
    pub devices: DevicesMap,
    pub ephemeral: bool,
    #[serde(deserialize_with = "lenient::config")]
    pub expanded_config: ConfigMap,
    #[serde(deserialize_with = "lenient::devices")]
    pub expanded_devices: DevicesMap,
    pub last_used_at: Time,
    pub name: String,
    #[serde(deserialize_with = "or_default")]
    pub profiles: Vec<String>,
    pub stateful: bool,
    /// Bytes; -1 when nobody counted.
    pub size: i64,
}

/// `POST /1.0/instances/x/snapshots`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct InstanceSnapshotsPost {
    /// Empty: the next free `snapN`.
    pub name: String,
    pub stateful: bool,
    pub expires_at: Option<DateTime<Utc>>,
}

/// `POST /1.0/instances/x/snapshots/y`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct InstanceSnapshotPost {
    pub name: String,
    pub migration: bool,
    pub live: bool,
}

/// `PUT` and `PATCH` of `/1.0/instances/x/snapshots/y`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct InstanceSnapshotPut {
    pub expires_at: Time,
}
