//! A world of its own for each test: network namespaces that are gone when the test is, however
//! it ends.
//!
//! The test's thread becomes the "host": its network and mount namespace are new. A [`Guest`] is
//! a further namespace, held by nothing but a file descriptor, with its interface in the bridge as
//! the shim would make it.

use std::{
    fs::File,
    future::Future,
    os::fd::{AsFd, AsRawFd},
    path::{Path, PathBuf},
    process::{Command, Output},
    time::{Duration, Instant},
};

use nix::{
    mount::{MsFlags, mount},
    sched::{CloneFlags, setns, unshare},
};
use stapes_core::{
    ids::NetworkId,
    port::network::{Networks, laws::Example},
    spec::{Ipv6Plan, NetworkSpec, Reservation},
};
use stapes_drivers::network::{HostNetworks, NetworkConfig};

/// Everything that a test waits for has to come within this.
const PATIENCE: Duration = Duration::from_secs(20);

/// Runs `test` in a new world.
pub(crate) fn in_a_new_world<F: Future<Output = ()>>(test: impl FnOnce() -> F + Send + 'static) {
    let thread = std::thread::spawn(move || {
        unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS).expect("needs root");
        let none = None::<&str>;
        mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).unwrap();
        // sysfs shows the network namespace that it was mounted in.
        mount(Some("sysfs"), "/sys", Some("sysfs"), MsFlags::empty(), none).unwrap();
        run("ip link set lo up");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(test());
    });
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

/// Runs a command of this host; it has to succeed.
pub(crate) fn run(command: &str) -> String {
    let output = output(&mut words(command));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command}: {} {said}", output.status);
    String::from_utf8(output.stdout).unwrap()
}

fn words(command: &str) -> Command {
    let mut words = command.split_ascii_whitespace();
    let mut command = Command::new(words.next().unwrap());
    command.args(words);
    command
}

fn output(command: &mut Command) -> Output {
    command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"))
}

/// Asks again until it is so.
pub(crate) async fn eventually(what: &str, mut so: impl AsyncFnMut() -> bool) {
    let start = Instant::now();
    while !so().await {
        assert!(start.elapsed() < PATIENCE, "not within {PATIENCE:?}: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// What is on the host: links, packet filter, sockets.
pub(crate) fn traces() -> String {
    let links = run("ip -o link");
    // Interfaces that come and go leave their numbers used.
    let names: Vec<&str> = links.lines().filter_map(|line| line.split(':').nth(1)).collect();
    let mut sockets = String::new();
    for file in ["udp", "udp6", "tcp", "tcp6", "raw6", "packet"] {
        let text = std::fs::read_to_string(format!("/proc/thread-self/net/{file}")).unwrap();
        // Closed connections stay a while; listeners (0A) must not.
        let open = text.lines().skip(1).filter(|line| !line.contains(" 06 "));
        sockets.extend(open.map(|line| format!("{file}: {line}\n")));
    }
    format!("{names:?}\n{}\n{sockets}", run("nft list ruleset"))
}

pub(crate) struct World {
    pub(crate) networks: HostNetworks,
    pub(crate) example: Example,
    directory: tempfile::TempDir,
}

impl World {
    pub(crate) fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let networks = Self::start(directory.path());
        Self { networks, example: Example::new("stapest0", 42), directory }
    }

    fn start(directory: &Path) -> HostNetworks {
        let state_dir = directory.to_path_buf();
        HostNetworks::new(NetworkConfig { state_dir, tag: "test".into() }).unwrap()
    }

    /// A new daemon on the same host.
    pub(crate) async fn restart(&mut self) {
        self.networks.stop().await;
        self.networks = Self::start(self.directory.path());
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub(crate) fn network(&self) -> NetworkSpec {
        self.example.network()
    }

    pub(crate) fn with_ipv6(&self) -> NetworkSpec {
        let gateway = "fd42:1:2:3::1".parse().unwrap();
        NetworkSpec {
            ipv6: Some(Ipv6Plan { gateway, prefix: 64, nat: true }),
            ..self.example.network()
        }
    }

    /// A reserved guest, its interface in the bridge and nothing configured inside.
    pub(crate) async fn guest(&self, hostname: &str, last: u8) -> Guest {
        self.guest_with(self.example.reservation(hostname, last)).await
    }

    pub(crate) async fn guest_with(&self, reservation: Reservation) -> Guest {
        let nics = std::slice::from_ref(&reservation);
        self.networks.reserve(reservation.instance, nics).await.unwrap();
        self.networks.settle().await.unwrap();
        let namespace = Namespace::new();
        let nic = &reservation.nic;
        run(&format!(
            "ip link add {} master {} up type veth peer name eth0 address {} netns {}",
            nic.host_name,
            nic.bridge,
            nic.mac,
            namespace.path()
        ));
        namespace.run("ip link set lo up");
        namespace.run("ip link set eth0 up");
        Guest { reservation, namespace }
    }

    /// A guest that has its address, as if by DHCP.
    pub(crate) async fn configured_guest(&self, hostname: &str, last: u8) -> Guest {
        let guest = self.guest(hostname, last).await;
        guest.namespace.run(&format!("ip address add {}/24 dev eth0", guest.address()));
        guest.namespace.run(&format!("ip route add default via {}", self.gateway()));
        guest
    }

    pub(crate) fn gateway(&self) -> String {
        self.network().ipv4.unwrap().gateway.to_string()
    }

    /// A namespace beyond the host, at 192.0.2.2, which knows no way back to guests.
    pub(crate) fn outside(&self) -> Namespace {
        let outside = Namespace::new();
        run(&format!("ip link add up0 up type veth peer name eth0 netns {}", outside.path()));
        run("ip address add 192.0.2.1/24 dev up0");
        outside.run("ip address add 192.0.2.2/24 dev eth0");
        outside.run("ip link set lo up");
        outside.run("ip link set eth0 up");
        outside
    }
}

pub(crate) struct Guest {
    pub(crate) reservation: Reservation,
    pub(crate) namespace: Namespace,
}

impl Guest {
    pub(crate) fn address(&self) -> String {
        self.reservation.nic.ipv4.unwrap().to_string()
    }
}

/// A network namespace that lives as long as this.
pub(crate) struct Namespace(File);

impl Namespace {
    pub(crate) fn new() -> Self {
        let make = || {
            unshare(CloneFlags::CLONE_NEWNET).unwrap();
            File::open("/proc/thread-self/ns/net").unwrap()
        };
        Self(std::thread::spawn(make).join().unwrap())
    }

    pub(crate) fn path(&self) -> String {
        format!("/proc/{}/fd/{}", std::process::id(), self.0.as_raw_fd())
    }

    /// Runs a command inside; it has to succeed.
    pub(crate) fn run(&self, command: &str) -> String {
        run(&format!("nsenter --net={} {command}", self.path()))
    }

    /// Runs while the servers of this thread go on; whether it succeeded and what it said.
    pub(crate) async fn run_beside(&self, command: &str) -> (bool, String) {
        let inside = words(&format!("nsenter --net={} {command}", self.path()));
        let mut inside = tokio::process::Command::from(inside);
        let output = inside.kill_on_drop(true).output();
        let output = tokio::time::timeout(PATIENCE, output).await.expect(command).unwrap();
        let said = [output.stdout, output.stderr].concat();
        (output.status.success(), String::from_utf8_lossy(&said).into_owned())
    }

    /// Calls `act` on a thread inside.
    pub(crate) fn inside<T: Send + 'static>(
        &self,
        act: impl FnOnce() -> T + Send + 'static,
    ) -> std::thread::JoinHandle<T> {
        let namespace = self.0.try_clone().unwrap();
        std::thread::spawn(move || {
            setns(namespace.as_fd(), CloneFlags::CLONE_NEWNET).unwrap();
            act()
        })
    }
}

/// A reservation like the example's, with the IPv6 address that a guest will give itself.
pub(crate) fn with_own_ipv6(spec: &NetworkSpec, reservation: Reservation) -> Reservation {
    let mut reservation = reservation;
    let plan = spec.ipv6.unwrap();
    reservation.nic.ipv6 = Some(plan.address_of(reservation.nic.mac).unwrap());
    reservation
}

pub(crate) fn other_network(bridge: &str) -> NetworkId {
    NetworkId::derive(&["other", bridge])
}
