//! What users ask for, at random, and what they find when they come.

use std::time::Duration;

use chrono::DateTime;
use stapes_core::{
    cluster::Enable,
    command::Command,
    config::{Config, Devices},
    ids::{Fingerprint, NodeId},
    image,
    instance::{Create, LivePolicy, Reconfigure, Source, Target},
    network,
    node::{self, Duty, Evacuation, Join},
    port::image::{ImageFacts, ImageKind},
    profile,
    world::World,
};
use uuid::Uuid;

use crate::random::Random;

const NAMES: [&str; 4] = ["a", "b", "c", "d"];
const MEMBERS: [&str; 3] = ["one", "two", "three"];

fn any<T: Copy>(things: &[T], random: &mut Random) -> T {
    things[random.below(things.len())]
}

pub(crate) fn any_request(world: &World, random: &mut Random) -> Command {
    let target = Target { project: "default".to_owned(), name: any(&NAMES, random).to_owned() };
    let other = any(&NAMES, random).to_owned();
    let member = any(&MEMBERS, random).to_owned();
    let snapshot = format!("s{}", random.below(2));
    let timeout = Duration::from_secs(30);
    match random.below(36) {
        0..=3 => create(&target.name, Source::Image("test".to_owned()), random),
        4..=7 => {
            let project = "default".to_owned();
            let snapshot = Some(snapshot).filter(|_| random.one_in(3));
            let instance_only = random.one_in(3);
            let source = Source::Copy { project, name: other, snapshot, instance_only };
            create(&target.name, source, random)
        }
        8..=9 => Command::StartInstance { target },
        10 => Command::StopInstance { target, force: random.one_in(2), timeout },
        11 => Command::RestartInstance { target, force: random.one_in(2), timeout },
        12 if random.one_in(2) => Command::FreezeInstance { target },
        12 => Command::UnfreezeInstance { target },
        13..=14 => Command::CreateSnapshot { target, name: Some(snapshot), expires_at: None },
        15 if random.one_in(2) => Command::DeleteSnapshot { target, name: snapshot },
        15 => Command::RestoreSnapshot { target, name: snapshot },
        16 => Command::RenameInstance { target, to: other },
        17 => Command::RebuildInstance { target, image: Some("test".to_owned()) },
        18 => Command::BeginExec { target, command: vec!["true".to_owned()] },
        19 => Command::DeleteInstance { target, force: random.one_in(2) },
        20..=25 => {
            let live =
                any(&[LivePolicy::Required, LivePolicy::Preferred, LivePolicy::Never], random);
            Command::MoveInstance { target, to: Some(member).filter(|_| random.one_in(2)), live }
        }
        26..=30 => match world.instances.values().nth(random.below(4)) {
            Some(instance) => Command::ReplicateInstance { instance: instance.id },
            None => Command::StartInstance { target },
        },
        31..=32 => {
            let config = Some(config(random));
            let wanted = Reconfigure { config, ..Reconfigure::default() };
            Command::ReconfigureInstance { target, wanted: Box::new(wanted) }
        }
        33 if random.one_in(2) => {
            let modes = [
                Evacuation::Auto,
                Evacuation::LiveMigrate,
                Evacuation::Migrate,
                Evacuation::Stop,
                Evacuation::ForceStop,
            ];
            Command::EvacuateNode { name: member, mode: any(&modes, random) }
        }
        _ => {
            let evacuated = world.nodes.values().find(|node| node.duty == Duty::Evacuated);
            let name = evacuated.map_or(member, |node| node.name.clone());
            Command::RestoreNode { name }
        }
    }
}

fn config(random: &mut Random) -> Config {
    let mut config = Config::new();
    if !random.one_in(3) {
        config.insert("replication.target".to_owned(), any(&MEMBERS, random).to_owned());
    }
    if random.one_in(2) {
        config.insert("cluster.ha".to_owned(), "true".to_owned());
    }
    config
}

fn create(name: &str, source: Source, random: &mut Random) -> Command {
    let wanted = Create {
        ephemeral: random.one_in(8),
        config: config(random),
        start: random.one_in(2),
        target: Some(any(&MEMBERS, random).to_owned()).filter(|_| random.one_in(2)),
        ..instance(name, source)
    };
    Command::CreateInstance(Box::new(wanted))
}

fn instance(name: &str, source: Source) -> Create {
    Create {
        project: "default".to_owned(),
        name: name.to_owned(),
        kind: ImageKind::Container,
        ephemeral: false,
        description: String::new(),
        config: Config::new(),
        devices: Devices::new(),
        profiles: None,
        source,
        start: false,
        target: None,
    }
}

/// Two instances that are there from the beginning: they run and are highly available.
pub(crate) fn inhabitants() -> [Command; 2] {
    let there = |name: &str, (on, copy): (&str, &str)| {
        let pairs = [("cluster.ha", "true"), ("replication.target", copy)];
        let source = Source::Image("test".to_owned());
        let config = pairs.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
        let (name, target) = (name.to_owned(), Some(on.to_owned()));
        let wanted = instance(&name, source);
        Command::CreateInstance(Box::new(Create { config, target, start: true, ..wanted }))
    };
    [there("a", ("one", "two")), there("b", ("two", "three"))]
}

fn start(name: &str) -> node::Start {
    node::Start {
        node: NodeId::derive(&[name]),
        name: name.to_owned(),
        architecture: "x86_64".to_owned(),
        cpus: 2,
        memory_bytes: 8 << 30,
        boot: Uuid::nil(),
        version: "0.1.0".to_owned(),
    }
}

fn address(name: &str) -> String {
    format!("{name}:8443")
}

/// A cluster of these, with a pool, a network, a profile and an image.
pub(crate) fn furniture(names: [&str; 3]) -> Vec<Command> {
    let text = str::to_owned;
    let device = |pairs: &[(&str, &str)]| {
        pairs.iter().map(|(key, value)| (text(key), text(value))).collect()
    };
    let devices = [
        (text("root"), device(&[("type", "disk"), ("path", "/"), ("pool", "default")])),
        (text("eth0"), device(&[("type", "nic"), ("network", "br0")])),
    ];
    let wanted = profile::Wanted { devices: devices.into(), ..profile::Wanted::default() };
    let mut commands = vec![
        Command::CreateProject {
            name: text("default"),
            description: String::new(),
            config: Config::new(),
        },
        Command::StartNode(Box::new(start(names[0]))),
        Command::EnableCluster(Box::new(Enable {
            cluster: Uuid::from_u128(1),
            node: NodeId::derive(&[names[0]]),
            name: text(names[0]),
            address: address(names[0]),
            fingerprint: text("of one"),
        })),
        Command::CreatePool {
            name: text("default"),
            driver: text("dir"),
            description: String::new(),
            config: Config::new(),
        },
        Command::CreateNetwork(Box::new(network::Create {
            project: text("default"),
            name: text("br0"),
            ..network::Create::default()
        })),
        Command::ConfigureProfile {
            project: text("default"),
            name: text("default"),
            wanted: Box::new(wanted),
            expected: None,
        },
        import(),
    ];
    for name in &names[1..] {
        commands.extend(joining(name));
    }
    commands
}

fn joining(name: &str) -> [Command; 3] {
    let secret_hash = format!("hash of {name}");
    let token = Command::CreateJoinToken {
        name: name.to_owned(),
        secret_hash: secret_hash.clone(),
        expires_at: DateTime::<chrono::Utc>::MAX_UTC,
    };
    let (start, fingerprint) = (start(name), format!("of {name}"));
    let node = start.node;
    let join = Join { start, address: address(name), fingerprint, secret_hash };
    [token, Command::JoinNode(Box::new(join)), Command::PrepareNode { node }]
}

fn import() -> Command {
    let facts = ImageFacts {
        fingerprint: Fingerprint::new("ab".repeat(32)).expect("64 digits"),
        size_bytes: 1,
        kind: ImageKind::Container,
        architecture: "x86_64".to_owned(),
        created_at: DateTime::UNIX_EPOCH,
        expires_at: None,
        properties: Config::new(),
        split: false,
        filename: "test.tar".to_owned(),
    };
    Command::ImportImage(Box::new(image::Import {
        project: "default".to_owned(),
        facts,
        properties: Config::new(),
        public: false,
        auto_update: false,
        profiles: Vec::new(),
        aliases: vec![("test".to_owned(), String::new())],
        node: None,
    }))
}
