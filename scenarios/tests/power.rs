//! The power goes, and takes the newest changes of the volumes along, whatever the log says by then:
//! what users were told is done is done again.

use std::collections::{BTreeMap, BTreeSet};

use stapes_core::{
    command::Command,
    ids::{PoolId, VolumeId},
    port::storage::{IMAGE_FILE, Storage},
};
use stapes_scenarios::pretend::{Daemon, Host, instance_of_image, named};

const FILE: &str = "data";
const NAMES: [&str; 3] = ["a", "b", "c"];
const SEEDS: u64 = 40;
const ACTS: usize = 24;

/// The same numbers for the same seed.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).expect("31 bits") % bound
    }
}

/// What may be in [`FILE`] after a loss of power: each value since it was last on the disk, but none
/// from before the content was last replaced.
type Content = BTreeSet<Option<Vec<u8>>>;

/// What users were told.
#[derive(Default)]
struct Told {
    contents: BTreeMap<&'static str, Content>,
    snapshots: BTreeMap<(&'static str, String), Content>,
    written: u64,
}

impl Told {
    fn snapshot_of(&self, name: &str, random: &mut Random) -> Option<String> {
        let names: Vec<_> =
            self.snapshots.keys().filter(|(of, _)| *of == name).map(|(_, name)| name).collect();
        (!names.is_empty()).then(|| names[random.below(names.len())].clone())
    }

    /// Something that is possible just now.
    async fn act(&mut self, host: &Host, daemon: &Daemon, random: &mut Random) {
        let name = NAMES[random.below(NAMES.len())];
        if !self.contents.contains_key(name) {
            done(daemon, Command::CreateInstance(Box::new(instance_of_image(name)))).await;
            self.contents.insert(name, Content::from([None]));
            return;
        }
        match random.below(12) {
            0 => {
                let delete = Command::DeleteInstance { target: named(name), force: true };
                done(daemon, delete).await;
                self.contents.remove(name);
                self.snapshots.retain(|(of, _), _| *of != name);
            }
            1 | 2 => self.snapshot(daemon, name).await,
            3 => {
                let Some(snapshot) = self.snapshot_of(name, random) else { return };
                let delete =
                    Command::DeleteSnapshot { target: named(name), name: snapshot.clone() };
                done(daemon, delete).await;
                self.snapshots.remove(&(name, snapshot));
            }
            4 | 5 => {
                let Some(snapshot) = self.snapshot_of(name, random) else { return };
                let back = Command::RestoreSnapshot { target: named(name), name: snapshot.clone() };
                done(daemon, back).await;
                let content = self.snapshots[&(name, snapshot)].clone();
                self.contents.insert(name, content);
            }
            6 => {
                let rebuild = Command::RebuildInstance {
                    target: named(name),
                    image: Some("test".to_owned()),
                };
                done(daemon, rebuild).await;
                self.contents.insert(name, Content::from([None]));
            }
            7 => {
                host.storage.flush().await.expect("it is flushed");
                self.note_flush(host, daemon);
            }
            _ => {
                self.written += 1;
                let value = self.written.to_string().into_bytes();
                let (pool, volume) = place(daemon, name);
                host.storage.write(pool, volume, FILE, &value).expect("there is room");
                self.contents.entry(name).or_default().insert(Some(value));
            }
        }
    }

    async fn snapshot(&mut self, daemon: &Daemon, name: &'static str) {
        self.written += 1;
        let snapshot = format!("s{}", self.written);
        let take = Command::CreateSnapshot {
            target: named(name),
            name: Some(snapshot.clone()),
            expires_at: None,
        };
        done(daemon, take).await;
        self.snapshots.insert((name, snapshot), self.contents[name].clone());
    }

    /// What is on the disk is so for good.
    fn note_flush(&mut self, host: &Host, daemon: &Daemon) {
        for (name, content) in &mut self.contents {
            let (pool, volume) = place(daemon, name);
            *content = Content::from([host.storage.read(pool, volume, FILE)]);
        }
        // What is in the snapshots is not seen from here; it stays what it may be.
    }

    async fn check(&self, host: &Host, daemon: &Daemon, seed: u64) {
        let mut volumes = Vec::new();
        for (name, content) in &self.contents {
            let (pool, volume) = place(daemon, name);
            let found = host.storage.read(pool, volume, FILE);
            assert!(content.contains(&found), "seed {seed}: {name} has {found:?} of {content:?}");
            assert!(host.storage.read(pool, volume, IMAGE_FILE).is_some(), "seed {seed}: {name}");
            let instance = daemon.instance(name).expect("it is there");
            let told: BTreeSet<_> = instance.snapshots.values().map(|it| it.id).collect();
            let kept = host.storage.snapshots(pool, volume).await.expect("the volume is there");
            assert_eq!(BTreeSet::from_iter(kept), told, "seed {seed}: {name}");
            volumes.push((pool, volume));
        }
        let Some((pool, _)) = volumes.first() else { return };
        let kept = host.storage.volumes(*pool).await.expect("the pool is there");
        let told: BTreeSet<_> = volumes.iter().map(|(_, volume)| *volume).collect();
        assert_eq!(BTreeSet::from_iter(kept), told, "seed {seed}");
    }
}

async fn done(daemon: &Daemon, command: Command) {
    daemon.run(command).await.expect("it is possible");
}

fn place(daemon: &Daemon, name: &str) -> (PoolId, VolumeId) {
    let instance = daemon.instance(name).expect("it is there");
    (instance.pool, VolumeId::from(instance.id))
}

#[tokio::test]
async fn what_was_told_is_done_again_when_the_disk_lost_it() {
    for seed in 0..SEEDS {
        let mut random = Random(seed);
        let mut host = Host::default();
        let daemon = host.start().await;
        daemon.furnish().await;
        host.storage.expect_loss_of_power();
        let mut told = Told::default();
        for _ in 0..ACTS {
            told.act(&host, &daemon, &mut random).await;
        }
        drop(daemon);
        host.lose_power();
        host.storage.lose_power(random.below(ACTS));
        let daemon = host.start().await;
        // Each instance's tasks are done in order: after one more of each, all were.
        for name in told.contents.keys().copied().collect::<Vec<_>>() {
            told.snapshot(&daemon, name).await;
        }
        told.check(&host, &daemon, seed).await;
    }
}
