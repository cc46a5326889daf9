//! Several machines on one: each a network namespace with a daemon of its own.
//!
//! ```text
//!   n1 ─ eth0 ─┐            n1 ─ lan0 ─┐
//!   n2 ─ eth0 ─┼─ machines  n2 ─ lan0 ─┼─ guests      (two switches in a namespace of their own)
//!   n3 ─ eth0 ─┘            n3 ─ lan0 ─┤
//!                               client ┘
//! ```
//!
//! `machines` carries what daemons and nats-servers say to each other; `guests` is an uplink for
//! bridges, so that one network spans all machines, and the client is somebody on it. A machine is
//! cut off by taking its ports down, and its packets get lost by a filter at the switch. Cgroups,
//! disks and the kernel are shared: what a test proves is protocol, not isolation.

mod cluster;
mod counter;
mod guests;
mod host;
mod namespace;

pub use cluster::{busybox, debian};
pub use counter::{BUSYBOX_ECHO, Counted, Counter, DEBIAN_ECHO, ECHO_PORT};
pub use guests::Moved;
pub use host::Host;
pub use namespace::Namespace;

/// The interface of each machine that the guests' network goes through.
pub const UPLINK: &str = "lan0";
const MACHINES: &str = "machines";
const GUESTS: &str = "guests";

/// Machines, and the switches between them.
#[derive(Debug)]
pub struct Hosts {
    /// Before the namespaces, so that daemons go first.
    pub hosts: Vec<Host>,
    pub client: Namespace,
    switches: Namespace,
}

impl Hosts {
    /// Machines `n1`, `n2` ... without daemons yet.
    ///
    /// # Panics
    /// Without root.
    #[must_use]
    pub fn new(count: usize) -> Self {
        Self::made(count, false)
    }

    /// The same with pretend guests.
    ///
    /// # Panics
    /// Without root.
    #[must_use]
    pub fn simulated(count: usize) -> Self {
        Self::made(count, true)
    }

    fn made(count: usize, simulated: bool) -> Self {
        let tag = &uuid::Uuid::new_v4().simple().to_string()[..6];
        let switches = Namespace::new(format!("st{tag}-sw"));
        switches.switch(MACHINES);
        switches.switch(GUESTS);
        let client = Namespace::new(format!("st{tag}-client"));
        client.plug("eth0", &switches, "client", GUESTS);
        let mut hosts = Vec::new();
        for number in 1..=count {
            let name = format!("n{number}");
            let namespace = Namespace::new(format!("st{tag}-{name}"));
            let address = format!("10.99.0.{number}");
            let ports = [format!("{name}m"), format!("{name}g")];
            namespace.plug("eth0", &switches, &ports[0], MACHINES);
            namespace.plug(UPLINK, &switches, &ports[1], GUESTS);
            namespace.address("eth0", &format!("{address}/24"));
            let mut host = Host::new(&name, namespace, address, simulated);
            host.ports = ports.into();
            hosts.push(host);
        }
        Self { hosts, client, switches }
    }

    /// Nobody reaches the machine, and it reaches nobody.
    pub fn cut_off(&self, host: usize) {
        self.set_ports(host, "down");
    }

    pub fn reconnect(&self, host: usize) {
        self.set_ports(host, "up");
    }

    fn set_ports(&self, host: usize, state: &str) {
        for port in &self.hosts[host].ports {
            self.switches.run(&["ip", "link", "set", port, state]);
        }
    }

    /// So many of a hundred packets from the machine to others get lost; zero ends it.
    pub fn lose(&self, host: usize, percent: u8) {
        let port = &self.hosts[host].ports[0];
        let table = format!("lose-{port}");
        let mut script = format!("add table bridge {table}\ndelete table bridge {table}\n");
        if percent > 0 {
            script.push_str(&format!(
                "table bridge {table} {{ chain c {{ type filter hook prerouting priority 0; \
                 iifname \"{port}\" numgen random mod 100 < {percent} drop; }} }}\n"
            ));
        }
        self.switches.run(&["nft", &script]);
    }

    /// The machine's place by name.
    ///
    /// # Panics
    /// When there is none.
    #[must_use]
    pub fn index(&self, name: &str) -> usize {
        let found = self.hosts.iter().position(|host| host.name == name);
        found.unwrap_or_else(|| panic!("there is no {name}"))
    }

    /// Waits until nothing of any machine is left on the real one.
    ///
    /// # Panics
    /// With what is left.
    pub async fn assert_clean(&self) {
        for host in &self.hosts {
            host.traces().assert_none().await;
        }
    }
}
