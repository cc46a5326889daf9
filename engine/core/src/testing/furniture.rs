//! What a house has before anything is given, and what makes it a cluster.

use chrono::DateTime;
use uuid::Uuid;

use super::{ETH0, ROOT, config, default_profile, devices, node};
use crate::{
    cluster::Enable,
    command::Command,
    config::Config,
    ids::{Fingerprint, NodeId},
    image::Import,
    network,
    node::Join,
    port::image::{ImageFacts, ImageKind},
};

pub(super) fn furniture() -> [Command; 6] {
    let text = str::to_owned;
    let network = network::Create {
        project: text("default"),
        name: text("stapesbr0"),
        config: config(&[("ipv4.address", "10.0.3.1/24"), ("ipv6.address", "none")]),
        ..network::Create::default()
    };
    [
        Command::CreateProject {
            name: text("default"),
            description: String::new(),
            config: Config::new(),
        },
        Command::StartNode(Box::new(node("test"))),
        Command::CreatePool {
            name: text("default"),
            driver: text("btrfs"),
            description: String::new(),
            config: config(&[("size", "1GiB")]),
        },
        Command::CreateNetwork(Box::new(network)),
        default_profile(devices(&[ROOT, ETH0])),
        import("ab", "test", None),
    ]
}

/// An image of these digits; without a node the first one has it.
pub(crate) fn import(digits: &str, alias: &str, node: Option<NodeId>) -> Command {
    let text = str::to_owned;
    let facts = ImageFacts {
        fingerprint: Fingerprint::new(digits.repeat(32)).expect("64 digits"),
        size_bytes: 1,
        kind: ImageKind::Container,
        architecture: text("x86_64"),
        created_at: DateTime::UNIX_EPOCH,
        expires_at: None,
        properties: Config::new(),
        split: false,
        filename: text("test.tar"),
    };
    Command::ImportImage(Box::new(Import {
        project: text("default"),
        facts,
        properties: Config::new(),
        public: false,
        auto_update: false,
        profiles: Vec::new(),
        aliases: vec![(text(alias), String::new())],
        node,
    }))
}

/// The node becomes a member, `two` and `three` join it.
pub(super) fn members() -> Vec<Command> {
    let address = |name: &str| format!("{name}:8443");
    let enable = Enable {
        cluster: Uuid::from_u128(1),
        node: node("test").node,
        name: "test".to_owned(),
        address: address("test"),
        fingerprint: String::new(),
    };
    let mut commands = vec![Command::EnableCluster(Box::new(enable))];
    for name in ["two", "three"] {
        let (start, secret_hash) = (node(name), format!("hash of {name}"));
        commands.push(Command::CreateJoinToken {
            name: name.to_owned(),
            secret_hash: secret_hash.clone(),
            expires_at: DateTime::<chrono::Utc>::MAX_UTC,
        });
        let fingerprint = format!("of {name}");
        let join = Join { start, address: address(name), fingerprint, secret_hash };
        commands.push(Command::JoinNode(Box::new(join)));
        commands.push(Command::PrepareNode { node: node(name).node });
    }
    commands
}
