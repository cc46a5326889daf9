//! The laws of moving a guest while it runs.

use std::path::{Path, PathBuf};

use super::{
    super::{ExitCause, Guests, Held, Mobility, Release, Running, Stop},
    Ground, PATIENCE, command, run,
};
use crate::{
    ids::InstanceId,
    port::{DriverError, storage::RootLayers},
    spec::GuestSpec,
};

pub(super) async fn all(ground: &mut dyn Ground) {
    one_that_does_not_run_cannot_be_moved(ground).await;
    if ground.not_live().is_some() {
        what_cannot_be_checkpointed_runs_on(ground).await;
        return;
    }
    a_held_guest_stands_still_until_it_is_resumed(ground).await;
    a_held_guest_is_held_by_no_driver(ground).await;
    a_killed_guest_is_gone(ground).await;
    a_restored_guest_is_as_any_other(ground).await;
    what_is_no_checkpoint_makes_no_guest(ground).await;
}

/// A directory of checkpoints, gone afterwards also when a law is broken.
struct Images(PathBuf);

impl Drop for Images {
    fn drop(&mut self) {
        // One that was never made need not go.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn is_refused<T: std::fmt::Debug>(answer: &Result<T, DriverError>) {
    assert!(matches!(answer, Err(DriverError::Refused(_))), "{answer:?}");
}

async fn held(guests: &dyn Guests, instance: InstanceId) -> Option<Held> {
    guests.running(instance).await.expect("it is there").held
}

async fn answers(guests: &dyn Guests, instance: InstanceId) {
    assert_eq!(run(guests, instance, &["echo", "here"], "").await.0, "here\n");
}

async fn started(ground: &mut dyn Ground, guests: &dyn Guests) -> (GuestSpec, RootLayers) {
    let (spec, root) = ground.guest().await;
    guests.start(&spec, &root).await.expect("start");
    answers(guests, spec.instance).await;
    (spec, root)
}

async fn one_that_does_not_run_cannot_be_moved(ground: &mut dyn Ground) {
    let guests = ground.guests().await;
    let (spec, _) = ground.guest().await;
    let (id, nowhere) = (spec.instance, Path::new("/nowhere/at/all"));
    let missing = |answer: Result<(), DriverError>| {
        assert!(matches!(answer, Err(DriverError::NotFound(_))), "{answer:?}");
    };
    missing(guests.preflight(id).await.map(drop));
    missing(guests.checkpoint(id, nowhere).await.map(drop));
    missing(guests.activate(id).await);
    missing(guests.release(id, Release::Resume).await);
    assert_eq!(guests.release(id, Release::Kill).await, Ok(()));
}

async fn what_cannot_be_checkpointed_runs_on(ground: &mut dyn Ground) {
    let guests = ground.guests().await;
    let (spec, _) = started(ground, guests.as_ref()).await;
    let images = Images(ground.images());
    let preflight = guests.preflight(spec.instance).await.expect("preflight");
    assert_eq!(preflight.verdict, Mobility::NearLive);
    assert!(!preflight.reasons.is_empty());
    is_refused(&guests.checkpoint(spec.instance, &images.0).await);
    assert!(!images.0.exists());
    answers(guests.as_ref(), spec.instance).await;
    guests.stop(spec.instance, Stop::Force).await.expect("stop");
}

async fn a_held_guest_stands_still_until_it_is_resumed(ground: &mut dyn Ground) {
    let guests = ground.guests().await;
    let (spec, root) = started(ground, guests.as_ref()).await;
    let (id, images) = (spec.instance, Images(ground.images()));
    assert_eq!(guests.release(id, Release::Resume).await, Ok(()), "it is not held");
    let before = guests.running(id).await;
    for _ in 0..2 {
        let preflight = guests.preflight(id).await.expect("preflight");
        assert_eq!(preflight.verdict, Mobility::Live, "{:?}", preflight.reasons);
        let first = guests.checkpoint(id, &images.0).await.expect("checkpoint");
        assert_eq!(guests.checkpoint(id, &images.0).await, Ok(first));
        assert!(first.bytes > 0 && images.0.exists());
        assert_eq!(held(guests.as_ref(), id).await, Some(Held::Checkpointed));
        let again = guests.start(&spec, &root).await.map(|running| running.held);
        assert_eq!(again, Ok(Some(Held::Checkpointed)));
        is_refused(&guests.exec(id, &command(&["true"])).await);
        is_refused(&guests.freeze(id).await);
        is_refused(&guests.activate(id).await);
        is_refused(&guests.stop(id, Stop::Clean { timeout: PATIENCE }).await);
        for _ in 0..2 {
            assert_eq!(guests.release(id, Release::Resume).await, Ok(()));
        }
        assert_eq!(guests.running(id).await, before);
        answers(guests.as_ref(), id).await;
        std::fs::remove_dir_all(&images.0).expect("remove the images");
    }
    assert_eq!(guests.stop(id, Stop::Force).await, Ok(ExitCause::Forced));
}

async fn a_held_guest_is_held_by_no_driver(ground: &mut dyn Ground) {
    let guests = ground.guests().await;
    let (spec, _) = started(ground, guests.as_ref()).await;
    let (id, images) = (spec.instance, Images(ground.images()));
    let checkpoint = guests.checkpoint(id, &images.0).await.expect("checkpoint");
    let before = guests.running(id).await.expect("it is there");
    drop(guests);
    let guests = ground.restarted().await;
    assert_eq!(guests.adopt().await, Ok((vec![before], vec![])));
    assert_eq!(before.held, Some(Held::Checkpointed));
    assert_eq!(guests.checkpoint(id, &images.0).await, Ok(checkpoint));
    assert_eq!(guests.release(id, Release::Resume).await, Ok(()));
    assert_eq!(guests.running(id).await, Some(Running { held: None, ..before }));
    answers(guests.as_ref(), id).await;
    guests.checkpoint(id, &images.0).await.expect("checkpoint again");
    assert_eq!(guests.stop(id, Stop::Force).await, Ok(ExitCause::Forced));
    assert_eq!(guests.running(id).await, None);
}

async fn a_killed_guest_is_gone(ground: &mut dyn Ground) {
    let guests = ground.guests().await;
    for held in [true, false] {
        let (spec, _) = started(ground, guests.as_ref()).await;
        let (id, images) = (spec.instance, Images(ground.images()));
        if held {
            guests.checkpoint(id, &images.0).await.expect("checkpoint");
        }
        for _ in 0..2 {
            assert_eq!(guests.release(id, Release::Kill).await, Ok(()));
            assert_eq!(guests.running(id).await, None);
        }
        assert_eq!(guests.adopt().await, Ok((vec![], vec![])), "it is no news that it ended");
    }
}

async fn a_restored_guest_is_as_any_other(ground: &mut dyn Ground) {
    let guests = ground.guests().await;
    let (mut spec, root) = started(ground, guests.as_ref()).await;
    let id = spec.instance;
    let started_at = guests.running(id).await.expect("it is there").started_at;
    for _ in 0..2 {
        let images = Images(ground.images());
        guests.checkpoint(id, &images.0).await.expect("checkpoint");
        guests.release(id, Release::Kill).await.expect("kill");
        spec.incarnation.epoch = spec.incarnation.epoch.next();
        let restored = guests.restore(&spec, &root, &images.0).await.expect("restore");
        assert_eq!(restored.held, Some(Held::Restored));
        assert_eq!(restored.incarnation, spec.incarnation);
        assert_eq!(restored.started_at, started_at, "it was never stopped");
        assert_eq!(guests.restore(&spec, &root, &images.0).await, Ok(restored));
        is_refused(&guests.exec(id, &command(&["true"])).await);
        is_refused(&guests.release(id, Release::Resume).await);
        is_refused(&guests.checkpoint(id, &images.0).await);
        for _ in 0..2 {
            assert_eq!(guests.activate(id).await, Ok(()));
        }
        let active = Running { held: None, ..restored };
        assert_eq!(guests.running(id).await, Some(active));
        assert_eq!(guests.restore(&spec, &root, &images.0).await, Ok(active));
        answers(guests.as_ref(), id).await;
        guests.freeze(id).await.expect("freeze");
        guests.unfreeze(id).await.expect("unfreeze");
    }
    assert_eq!(guests.stop(id, Stop::Force).await, Ok(ExitCause::Forced));
    assert_eq!(guests.running(id).await, None);
}

async fn what_is_no_checkpoint_makes_no_guest(ground: &mut dyn Ground) {
    let guests = ground.guests().await;
    let (spec, root) = ground.guest().await;
    let images = Images(ground.images());
    is_refused(&guests.restore(&spec, &root, &images.0).await);
    std::fs::create_dir_all(&images.0).expect("make a directory");
    is_refused(&guests.restore(&spec, &root, &images.0).await);
    assert_eq!(guests.running(spec.instance).await, None);
    assert_eq!(guests.adopt().await, Ok((vec![], vec![])));
    guests.start(&spec, &root).await.expect("start");
    let mut other = spec.clone();
    other.incarnation.epoch = other.incarnation.epoch.next();
    is_refused(&guests.restore(&other, &root, &images.0).await);
    guests.stop(spec.instance, Stop::Force).await.expect("stop");
}
