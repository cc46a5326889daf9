//! Storage pools and volumes.

use serde::{Deserialize, Serialize};

use super::{ConfigMap, Time, lenient, or_default};

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct StoragePool {
    #[serde(deserialize_with = "lenient::config")]
    pub config: ConfigMap,
    pub description: String,
    pub name: String,
    pub driver: String,
    #[serde(deserialize_with = "or_default")]
    pub used_by: Vec<String>,
    pub status: String,
    #[serde(deserialize_with = "or_default")]
    pub locations: Vec<String>,
}

/// `POST /1.0/storage-pools`, and `PUT` and `PATCH` of one. What is `None` was not given.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct StoragePoolPut {
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub driver: String,
    #[serde(
        skip_serializing_if = "Option::is_none",
        deserialize_with = "lenient::config_if_given"
    )]
    pub config: Option<ConfigMap>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
}

/// `GET /1.0/storage-pools/x/resources`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct StoragePoolResources {
    pub space: Amounts,
    pub inodes: Amounts,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Amounts {
    pub used: u64,
    pub total: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct StorageVolume {
    #[serde(deserialize_with = "lenient::config")]
    pub config: ConfigMap,
    pub description: String,
    pub name: String,
    /// `container`, `virtual-machine`, `image` or `custom`.
    #[serde(rename = "type")]
    pub kind: String,
    #[serde(deserialize_with = "or_default")]
    pub used_by: Vec<String>,
    pub location: String,
    /// `filesystem`, `block` or `iso`.
    pub content_type: String,
    pub project: String,
    pub created_at: Time,
}

/// `POST` of a volume, and `PUT` and `PATCH` of one. What is `None` was not given.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct StorageVolumePut {
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    #[serde(rename = "type", skip_serializing_if = "String::is_empty")]
    pub kind: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub content_type: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<StorageVolumeSource>,
    #[serde(
        skip_serializing_if = "Option::is_none",
        deserialize_with = "lenient::config_if_given"
    )]
    pub config: Option<ConfigMap>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct StorageVolumeSource {
    pub name: String,
    #[serde(rename = "type")]
    pub kind: String,
    pub pool: String,
}
