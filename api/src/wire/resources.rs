//! `GET /1.0/resources`: what the machine has.

use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Resources {
    pub cpu: Cpu,
    pub memory: Memory,
    pub gpu: Cards,
    pub network: Cards,
    pub storage: Storage,
    pub usb: Devices,
    pub pci: Devices,
    pub system: System,
    pub load: Load,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Cpu {
    pub architecture: String,
    pub sockets: Vec<CpuSocket>,
    pub total: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct CpuSocket {
    pub name: String,
    pub vendor: String,
    pub socket: u64,
    pub cores: Vec<CpuCore>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct CpuCore {
    pub core: u64,
    pub die: u64,
    pub threads: Vec<CpuThread>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct CpuThread {
    pub id: u64,
    pub thread: u64,
    pub online: bool,
    pub numa_node: u64,
    pub isolated: bool,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Memory {
    pub hugepages_total: u64,
    pub hugepages_used: u64,
    pub hugepages_size: u64,
    pub used: u64,
    pub total: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Cards {
    pub cards: Vec<serde_json::Value>,
    pub total: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Devices {
    pub devices: Vec<serde_json::Value>,
    pub total: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Storage {
    pub disks: Vec<Disk>,
    pub total: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Disk {
    pub id: String,
    pub device: String,
    pub model: String,
    #[serde(rename = "type")]
    pub kind: String,
    pub read_only: bool,
    pub removable: bool,
    pub size: u64,
    pub partitions: Vec<serde_json::Value>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct System {
    pub uuid: String,
    pub vendor: String,
    pub product: String,
    pub family: String,
    pub version: String,
    pub sku: String,
    pub serial: String,
    #[serde(rename = "type")]
    pub kind: String,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Load {
    #[serde(rename = "Average1Min")]
    pub average_1_min: f64,
    #[serde(rename = "Average5Min")]
    pub average_5_min: f64,
    #[serde(rename = "Average10Min")]
    pub average_10_min: f64,
    #[serde(rename = "Processes")]
    pub processes: u64,
}
