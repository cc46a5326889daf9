//! Networks, their live state and their leases.

use serde::{Deserialize, Serialize};

use super::{
    ConfigMap,
    instance_state::{Address, Counters},
    lenient, or_default,
};

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Network {
    #[serde(deserialize_with = "lenient::config")]
    pub config: ConfigMap,
    pub description: String,
    pub name: String,
    /// `bridge`, `physical`, `loopback` ...
    #[serde(rename = "type")]
    pub kind: String,
    #[serde(deserialize_with = "or_default")]
    pub used_by: Vec<String>,
    pub managed: bool,
    /// `Created`, `Pending` ... ; empty when it is not managed.
    pub status: String,
    #[serde(deserialize_with = "or_default")]
    pub locations: Vec<String>,
    pub project: String,
}

/// `POST /1.0/networks`, and `PUT` and `PATCH` of one. What is `None` was not given.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct NetworkPut {
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    #[serde(rename = "type", skip_serializing_if = "String::is_empty")]
    pub kind: String,
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
pub struct NetworkState {
    #[serde(deserialize_with = "or_default")]
    pub addresses: Vec<Address>,
    pub counters: NetworkCounters,
    pub hwaddr: String,
    pub mtu: u32,
    pub state: String,
    #[serde(rename = "type")]
    pub kind: String,
    pub bond: Option<serde_json::Value>,
    pub bridge: Option<NetworkBridge>,
    pub vlan: Option<serde_json::Value>,
    pub ovn: Option<serde_json::Value>,
}

/// The first four of an interface's counters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct NetworkCounters {
    pub bytes_received: u64,
    pub bytes_sent: u64,
    pub packets_received: u64,
    pub packets_sent: u64,
}

impl From<Counters> for NetworkCounters {
    fn from(all: Counters) -> Self {
        Self {
            bytes_received: all.bytes_received,
            bytes_sent: all.bytes_sent,
            packets_received: all.packets_received,
            packets_sent: all.packets_sent,
        }
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct NetworkBridge {
    pub id: String,
    pub stp: bool,
    pub forward_delay: u64,
    pub vlan_default: u64,
    pub vlan_filtering: bool,
    #[serde(deserialize_with = "or_default")]
    pub upper_devices: Vec<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct NetworkLease {
    pub hostname: String,
    pub hwaddr: String,
    pub address: String,
    /// `static`, `dynamic`, `gateway` or `uplink`.
    #[serde(rename = "type")]
    pub kind: String,
    pub location: String,
    pub project: String,
}
