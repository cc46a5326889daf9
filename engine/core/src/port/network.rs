//! The network port: bridges, firewall, DHCP and DNS of one node.
//!
//! The plan comes whole from the log; the driver makes the host agree with it. Repeating a call
//! changes nothing. [`Plan`] checks what is asked for; [`laws`] are what every implementation is
//! run against.

use async_trait::async_trait;

use super::DriverError;
use crate::{
    ids::{InstanceId, NetworkId},
    spec::{NetworkSpec, Reservation},
};

pub mod laws;
mod memory;
mod plan;
pub use memory::MemoryNetworks;
pub use plan::Plan;

/// Bytes and packets through one interface, seen from the guest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    pub bytes_received: u64,
    pub bytes_sent: u64,
    pub packets_received: u64,
    pub packets_sent: u64,
}

#[async_trait]
pub trait Networks: Send + Sync + std::fmt::Debug + 'static {
    /// Makes the network or brings it to `spec`: bridge, addresses, NAT, DHCP and DNS.
    async fn ensure_network(&self, spec: &NetworkSpec) -> Result<(), DriverError>;
    /// Removes the network. Fine when there is none.
    async fn remove_network(&self, network: NetworkId) -> Result<(), DriverError>;
    /// From now on these are the instance's interfaces in the plan: DHCP, DNS and anti-spoofing
    /// follow. An empty list takes it out of the plan. The networks have to be there. Returns at
    /// once; [`Networks::settle`] waits.
    async fn reserve(&self, instance: InstanceId, nics: &[Reservation]) -> Result<(), DriverError>;
    /// Waits until the host agrees with every reservation made before this call.
    async fn settle(&self) -> Result<(), DriverError>;
    /// Counters of the interface with this name on the host.
    async fn counters(&self, host_name: &str) -> Result<Counters, DriverError>;
}
