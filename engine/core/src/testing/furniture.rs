//! What a house has before anything is given.

use chrono::DateTime;

use super::{ETH0, ROOT, config, default_profile, devices, node};
use crate::{
    command::Command,
    config::Config,
    ids::Fingerprint,
    image::Import,
    network,
    port::image::{ImageFacts, ImageKind},
};

pub(super) fn furniture() -> [Command; 6] {
    let text = str::to_owned;
    let facts = ImageFacts {
        fingerprint: Fingerprint::new("ab".repeat(32)).expect("64 digits"),
        size_bytes: 1,
        kind: ImageKind::Container,
        architecture: text("x86_64"),
        created_at: DateTime::UNIX_EPOCH,
        expires_at: None,
        properties: Config::new(),
        split: false,
        filename: text("test.tar"),
    };
    let import = Import {
        project: text("default"),
        facts,
        properties: Config::new(),
        public: false,
        auto_update: false,
        profiles: Vec::new(),
        aliases: vec![(text("test"), String::new())],
        node: None,
    };
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
        Command::ImportImage(Box::new(import)),
    ]
}
