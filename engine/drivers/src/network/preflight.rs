//! What has to be right on the host, looked at without changing anything: for `stapes doctor`.

use std::net::Ipv4Addr;

use stapes_core::{
    ids::NetworkId,
    port::network::Plan,
    spec::{Ipv4Plan, NetworkSpec},
};

use super::{firewall, rules::Rules, settings};

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    pub name: String,
    pub ok: bool,
    pub detail: String,
    /// What to do about it.
    pub hint: Option<String>,
}

impl Check {
    fn good(name: &str, detail: impl Into<String>) -> Self {
        Self { name: name.into(), ok: true, detail: detail.into(), hint: None }
    }

    fn bad(name: &str, detail: impl Into<String>, hint: &str) -> Self {
        Self { name: name.into(), ok: false, detail: detail.into(), hint: Some(hint.into()) }
    }
}

/// Looks at everything that networks need.
pub async fn preflight() -> Vec<Check> {
    let mut checks = vec![nft().await, rules().await];
    checks.push(forwarding());
    checks.push(other_firewalls().await);
    checks.push(ports());
    checks
}

async fn nft() -> Check {
    const NAME: &str = "nft";
    match firewall::nft(&["--version"], "").await {
        Ok(version) => Check::good(NAME, version.trim()),
        Err(error) => Check::bad(NAME, error, "install the package nftables"),
    }
}

/// Has the kernel judge all rules that will be used, without keeping any.
async fn rules() -> Check {
    const NAME: &str = "packet filter";
    let mut plan = Plan::default();
    let spec = NetworkSpec {
        network: NetworkId::derive(&["preflight"]),
        bridge: "stapes-check".into(),
        ipv4: Some(Ipv4Plan {
            gateway: Ipv4Addr::new(192, 0, 2, 1),
            prefix: 24,
            nat: true,
            dhcp: true,
        }),
        ipv6: None,
        dns_domain: "stapes".into(),
        dns_upstream: vec![],
        uplinks: Vec::new(),
    };
    let planned = plan.ensure(&spec);
    let script = Rules::of("stapes_preflight", &plan).replacing();
    match (planned, firewall::nft(&["-c", "-f", "-"], &script).await) {
        (Ok(_), Ok(_)) => Check::good(NAME, "inet and bridge tables, NAT and sets are there"),
        (Err(error), _) => Check::bad(NAME, error.to_string(), "this is a fault of stapes itself"),
        (_, Err(error)) => Check::bad(
            NAME,
            error,
            "run as root, on a kernel with nftables: NF_TABLES_INET, NF_TABLES_BRIDGE, NFT_MASQ",
        ),
    }
}

fn forwarding() -> Check {
    const NAME: &str = "ip_forward";
    match settings::get("ipv4/ip_forward").as_deref() {
        Ok("1") => Check::good(NAME, "on"),
        Ok(_) => Check::good(NAME, "off; the first network turns it on"),
        Err(error) => Check::bad(NAME, error.to_string(), "mount /proc with /proc/sys writable"),
    }
}

/// Another table that drops by default cannot be overruled from ours.
async fn other_firewalls() -> Check {
    const NAME: &str = "other firewalls";
    let listed = match firewall::nft(&["-j", "list", "chains"], "").await {
        Ok(listed) => listed,
        Err(error) => return Check::bad(NAME, error, "run as root"),
    };
    let dropping = dropping_chains(&listed);
    if dropping.is_empty() {
        return Check::good(NAME, "none drops what is forwarded or comes in by default");
    }
    Check::bad(
        NAME,
        format!("drop by default: {}", dropping.join(", ")),
        "guests may stay without network; allow the bridge there: docker: iptables -I DOCKER-USER -i \
         BRIDGE -j ACCEPT and the same with -o; firewalld: firewall-cmd --zone=trusted \
         --change-interface=BRIDGE --permanent; ufw: ufw allow in on BRIDGE, ufw route allow in on BRIDGE",
    )
}

/// The base chains of a `nft -j list chains` that drop forwarded or incoming packets by policy.
fn dropping_chains(listed: &str) -> Vec<String> {
    let listed: serde_json::Value = serde_json::from_str(listed).unwrap_or_default();
    let objects = listed["nftables"].as_array().cloned().unwrap_or_default();
    let chains = objects.iter().map(|object| &object["chain"]);
    let drops = chains.filter(|chain| {
        let hook = chain["hook"].as_str();
        chain["policy"] == "drop" && matches!(hook, Some("forward" | "input"))
    });
    drops
        .map(|chain| {
            let word = |key: &str| chain[key].as_str().unwrap_or("?").to_owned();
            format!("{} {} {}", word("family"), word("table"), word("name"))
        })
        .collect()
}

fn ports() -> Check {
    const NAME: &str = "ports 53 and 67";
    let sockets = std::fs::read_to_string("/proc/thread-self/net/udp").unwrap_or_default();
    let taken = wildcard_ports(&sockets);
    if taken.is_empty() {
        return Check::good(NAME, "no program has them on all addresses");
    }
    let taken: Vec<String> = taken.iter().map(u16::to_string).collect();
    Check::bad(
        NAME,
        format!("taken on all addresses: {}", taken.join(", ")),
        "find the program with: ss -ulnp 'sport = :53 or sport = :67', and bind it to its own \
         addresses or interfaces (dnsmasq: bind-interfaces)",
    )
}

/// Of our ports, those that a line of /proc/net/udp has on 0.0.0.0.
fn wildcard_ports(sockets: &str) -> Vec<u16> {
    let local = |line: &str| {
        let (address, port) = line.split_ascii_whitespace().nth(1)?.split_once(':')?;
        (address == "00000000").then(|| u16::from_str_radix(port, 16).ok()).flatten()
    };
    let ours = |port: &u16| matches!(*port, super::dns::PORT | super::dhcp::SERVER_PORT);
    let mut ports: Vec<u16> = sockets.lines().filter_map(local).filter(ours).collect();
    ports.sort_unstable();
    ports.dedup();
    ports
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_default_drop_elsewhere_is_named() {
        let listed = r#"{"nftables": [{"metainfo": {}},
            {"chain": {"family": "ip", "table": "filter", "name": "FORWARD", "hook": "forward", "policy": "drop"}},
            {"chain": {"family": "ip", "table": "filter", "name": "OUTPUT", "hook": "output", "policy": "drop"}},
            {"chain": {"family": "inet", "table": "x", "name": "f", "hook": "forward", "policy": "accept"}},
            {"chain": {"family": "ip", "table": "filter", "name": "DOCKER"}}]}"#;
        assert_eq!(dropping_chains(listed), ["ip filter FORWARD"]);
        assert!(dropping_chains("").is_empty());
    }

    #[test]
    fn only_programs_on_all_addresses_are_in_the_way() {
        let sockets = "  sl  local_address rem_address   st\n\
            10: 00000000:0043 00000000:0000 07 00000000:00000000\n\
            11: 3500007F:0035 00000000:0000 07 00000000:00000000\n\
            12: 00000000:14E9 00000000:0000 07 00000000:00000000";
        assert_eq!(wildcard_ports(sockets), [67]);
    }
}
