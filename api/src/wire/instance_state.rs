//! The live state of an instance: `GET` and `PUT` of `/1.0/instances/x/state`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{StatusCode, Time, or_default};

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct InstanceState {
    pub status: String,
    pub status_code: StatusCode,
    #[serde(deserialize_with = "or_default")]
    pub disk: BTreeMap<String, DiskState>,
    pub memory: MemoryState,
    /// Null when it does not run.
    pub network: Option<BTreeMap<String, NetworkInterfaceState>>,
    pub pid: i64,
    pub processes: i64,
    pub cpu: CpuState,
    pub started_at: Time,
    pub os_info: Option<OsInfo>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct DiskState {
    pub usage: u64,
    pub total: u64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct MemoryState {
    pub usage: u64,
    pub usage_peak: u64,
    pub total: u64,
    pub swap_usage: u64,
    pub swap_usage_peak: u64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct CpuState {
    /// Nanoseconds.
    pub usage: u64,
    pub allocated_time: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct NetworkInterfaceState {
    #[serde(deserialize_with = "or_default")]
    pub addresses: Vec<Address>,
    pub counters: Counters,
    pub hwaddr: String,
    pub host_name: String,
    pub mtu: u32,
    /// `up` or `down`.
    pub state: String,
    /// `broadcast`, `loopback` ...
    #[serde(rename = "type")]
    pub kind: String,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Address {
    /// `inet` or `inet6`.
    pub family: String,
    pub address: String,
    /// The prefix length, as text.
    pub netmask: String,
    /// `global`, `link` or `local`.
    pub scope: String,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Counters {
    pub bytes_received: u64,
    pub bytes_sent: u64,
    pub packets_received: u64,
    pub packets_sent: u64,
    pub errors_received: u64,
    pub errors_sent: u64,
    pub packets_dropped_outbound: u64,
    pub packets_dropped_inbound: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct OsInfo {
    pub os: String,
    pub os_version: String,
    pub kernel_version: String,
    pub hostname: String,
    pub fqdn: String,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct InstanceStatePut {
    /// `start`, `stop`, `restart`, `freeze` or `unfreeze`.
    pub action: String,
    /// Seconds; -1 is the default of ten minutes, 0 too.
    pub timeout: i64,
    pub force: bool,
    pub stateful: bool,
}
