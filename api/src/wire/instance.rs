//! Instances: what they are, and the bodies that create, change, rename, copy and move them.

use serde::{Deserialize, Serialize};

use super::{
    ConfigMap, DevicesMap, StatusCode, Time, instance_state::InstanceState, lenient, or_default,
    snapshot::InstanceSnapshot,
};

/// `GET /1.0/instances/x`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Instance {
    pub architecture: String,
    #[serde(deserialize_with = "lenient::config")]
    pub config: ConfigMap,
    #[serde(deserialize_with = "lenient::devices")]
    pub devices: DevicesMap,
    pub ephemeral: bool,
    #[serde(deserialize_with = "or_default")]
    pub profiles: Vec<String>,
    pub stateful: bool,
    pub description: String,
    pub created_at: Time,
    #[serde(deserialize_with = "lenient::config")]
    pub expanded_config: ConfigMap,
    #[serde(deserialize_with = "lenient::devices")]
    pub expanded_devices: DevicesMap,
    pub name: String,
    pub status: String,
    pub status_code: StatusCode,
    pub last_used_at: Time,
    /// The member that it is on, or `none`.
    pub location: String,
    /// `container` or `virtual-machine`.
    #[serde(rename = "type")]
    pub kind: String,
    pub project: String,
}

/// `GET /1.0/instances?recursion=2`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct InstanceFull {
    #[serde(flatten)]
    pub instance: Instance,
    /// Null when there are none, as the next two.
    pub backups: Option<Vec<serde_json::Value>>,
    pub state: Option<InstanceState>,
    pub snapshots: Option<Vec<InstanceSnapshot>>,
}

/// What may be written of an instance. What is `None` was not given.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct InstancePut {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub architecture: Option<String>,
    #[serde(
        skip_serializing_if = "Option::is_none",
        deserialize_with = "lenient::config_if_given"
    )]
    pub config: Option<ConfigMap>,
    #[serde(
        skip_serializing_if = "Option::is_none",
        deserialize_with = "lenient::devices_if_given"
    )]
    pub devices: Option<DevicesMap>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ephemeral: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub profiles: Option<Vec<String>>,
    /// The snapshot to go back to.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub restore: String,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub stateful: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
}

/// `POST /1.0/instances`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct InstancesPost {
    #[serde(flatten)]
    pub instance: InstancePut,
    pub name: String,
    pub source: InstanceSource,
    /// A cloud's name for a size, e.g. `c2-m4`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub instance_type: String,
    /// `container` (also when empty) or `virtual-machine`.
    #[serde(rename = "type")]
    pub kind: String,
    pub start: bool,
}

/// Where a new instance comes from.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct InstanceSource {
    /// `image`, `copy`, `migration` or `none`.
    #[serde(rename = "type")]
    pub kind: String,
    pub certificate: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub alias: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub fingerprint: String,
    #[serde(skip_serializing_if = "ConfigMap::is_empty", deserialize_with = "lenient::config")]
    pub properties: ConfigMap,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub server: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub secret: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub protocol: String,
    #[serde(rename = "base-image", skip_serializing_if = "String::is_empty")]
    pub base_image: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub mode: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub operation: String,
    #[serde(skip_serializing_if = "ConfigMap::is_empty", deserialize_with = "lenient::config")]
    pub secrets: ConfigMap,
    /// The instance, or `instance/snapshot`, to copy.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub source: String,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub live: bool,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub instance_only: bool,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub refresh: bool,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub project: String,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub allow_inconsistent: bool,
}

/// `POST /1.0/instances/x`: rename, move or migrate. Incus writes the last three with capitals.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct InstancePost {
    pub name: String,
    pub migration: bool,
    pub live: bool,
    pub instance_only: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target: Option<serde_json::Value>,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub pool: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub project: String,
    pub allow_inconsistent: bool,
    #[serde(
        skip_serializing_if = "Option::is_none",
        deserialize_with = "lenient::config_if_given"
    )]
    pub config: Option<ConfigMap>,
    #[serde(
        skip_serializing_if = "Option::is_none",
        deserialize_with = "lenient::devices_if_given"
    )]
    pub devices: Option<DevicesMap>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub profiles: Option<Vec<String>>,
}

/// `POST /1.0/instances/x/rebuild`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct InstanceRebuildPost {
    pub source: InstanceSource,
}

/// `PUT /1.0/instances`: one state for many.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct InstancesPut {
    pub state: Option<super::instance_state::InstanceStatePut>,
}

/// `GET /1.0/instances/x/metadata`: what the image says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ImageMetadata {
    pub architecture: String,
    pub creation_date: i64,
    pub expiry_date: i64,
    #[serde(deserialize_with = "lenient::config")]
    pub properties: ConfigMap,
    #[serde(deserialize_with = "or_default")]
    pub templates: std::collections::BTreeMap<String, serde_json::Value>,
}
