//! `GET /1.0`: the server, as a stranger sees it and as a trusted client does.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{ConfigMap, lenient, or_default};

/// What `PUT` and `PATCH` of `/1.0` take.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ServerPut {
    #[serde(deserialize_with = "lenient::config")]
    pub config: ConfigMap,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Server {
    #[serde(deserialize_with = "lenient::config")]
    pub config: ConfigMap,
    /// Never null: clients iterate it before they authenticate.
    #[serde(deserialize_with = "or_default")]
    pub api_extensions: Vec<String>,
    pub api_status: String,
    pub api_version: String,
    /// `trusted` or `untrusted`.
    pub auth: String,
    pub public: bool,
    #[serde(deserialize_with = "or_default")]
    pub auth_methods: Vec<String>,
    pub auth_user_name: String,
    pub auth_user_method: String,
    pub environment: Environment,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Environment {
    #[serde(deserialize_with = "or_default")]
    pub addresses: Vec<String>,
    #[serde(deserialize_with = "or_default")]
    pub architectures: Vec<String>,
    pub certificate: String,
    pub certificate_fingerprint: String,
    pub driver: String,
    pub driver_version: String,
    pub firewall: String,
    pub kernel: String,
    pub kernel_architecture: String,
    #[serde(deserialize_with = "or_default")]
    pub kernel_features: BTreeMap<String, String>,
    pub kernel_version: String,
    #[serde(deserialize_with = "or_default")]
    pub lxc_features: BTreeMap<String, String>,
    pub os_name: String,
    pub os_version: String,
    pub project: String,
    pub server: String,
    pub server_clustered: bool,
    pub server_event_mode: String,
    pub server_name: String,
    pub server_pid: u32,
    pub server_version: String,
    pub storage: String,
    pub storage_version: String,
    #[serde(deserialize_with = "or_default")]
    pub storage_supported_drivers: Vec<StorageDriver>,
}

/// Its keys have capitals: Incus gives them no names of their own.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct StorageDriver {
    #[serde(rename = "Name")]
    pub name: String,
    #[serde(rename = "Version")]
    pub version: String,
    #[serde(rename = "Remote")]
    pub remote: bool,
}
