//! Instances are copied to another host, and daemons are killed at every moment of it: whatever
//! happens, the copy is whole, and nothing of what was made to be sent is left.

use std::time::Duration;

use stapes_core::{
    command::Command,
    ids::{SnapshotId, VolumeId},
    instance::{Create, Source},
    port::storage::Storage as _,
};
use stapes_scenarios::{
    pair::{PATIENCE, Pair},
    pretend::{instance_of_image, named},
};

/// More moments than any copy has.
const MOMENTS_MAX: u64 = 60;
const NEVER: u64 = u64::MAX / 2;

fn copy_on_two(snapshot: Option<&str>) -> Command {
    let (project, name) = ("default".to_owned(), "web".to_owned());
    let snapshot = snapshot.map(str::to_owned);
    let source = Source::Copy { project, name, snapshot, instance_only: false };
    let target = Some("two".to_owned());
    Command::CreateInstance(Box::new(Create { source, target, ..instance_of_image("web2") }))
}

async fn with_snapshot(running: bool) -> Pair {
    let pair = Pair::new(running).await;
    let (target, name) = (named("web"), Some("s0".to_owned()));
    let take = Command::CreateSnapshot { target, name, expires_at: None };
    pair.daemon(0).run(take).await.expect("taken");
    pair
}

fn snapshots_of(pair: &Pair, name: &str) -> Vec<SnapshotId> {
    let instance = pair.daemon(0).instance(name).expect("it is there");
    instance.snapshots.values().map(|snapshot| snapshot.id).collect()
}

/// Each host has what the log says, and no more.
async fn settled(pair: &Pair, names: &[&str]) -> bool {
    for host in &pair.hosts {
        let mut expected = Vec::new();
        for name in names {
            let instance = pair.daemon(0).instance(name).expect("it is there");
            if instance.job.is_some() {
                return false;
            }
            let volume = VolumeId::from(instance.id);
            let there = host.storage.snapshots(pair.pool, volume).await.expect("a pool");
            if instance.node != host.id() {
                if !there.is_empty() {
                    return false;
                }
                continue;
            }
            if host.storage.read(pair.pool, volume, "kept").as_deref() != Some(b"content")
                || there != snapshots_of(pair, name)
            {
                return false;
            }
            expected.push(volume);
        }
        let mut volumes = host.storage.volumes(pair.pool).await.expect("a pool");
        volumes.sort();
        expected.sort();
        if volumes != expected {
            return false;
        }
    }
    true
}

async fn settles(pair: &mut Pair, names: &[&str]) {
    let mut moments = pair.neighbours.moments();
    let waited = tokio::time::timeout(PATIENCE, async {
        while !settled(pair, names).await {
            // Removals are acknowledged without a fact: the next thing anybody does tells.
            let pause = Duration::from_millis(50);
            let _again = tokio::time::timeout(pause, moments.changed()).await;
            pair.bury().await;
        }
    });
    let settled = waited.await.is_ok();
    assert!(settled, "{:?}", pair.daemon(0).instance(names[names.len() - 1]));
}

#[tokio::test]
async fn a_copy_survives_every_kill() {
    for nth in 1..MOMENTS_MAX {
        let mut pair = with_snapshot(true).await;
        pair.run(copy_on_two(None), nth).await;
        settles(&mut pair, &["web", "web2"]).await;
        assert_eq!(snapshots_of(&pair, "web2"), snapshots_of(&pair, "web"));
        if !pair.killed {
            assert!(nth > 2, "there are moments in a copy");
            return;
        }
    }
    panic!("a copy has fewer moments");
}

#[tokio::test]
async fn a_copy_of_a_snapshot_is_what_it_was_then() {
    let mut pair = with_snapshot(false).await;
    let volume = pair.volume();
    pair.hosts[0].storage.write(pair.pool, volume, "kept", b"younger").expect("written");
    pair.run(copy_on_two(Some("s0")), NEVER).await;
    let web2 = pair.daemon(1).instance("web2").expect("it is there");
    let kept = pair.hosts[1].storage.read(pair.pool, VolumeId::from(web2.id), "kept");
    assert_eq!((kept.as_deref(), web2.snapshots.len()), (Some(&b"content"[..]), 0));
}

#[tokio::test]
async fn nothing_is_left_of_a_copy_whose_source_does_not_answer() {
    let mut pair = with_snapshot(false).await;
    pair.neighbours.silence(pair.hosts[0].id());
    pair.run(copy_on_two(None), NEVER).await;
    assert!(pair.daemon(0).instance("web2").is_none(), "it is undone");
    settles(&mut pair, &["web"]).await;
    // The name is free again.
    pair.neighbours.strike_at(NEVER);
    let again = copy_on_two(None);
    pair.run(again, NEVER).await;
    assert!(pair.daemon(0).instance("web2").is_none(), "it still does not answer");
}
