//! The servers of one network: DHCP, DNS and router advertisements.
//!
//! They hold nothing but sockets; what they answer is in the plan. A change that needs other
//! sockets stops them and starts new ones.

use std::{
    io,
    net::IpAddr,
    sync::{Arc, RwLock},
    time::Duration,
};

use stapes_core::{
    port::{DriverError, network::Plan},
    spec::NetworkSpec,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    dhcp,
    dhcp_server::DhcpServer,
    dns,
    dns_server::{DnsServer, DnsSockets},
    link::Bridge,
    router::Router,
};

/// A process that is just being spawned holds every socket for a moment, also one that we closed:
/// so a port counts as taken only when it stays so.
const BIND_ATTEMPTS: u32 = 10;
const PAUSE_BETWEEN_BINDS: Duration = Duration::from_millis(20);

/// Running servers.
#[derive(Debug)]
pub(super) struct Services {
    /// What the sockets were made for.
    spec: NetworkSpec,
    bridge: Bridge,
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl Services {
    /// Takes all ports, or none.
    pub(super) async fn start(
        spec: &NetworkSpec,
        bridge: Bridge,
        plan: &Arc<RwLock<Plan>>,
    ) -> Result<Self, DriverError> {
        for _ in 1..BIND_ATTEMPTS {
            match Self::try_start(spec, bridge, plan) {
                Err(DriverError::Refused(_)) => tokio::time::sleep(PAUSE_BETWEEN_BINDS).await,
                outcome => return outcome,
            }
        }
        Self::try_start(spec, bridge, plan)
    }

    fn try_start(
        spec: &NetworkSpec,
        bridge: Bridge,
        plan: &Arc<RwLock<Plan>>,
    ) -> Result<Self, DriverError> {
        let name = &spec.bridge;
        let dhcp = spec.ipv4.filter(|ipv4| ipv4.dhcp).map(|ipv4| {
            DhcpServer::bind(spec.network, name, bridge, ipv4.gateway, Arc::clone(plan))
                .map_err(|error| port_taken(spec, "DHCP", dhcp::SERVER_PORT, name, &error))
        });
        let dhcp = dhcp.transpose()?;
        let four = spec.ipv4.map(|ipv4| IpAddr::V4(ipv4.gateway));
        let six = spec.ipv6.map(|ipv6| IpAddr::V6(ipv6.gateway));
        let mut dns = Vec::new();
        for address in four.into_iter().chain(six) {
            dns.push(DnsSockets::bind(address).map_err(|error| {
                port_taken(spec, "DNS", dns::PORT, &address.to_string(), &error)
            })?);
        }
        let router = spec.ipv6.map(|ipv6| {
            Router::bind(name, bridge, &ipv6, &spec.dns_domain).map_err(|error| {
                DriverError::Failed(format!("router advertisements on {name}: {error}"))
            })
        });
        let router = router.transpose()?;

        let services = Self {
            spec: spec.clone(),
            bridge,
            stop: CancellationToken::new(),
            tasks: TaskTracker::new(),
        };
        let until_stopped = || services.stop.clone();
        if let Some(dhcp) = dhcp {
            services.tasks.spawn(until_stopped().run_until_cancelled_owned(dhcp.run()));
        }
        if let Some(router) = router {
            services.tasks.spawn(until_stopped().run_until_cancelled_owned(router.run()));
        }
        let server = DnsServer::new(spec.network, Arc::clone(plan));
        for sockets in dns {
            server.serve(sockets, &services.stop, &services.tasks);
        }
        Ok(services)
    }

    /// Whether these sockets are the ones for this spec and bridge.
    pub(super) fn fit(&self, spec: &NetworkSpec, bridge: Bridge) -> bool {
        let NetworkSpec {
            network,
            bridge: name,
            ipv4,
            ipv6,
            dns_domain,
            dns_upstream: _,
            uplinks: _,
        } = spec;
        let mine = &self.spec;
        self.bridge == bridge
            && mine.network == *network
            && mine.bridge == *name
            && mine.ipv4.map(|plan| (plan.gateway, plan.dhcp))
                == ipv4.map(|plan| (plan.gateway, plan.dhcp))
            && mine.ipv6 == *ipv6
            && mine.dns_domain == *dns_domain
    }

    /// Stops them all; the sockets are closed when it returns.
    pub(super) async fn stop(self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}

impl Drop for Services {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

fn port_taken(
    spec: &NetworkSpec,
    service: &str,
    port: u16,
    place: &str,
    error: &io::Error,
) -> DriverError {
    let network = &spec.bridge;
    if error.kind() == io::ErrorKind::AddrInUse {
        DriverError::Refused(format!(
            "another program has port {port} of {place}, so network {network} cannot have {service}; \
             find it with: ss -lnp 'sport = :{port}', and stop it or keep it off {network}"
        ))
    } else {
        DriverError::Failed(format!("{service} on {place}, port {port}: {error}"))
    }
}
