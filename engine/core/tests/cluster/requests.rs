//! What users ask for, at random, and what they find when they come.

use std::time::Duration;

use stapes_core::{
    command::Command,
    config::Config,
    furniture::{self, cluster, furnished, instance, network, pool},
    instance::{Create, LivePolicy, Reconfigure, Source},
    node::{Duty, Evacuation},
    world::World,
};

use crate::random::Random;

const NAMES: [&str; 4] = ["a", "b", "c", "d"];
const MEMBERS: [&str; 3] = ["one", "two", "three"];

fn any<T: Copy>(things: &[T], random: &mut Random) -> T {
    things[random.below(things.len())]
}

pub(crate) fn any_request(world: &World, random: &mut Random) -> Command {
    let target = furniture::target(any(&NAMES, random));
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
        source,
        ..instance(name)
    };
    Command::CreateInstance(Box::new(wanted))
}

/// Two instances that are there from the beginning: they run and are highly available.
pub(crate) fn inhabitants() -> [Command; 2] {
    let there = |name: &str, (on, copy): (&str, &str)| {
        let pairs = [("cluster.ha", "true"), ("replication.target", copy)];
        let (config, target) = (furniture::config(&pairs), Some(on.to_owned()));
        Command::CreateInstance(Box::new(Create { config, target, start: true, ..instance(name) }))
    };
    [there("a", ("one", "two")), there("b", ("two", "three"))]
}

/// A cluster of these, with a pool, a network, a profile and an image.
pub(crate) fn furniture(names: [&str; 3]) -> Vec<Command> {
    let mut commands = furnished(names[0], pool("dir", &[]), network(&[])).to_vec();
    commands.extend(cluster(&names));
    commands
}
