//! What tests and simulations fill a world with: nodes, a pool, a network, a profile with both, an
//! image, and requests for instances of it. One set for all crates, as the fakes and laws of the ports
//! are.

use chrono::{DateTime, Utc};
use uuid::Uuid;

use crate::{
    cluster::Enable,
    command::Command,
    config::{Config, Devices},
    ids::{Fingerprint, NodeId},
    image::Import,
    instance::{Create, Source, Target},
    network,
    node::{Join, Start},
    port::image::{ImageFacts, ImageKind},
    profile::Wanted,
};

/// A root disk in the pool.
pub const ROOT: (&str, &[(&str, &str)]) =
    ("root", &[("type", "disk"), ("path", "/"), ("pool", "default")]);
/// An interface in the network.
pub const ETH0: (&str, &[(&str, &str)]) = ("eth0", &[("type", "nic"), ("network", "stapesbr0")]);

/// What a node's daemon says of it when it starts.
#[must_use]
pub fn node(name: &str) -> Start {
    Start {
        node: NodeId::derive(&[name]),
        name: name.to_owned(),
        architecture: "x86_64".to_owned(),
        cpus: 2,
        memory_bytes: 8 << 30,
        boot: Uuid::nil(),
        version: "0.1.0".to_owned(),
    }
}

#[must_use]
pub fn config(pairs: &[(&str, &str)]) -> Config {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

#[must_use]
pub fn devices(all: &[(&str, &[(&str, &str)])]) -> Devices {
    all.iter().map(|(name, pairs)| ((*name).to_owned(), config(pairs))).collect()
}

/// The default project.
#[must_use]
pub fn project() -> Command {
    let (name, description) = ("default".to_owned(), String::new());
    Command::CreateProject { name, description, config: Config::new() }
}

#[must_use]
pub fn pool(driver: &str, pairs: &[(&str, &str)]) -> Command {
    let (name, description) = ("default".to_owned(), String::new());
    Command::CreatePool { name, driver: driver.to_owned(), description, config: config(pairs) }
}

#[must_use]
pub fn network(pairs: &[(&str, &str)]) -> Command {
    Command::CreateNetwork(Box::new(network::Create {
        project: "default".to_owned(),
        name: "stapesbr0".to_owned(),
        config: config(pairs),
        ..network::Create::default()
    }))
}

/// What every instance has unless it says otherwise.
#[must_use]
pub fn default_profile(devices: Devices) -> Command {
    let (project, name) = ("default".to_owned(), "default".to_owned());
    let wanted = Box::new(Wanted { devices, ..Wanted::default() });
    Command::ConfigureProfile { project, name, wanted, expected: None }
}

/// An image of these digits; without a node the first one has it.
///
/// # Panics
/// When they are no two digits.
#[must_use]
pub fn import(digits: &str, alias: &str, node: Option<NodeId>) -> Command {
    let facts = ImageFacts {
        fingerprint: Fingerprint::new(digits.repeat(32)).expect("64 digits"),
        size_bytes: 1,
        kind: ImageKind::Container,
        architecture: "x86_64".to_owned(),
        created_at: DateTime::UNIX_EPOCH,
        expires_at: None,
        properties: Config::new(),
        split: false,
        filename: "test.tar".to_owned(),
    };
    Command::ImportImage(Box::new(Import {
        project: "default".to_owned(),
        facts,
        properties: Config::new(),
        public: false,
        auto_update: false,
        profiles: Vec::new(),
        aliases: vec![(alias.to_owned(), String::new())],
        node,
    }))
}

/// A node with a pool of this kind, a network, a default profile with both, and an image `test`.
#[must_use]
pub fn furnished(name: &str, pool: Command, network: Command) -> [Command; 6] {
    let start = Command::StartNode(Box::new(node(name)));
    let profile = default_profile(devices(&[ROOT, ETH0]));
    [project(), start, pool, network, profile, import("ab", "test", None)]
}

/// The first node becomes a member, and the others join it.
///
/// # Panics
/// Without a node.
#[must_use]
pub fn cluster(names: &[&str]) -> Vec<Command> {
    let (first, others) = names.split_first().expect("a cluster has a member");
    let Join { start: Start { node, name, .. }, address, fingerprint, .. } = join(first);
    let enable = Enable { cluster: Uuid::from_u128(1), node, name, address, fingerprint };
    let enable = Command::EnableCluster(Box::new(enable));
    [enable].into_iter().chain(others.iter().flat_map(|name| joining(name))).collect()
}

/// A node joins: its token, its coming, and what it needs.
#[must_use]
pub fn joining(name: &str) -> [Command; 3] {
    let join = join(name);
    let (node, name, secret_hash) = (join.start.node, name.to_owned(), join.secret_hash.clone());
    let expires_at = DateTime::<Utc>::MAX_UTC;
    [
        Command::CreateJoinToken { name, secret_hash, expires_at },
        Command::JoinNode(Box::new(join)),
        Command::PrepareNode { node },
    ]
}

fn join(name: &str) -> Join {
    Join {
        start: node(name),
        address: format!("{name}:8443"),
        fingerprint: format!("of {name}"),
        secret_hash: format!("hash of {name}"),
    }
}

/// An instance of the default project.
#[must_use]
pub fn target(name: &str) -> Target {
    Target { project: "default".to_owned(), name: name.to_owned() }
}

/// An instance of the image `test`, not yet asked for.
#[must_use]
pub fn instance(name: &str) -> Create {
    Create {
        project: "default".to_owned(),
        name: name.to_owned(),
        kind: ImageKind::Container,
        ephemeral: false,
        description: String::new(),
        config: Config::new(),
        devices: Devices::new(),
        profiles: None,
        source: Source::Image("test".to_owned()),
        start: false,
        target: None,
    }
}
