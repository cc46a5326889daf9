//! The cluster: itself, its members, their state, groups, and what lets one join.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{ConfigMap, Time, lenient, or_default, storage::StoragePoolResources};

/// `GET /1.0/cluster`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Cluster {
    pub server_name: String,
    pub enabled: bool,
    #[serde(deserialize_with = "or_default")]
    pub member_config: Vec<Value>,
    /// Ours: how the cluster is, at one look. Absent where there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub health: Option<ClusterHealth>,
}

/// `PUT /1.0/cluster`: found one, join one, or leave it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ClusterPut {
    pub server_name: String,
    pub enabled: bool,
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "or_default")]
    pub member_config: Vec<Value>,
    /// Of a member, when joining.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub cluster_address: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub cluster_certificate: String,
    /// Where this server is to be found.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub server_address: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub cluster_token: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub cluster_certificate_path: String,
    /// Ours: URLs of log servers that are there already; empty when stapes runs its own.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "or_default")]
    pub log_servers: Vec<String>,
    /// Ours: how they let this server in, as the texts of files.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub log_authority: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub log_certificate: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub log_key: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub log_credentials: String,
}

/// What [`Cluster::health`] says. Ours.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ClusterHealth {
    /// Whether the log takes writes.
    pub writable: bool,
    /// `managed` or `external`.
    pub log: String,
    /// Copies of the log that there are to be.
    pub replicas: u32,
    /// Servers of the log that answer, of those that there are.
    pub servers_answering: u32,
    pub servers: u32,
    /// By name.
    #[serde(deserialize_with = "or_default")]
    pub missing: Vec<String>,
    /// Since when nothing can be written.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stale_since: Option<Time>,
    /// The end of the log as this node knows it, and how far it has read.
    pub head: u64,
    pub sequence: u64,
    /// In words: what does not work, what still does, what to type.
    #[serde(deserialize_with = "or_default")]
    pub notes: Vec<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ClusterMember {
    #[serde(deserialize_with = "or_default")]
    pub roles: Vec<String>,
    pub failure_domain: String,
    pub description: String,
    #[serde(deserialize_with = "lenient::config")]
    pub config: ConfigMap,
    #[serde(deserialize_with = "or_default")]
    pub groups: Vec<String>,
    pub server_name: String,
    pub url: String,
    pub database: bool,
    pub status: String,
    pub message: String,
    pub architecture: String,
    /// Ours: what the log knows it by.
    pub id: String,
}

/// `POST /1.0/cluster/members` and of one, and `PUT` and `PATCH` of one. What is `None` was not given.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ClusterMemberPut {
    #[serde(skip_serializing_if = "String::is_empty")]
    pub server_name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub roles: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure_domain: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    #[serde(
        skip_serializing_if = "Option::is_none",
        deserialize_with = "lenient::config_if_given"
    )]
    pub config: Option<ConfigMap>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub groups: Option<Vec<String>>,
}

/// `POST /1.0/cluster/members/x/state`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ClusterMemberStatePost {
    /// `evacuate` or `restore`; ours: `fence`.
    pub action: String,
    pub mode: String,
}

/// `GET /1.0/cluster/members/x/state`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ClusterMemberState {
    pub sysinfo: SystemInfo,
    pub storage_pools: BTreeMap<String, StoragePoolResources>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct SystemInfo {
    /// Seconds.
    pub uptime: i64,
    pub load_averages: Vec<f64>,
    pub total_ram: u64,
    pub free_ram: u64,
    pub shared_ram: u64,
    pub buffered_ram: u64,
    pub total_swap: u64,
    pub free_swap: u64,
    pub processes: u16,
    pub logical_cpus: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ClusterGroup {
    pub description: String,
    #[serde(deserialize_with = "or_default")]
    pub members: Vec<String>,
    pub name: String,
}

/// `POST /1.0/cluster/groups` and of one, and `PUT` and `PATCH` of one. What is `None` was not given.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ClusterGroupPut {
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub members: Option<Vec<String>>,
}

/// The metadata of the operation that stands for a join token.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct JoinTokenMetadata {
    pub server_name: String,
    /// Empty once the token was told: only its hash is kept.
    pub secret: String,
    pub fingerprint: String,
    pub addresses: Vec<String>,
    pub expires_at: Time,
    /// Ours: the token as `cluster_token` takes it. Absent once it was told.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub token: String,
}
