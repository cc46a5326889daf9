//! What every implementation of [`Networks`] must do. A law panics when it is broken.
//!
//! The laws make and remove one network, given by an [`Example`], and leave nothing behind.

#![allow(clippy::unwrap_used, reason = "a broken law panics")]

use std::net::Ipv4Addr;

use super::Networks;
use crate::{
    address,
    ids::{InstanceId, NetworkId},
    port::DriverError,
    spec::{Ipv4Plan, NetworkSpec, NicSpec, Reservation},
};

/// The network that the laws are tried on: a bridge name and a range that are free on the host.
#[derive(Clone, Debug)]
pub struct Example {
    pub bridge: String,
    /// The range is `10.213.THIS.0/24`.
    pub third: u8,
}

impl Example {
    #[must_use]
    pub fn new(bridge: &str, third: u8) -> Self {
        Self { bridge: bridge.into(), third }
    }

    #[must_use]
    pub fn network(&self) -> NetworkSpec {
        let gateway = Ipv4Addr::new(10, 213, self.third, 1);
        NetworkSpec {
            network: NetworkId::derive(&["law", &self.bridge]),
            bridge: self.bridge.clone(),
            ipv4: Some(Ipv4Plan { gateway, prefix: 24, nat: true, dhcp: true }),
            ipv6: None,
            dns_domain: "law.test".into(),
            dns_upstream: vec![],
            uplinks: Vec::new(),
        }
    }

    #[must_use]
    pub fn reservation(&self, hostname: &str, last: u8) -> Reservation {
        let instance = InstanceId::derive(&["law", &self.bridge, hostname]);
        let network = self.network();
        let nic = NicSpec {
            name: "eth0".into(),
            host_name: address::host_interface_name(instance, "eth0"),
            network: network.network,
            bridge: network.bridge,
            mac: address::derive_mac(instance, "eth0"),
            ipv4: Some(Ipv4Addr::new(10, 213, self.third, last)),
            ipv6: None,
        };
        Reservation { instance, hostname: hostname.into(), nic }
    }
}

/// All laws, one after the other.
///
/// # Panics
/// When one is broken.
pub async fn all(networks: &dyn Networks, example: &Example) {
    removing_what_is_not_there_is_fine(networks, example).await;
    repeating_changes_nothing(networks, example).await;
    what_does_not_fit_is_refused(networks, example).await;
    an_address_is_free_again_when_its_owner_left(networks, example).await;
    a_removed_network_takes_its_reservations_along(networks, example).await;
    counters_need_an_interface(networks).await;
}

async fn removing_what_is_not_there_is_fine(networks: &dyn Networks, example: &Example) {
    let network = example.network().network;
    networks.remove_network(network).await.unwrap();
    networks.remove_network(network).await.unwrap();
    let nobody = InstanceId::derive(&["law", "nobody"]);
    networks.reserve(nobody, &[]).await.unwrap();
    networks.settle().await.unwrap();
}

async fn repeating_changes_nothing(networks: &dyn Networks, example: &Example) {
    let one = example.reservation("one", 2);
    for _ in 0..2 {
        networks.ensure_network(&example.network()).await.unwrap();
        for _ in 0..2 {
            networks.reserve(one.instance, std::slice::from_ref(&one)).await.unwrap();
            networks.settle().await.unwrap();
        }
    }
}

async fn what_does_not_fit_is_refused(networks: &dyn Networks, example: &Example) {
    let refused = |result: Result<(), DriverError>, what: &str| {
        assert!(matches!(&result, Err(DriverError::Refused(_))), "{what}: {result:?}");
    };
    let bad_bridge = NetworkSpec { bridge: "br\"; flush".into(), ..example.network() };
    refused(networks.ensure_network(&bad_bridge).await, "a bridge's name");
    let bad_domain = NetworkSpec { dns_domain: "no domain".into(), ..example.network() };
    refused(networks.ensure_network(&bad_domain).await, "a domain");

    let two = example.reservation("two", 3);
    let reserve =
        |wrong: Reservation| async move { networks.reserve(two_id(example), &[wrong]).await };
    let with = |change: &dyn Fn(&mut Reservation)| {
        let mut changed = two.clone();
        change(&mut changed);
        changed
    };
    refused(reserve(with(&|two| two.hostname = "a b".into())).await, "a hostname");
    refused(reserve(with(&|two| two.nic.ipv4 = Some([10, 212, 1, 2].into()))).await, "outside");
    let gateway = Ipv4Addr::new(10, 213, example.third, 1);
    refused(reserve(with(&|two| two.nic.ipv4 = Some(gateway))).await, "the gateway's address");
    refused(reserve(with(&|two| two.nic.mac.0[0] |= 1)).await, "a group's MAC address");
    refused(reserve(with(&|two| two.nic.bridge = "other".into())).await, "another bridge");
    let one = example.reservation("one", 2);
    refused(reserve(with(&|two| two.nic.ipv4 = one.nic.ipv4)).await, "a neighbour's address");
    refused(reserve(with(&|two| two.nic.mac = one.nic.mac)).await, "a neighbour's MAC address");
    let unknown = NetworkId::derive(&["law", "unknown"]);
    let missing = reserve(with(&|two| two.nic.network = unknown)).await;
    assert!(matches!(missing, Err(DriverError::NotFound(_))), "{missing:?}");
    networks.settle().await.unwrap();
}

async fn an_address_is_free_again_when_its_owner_left(networks: &dyn Networks, example: &Example) {
    let one = example.reservation("one", 2);
    let two = example.reservation("two", 2);
    networks.reserve(one.instance, &[]).await.unwrap();
    networks.reserve(two.instance, std::slice::from_ref(&two)).await.unwrap();
    networks.settle().await.unwrap();
}

async fn a_removed_network_takes_its_reservations_along(
    networks: &dyn Networks,
    example: &Example,
) {
    networks.remove_network(example.network().network).await.unwrap();
    let one = example.reservation("one", 2);
    let missing = networks.reserve(one.instance, std::slice::from_ref(&one)).await;
    assert!(matches!(missing, Err(DriverError::NotFound(_))), "{missing:?}");
    networks.ensure_network(&example.network()).await.unwrap();
    networks.reserve(one.instance, std::slice::from_ref(&one)).await.unwrap();
    networks.settle().await.unwrap();
    networks.remove_network(example.network().network).await.unwrap();
}

async fn counters_need_an_interface(networks: &dyn Networks) {
    for name in ["veth-no-such", "../../etc", ""] {
        let missing = networks.counters(name).await;
        assert!(matches!(missing, Err(DriverError::NotFound(_))), "{name:?}: {missing:?}");
    }
}

fn two_id(example: &Example) -> InstanceId {
    example.reservation("two", 3).instance
}
