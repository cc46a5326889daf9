//! Networks of the host: bridges, packet filter, DHCP, DNS and router advertisements.
//!
//! ```text
//!   ensure, remove, reserve ──► Plan (checked, in memory) ◄── read by ── DHCP, DNS
//!                                 │                                        ▲ one task a socket
//!               link (netlink) ◄──┼──► firewall (one task)      services
//! ```
//!
//! The plan is all there is: no lease files, no generated configuration. A daemon that starts is
//! told the plan again and makes the same servers again; what it finds done, it leaves alone.
//! [`plans`] says how guests get through that moment.
//!
//! The host's ends of guests' interfaces are made by the shim, inside the bridge; here only their
//! names are known. So nothing on the way of a starting guest waits for this module, except for
//! [`Networks::settle`], and that only when something was reserved just before.

use std::{collections::BTreeMap, path::PathBuf, sync::Arc};

use async_trait::async_trait;
use ipnet::{IpNet, Ipv4Net};
use stapes_core::{
    ids::{InstanceId, NetworkId},
    port::{
        DriverError,
        network::{Counters, Networks},
    },
    spec::{NetworkSpec, Reservation},
};
use tokio::sync::Mutex;

mod dhcp;
mod dhcp_server;
mod dns;
mod dns_server;
mod elements;
mod firewall;
mod frame;
mod link;
mod plans;
mod preflight;
mod router;
mod rules;
mod services;
mod settings;
mod upstream;

pub(crate) use dhcp_server::packet_address;
pub use preflight::{Check, preflight};

use self::{firewall::Firewall, link::Links, plans::Plans, services::Services};

const TABLE: &str = "stapes";
const TAG_MAX: usize = 16;

#[derive(Clone, Debug)]
pub struct NetworkConfig {
    /// For the plan of the process before this one, and rules that were refused. Losing it is no harm.
    pub state_dir: PathBuf,
    /// Tells several daemons on one host apart; empty for the only one.
    pub tag: String,
}

/// The networks of this host, or of the network namespace that it was made in.
#[derive(Debug)]
pub struct HostNetworks {
    plans: Arc<Plans>,
    links: Links,
    firewall: Firewall,
    /// Held for the whole of a change, so that changes of networks go one at a time.
    services: Mutex<BTreeMap<NetworkId, Services>>,
}

impl HostNetworks {
    /// Has to be called within a tokio runtime. Changes nothing on the host yet.
    ///
    /// # Errors
    /// When the tag cannot be part of a table's name, or netlink is not to be had.
    pub fn new(config: NetworkConfig) -> Result<Self, DriverError> {
        let NetworkConfig { state_dir, tag } = config;
        let table = table_name(&tag)?;
        std::fs::create_dir_all(&state_dir)
            .map_err(|error| DriverError::Failed(format!("{}: {error}", state_dir.display())))?;
        let links = Links::connect()?;
        let plans = Arc::new(Plans::inherit(&state_dir.join(firewall::PLAN_FILE)));
        let firewall = Firewall::start(table, Arc::clone(&plans), state_dir)
            .map_err(|error| DriverError::Failed(format!("netlink: {error}")))?;
        Ok(Self { plans, links, firewall, services: Mutex::default() })
    }

    /// Where this host's IPv4 routes lead: what a new network's range must keep clear of.
    ///
    /// # Errors
    /// When the kernel does not say.
    pub async fn ipv4_routes(&self) -> Result<Vec<Ipv4Net>, DriverError> {
        self.links.ipv4_routes().await
    }

    /// Stops the servers and waits until their sockets are closed. Bridges, rules and guests stay.
    pub async fn stop(&self) {
        let services = std::mem::take(&mut *self.services.lock().await);
        for services in services.into_values() {
            services.stop().await;
        }
    }
}

#[async_trait]
impl Networks for HostNetworks {
    async fn ensure_network(&self, spec: &NetworkSpec) -> Result<(), DriverError> {
        let mut services = self.services.lock().await;
        // A network whose bridge cannot be made has no place in the plan.
        self.plans.check(spec)?;
        let bridge = self.links.ensure_bridge(spec).await?;
        let before = self.plans.uplinks(spec.network);
        self.plans.ensure(spec)?;
        self.firewall.ask();
        if !spec.uplinks.is_empty() {
            // Nothing of the gateway may pass before the rules are there.
            self.firewall.settled().await?;
        }
        self.links.set_uplinks(bridge, &spec.uplinks, &before).await?;
        settings::ensure(spec)?;
        self.links.set_addresses(bridge, &gateways(spec)?).await?;
        let fits = services.get(&spec.network).is_some_and(|running| running.fit(spec, bridge));
        if !fits {
            if let Some(old) = services.remove(&spec.network) {
                old.stop().await;
            }
            let started = Services::start(spec, bridge, &self.plans.in_force()).await?;
            services.insert(spec.network, started);
        }
        self.firewall.settled().await
    }

    async fn remove_network(&self, network: NetworkId) -> Result<(), DriverError> {
        let mut services = self.services.lock().await;
        if let Some(running) = services.remove(&network) {
            running.stop().await;
        }
        // It leaves the plan last: should something fail before, its guests stay filtered.
        self.links.remove_bridges(network).await?;
        self.plans.remove(network);
        self.firewall.ask();
        self.firewall.settled().await
    }

    async fn reserve(&self, instance: InstanceId, nics: &[Reservation]) -> Result<(), DriverError> {
        if self.plans.reserve(instance, nics)? {
            self.firewall.ask();
        }
        Ok(())
    }

    async fn settle(&self) -> Result<(), DriverError> {
        self.firewall.settled().await
    }

    async fn counters(&self, host_name: &str) -> Result<Counters, DriverError> {
        self.links.counters(host_name).await
    }
}

fn table_name(tag: &str) -> Result<String, DriverError> {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    if tag.is_empty() {
        Ok(TABLE.into())
    } else if tag.len() <= TAG_MAX && tag.bytes().all(plain) {
        Ok(format!("{TABLE}_{tag}"))
    } else {
        Err(DriverError::Refused(format!(
            "{tag:?} cannot tell networks apart: use at most {TAG_MAX} lower-case letters and digits"
        )))
    }
}

fn gateways(spec: &NetworkSpec) -> Result<Vec<IpNet>, DriverError> {
    let unusable = |error: ipnet::PrefixLenError| DriverError::Refused(error.to_string());
    let mut gateways = Vec::new();
    if let Some(plan) = &spec.ipv4 {
        gateways.push(IpNet::new(plan.gateway.into(), plan.prefix).map_err(unusable)?);
    }
    if let Some(plan) = &spec.ipv6 {
        gateways.push(IpNet::new(plan.gateway.into(), plan.prefix).map_err(unusable)?);
    }
    Ok(gateways)
}
