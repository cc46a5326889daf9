//! Instances go from one host to another, and daemons are killed at every moment of it: whatever
//! happens, there is one instance afterwards, whole, on one of the two.

use std::time::Duration;

use stapes_core::{
    command::Command,
    ids::{Epoch, VolumeId},
    instance::{LivePolicy, Status},
    port::{guest::Guests as _, storage::Storage as _},
};
use stapes_scenarios::{
    pair::{PATIENCE, Pair},
    pretend::named,
};

/// More moments than any move has.
const MOMENTS_MAX: u64 = 60;

fn to_two(live: LivePolicy) -> Command {
    Command::MoveInstance { target: named("web"), to: Some("two".to_owned()), live }
}

/// What is true of it on both hosts when nothing is left to do.
async fn settled(pair: &Pair, running: bool) -> bool {
    let web = pair.daemon(0).instance("web").expect("it is there");
    if web.job.is_some() || web.status.is_up() != running {
        return false;
    }
    let volume = VolumeId::from(web.id);
    for host in &pair.hosts {
        let owns = host.id() == web.node;
        let guest = host.guests.running(web.id).await;
        let held = guest.is_some_and(|guest| guest.held.is_some());
        let there = host.storage.volumes(pair.pool).await.expect("a pool");
        let left = host.storage.snapshots(pair.pool, volume).await.expect("a pool");
        if guest.is_some() != (owns && running) || held || there.contains(&volume) != owns {
            return false;
        }
        let content = host.storage.read(pair.pool, volume, "kept");
        if !left.is_empty() || (owns && content.as_deref() != Some(b"content")) {
            return false;
        }
    }
    true
}

async fn settles(pair: &mut Pair, running: bool) {
    let mut moments = pair.neighbours.moments();
    let waited = tokio::time::timeout(PATIENCE, async {
        while !settled(pair, running).await {
            // Removals are acknowledged without a fact: the next thing anybody does tells.
            let pause = Duration::from_millis(50);
            let _again = tokio::time::timeout(pause, moments.changed()).await;
            pair.bury().await;
        }
    });
    let settled = waited.await.is_ok();
    assert!(settled, "{:?}", pair.daemon(0).instance("web"));
}

/// Kills at the first moment, at the second, and so on until the move is over before.
async fn survives_every_kill(running: bool, live: LivePolicy) {
    for nth in 1..MOMENTS_MAX {
        let mut pair = Pair::new(running).await;
        pair.run(to_two(live), nth).await;
        settles(&mut pair, running).await;
        let web = pair.daemon(1).instance("web").expect("it is there");
        if !pair.killed {
            assert!(nth > 2, "there are moments in a move");
            assert_eq!((web.node, web.epoch()), (pair.hosts[1].id(), Epoch(1)));
            return;
        }
    }
    panic!("a move has fewer moments");
}

#[tokio::test]
async fn a_stopped_instance_survives_every_kill() {
    survives_every_kill(false, LivePolicy::Never).await;
}

#[tokio::test]
async fn a_near_live_move_survives_every_kill() {
    survives_every_kill(true, LivePolicy::Never).await;
}

#[tokio::test]
async fn a_live_move_survives_every_kill() {
    survives_every_kill(true, LivePolicy::Preferred).await;
}

#[tokio::test]
async fn a_guest_that_moved_alive_is_the_one_that_was() {
    let mut pair = Pair::new(true).await;
    let before = pair.hosts[0].guests.running(pair.daemon(0).instance("web").unwrap().id).await;
    pair.run(to_two(LivePolicy::Required), u64::MAX / 2).await;
    settles(&mut pair, true).await;
    let web = pair.daemon(0).instance("web").expect("it is there");
    assert!(matches!(web.status, Status::Running { .. }));
    let after = pair.hosts[1].guests.running(web.id).await.expect("it runs");
    assert_eq!(after.started_at, before.expect("it ran").started_at);
    assert_eq!(after.incarnation, web.guest);
}
