//! The store is derived: whatever becomes of it, the answers are the same.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::{fs, path::Path, time::Duration};

use stapes_core::ids::Sequence;
use stapes_projections::{Entry, OperationFilter, OperationView, Options, Recalled, Views};
use support::{Followed, House, SOON, run};

/// Everything that is asked of the store.
async fn answers(views: &Views, head: Sequence) -> (Vec<Entry>, Vec<OperationView>) {
    views.wait_for(head, SOON).await.unwrap();
    tokio::time::timeout(SOON, indexed(views, head)).await.unwrap();
    let entries = views.timeline_all(Sequence(0), 1000).await.unwrap();
    let operations = views.operations(OperationFilter::default(), None, 1000).await.unwrap();
    assert_eq!((entries.at, operations.at), (head, head));
    (entries.rows, operations.rows)
}

async fn indexed(views: &Views, head: Sequence) {
    while views.indexed() < head {
        tokio::task::yield_now().await;
    }
}

async fn told() -> House {
    let mut house = House::new().await;
    for name in ["a", "b", "c"] {
        house.create(name, &[("user.note", name)]).await;
        house.start(name).await;
    }
    house.stop("b").await;
    house.delete("b").await;
    house
}

/// Follows with checkpoints often and every record written at once.
async fn eager(house: &House, directory: &Path) -> Followed {
    let options =
        Options { checkpoint_every: 1, flush_every: Duration::ZERO, ..Options::default() };
    let views = Views::open(Some(directory), house.shared_log(), options).await.unwrap();
    let task = tokio::spawn(views.clone().run());
    Followed { views, task }
}

/// Stops following, and waits until the store is let go.
async fn stop(mut running: Followed, directory: &Path) {
    running.task.abort();
    let _ = (&mut running.task).await;
    drop(running);
    let free = async {
        while !stores(directory).iter().all(|store| store.try_lock().is_ok()) {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(SOON, free).await.unwrap();
}

/// The files that a store locks while it is open.
fn stores(directory: &Path) -> Vec<fs::File> {
    let entries = fs::read_dir(directory).into_iter().flatten();
    entries.filter_map(|entry| fs::File::open(entry.ok()?.path().join("db")).ok()).collect()
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &to);
        } else {
            fs::copy(entry.path(), to).unwrap();
        }
    }
}

/// Waits until there is a checkpoint of all that is known.
async fn written(views: &Views, known: Sequence) {
    let written = async {
        while views.checkpointed().unwrap() < known {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(SOON, written).await.unwrap();
}

/// Damages each file of the store that has something in it.
fn damage(directory: &Path, step: usize) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            damage(&path, step);
            continue;
        }
        let mut bytes = fs::read(&path).unwrap();
        bytes.iter_mut().skip(step / 2).step_by(step).for_each(|byte| *byte ^= 0x55);
        fs::write(&path, bytes).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deleted_directory_gives_the_same_answers() {
    let house = told().await;
    let expected = answers(&run(house.shared_log(), None).await.views, house.head()).await;
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("views");
    for _ in 0..2 {
        let running = eager(&house, &path).await;
        assert_eq!(answers(&running.views, house.head()).await, expected);
        assert_eq!(running.views.rebuilt(), None);
        stop(running, &path).await;
        fs::remove_dir_all(&path).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_written_is_not_folded_again() {
    let mut house = told().await;
    let directory = tempfile::tempdir().unwrap();
    let first = eager(&house, directory.path()).await;
    let before = answers(&first.views, house.head()).await;
    let known = house.head();
    written(&first.views, known).await;
    stop(first, directory.path()).await;
    house.create("d", &[]).await;
    let second = eager(&house, directory.path()).await;
    assert_eq!(second.views.rebuilt(), None);
    assert!(second.views.sequence() >= known, "it begins at the checkpoint");
    let after = answers(&second.views, house.head()).await;
    assert_eq!(after.0[..before.0.len()], before.0[..]);
    assert!(after.0[before.0.len()..].iter().all(|entry| entry.sequence > known));
    assert_eq!(*second.views.world(), house.world);
    assert!(second.views.verify().await.unwrap().equal);
}

/// The daemon's own options, but for the rest between checkpoints.
async fn patient(house: &House, directory: &Path, checkpoint_rest: Duration) -> Followed {
    let options = Options { checkpoint_rest, ..Options::default() };
    let views = Views::open(Some(directory), house.shared_log(), options).await.unwrap();
    let task = tokio::spawn(views.clone().run());
    Followed { views, task }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_known_is_recalled_without_the_log() {
    let mut house = told().await;
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    assert!(Recalled::read(path).await.unwrap().is_none(), "nothing was ever known");
    // However few the records are, they are in a checkpoint after a while ...
    let running = patient(&house, path, Duration::from_millis(1)).await;
    written(&running.views, house.head()).await;
    stop(running, path).await;
    let recalled = Recalled::read(path).await.unwrap().unwrap();
    assert_eq!(**recalled.world(), house.world);
    // ... or when it is asked for.
    let running = patient(&house, path, Duration::from_secs(3600)).await;
    house.create("d", &[]).await;
    running.views.wait_for(house.head(), SOON).await.unwrap();
    running.views.keep().await.unwrap();
    stop(running, path).await;
    for _ in 0..20 {
        let recalled = Recalled::read(path).await.unwrap().unwrap();
        assert_eq!(recalled.sequence(), house.head());
        assert_eq!(**recalled.world(), house.world);
        assert!(recalled.ended().count() > 0);
        let views = Views::open(Some(path), house.shared_log(), Options::default()).await.unwrap();
        assert_eq!(views.rebuilt(), None, "the store was let go");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crash_at_any_moment_loses_nothing() {
    let mut house = House::new().await;
    let directory = tempfile::tempdir().unwrap();
    let running = eager(&house, directory.path()).await;
    for round in 0..6 {
        house.create(&format!("i{round}"), &[]).await;
        let crashed = tempfile::tempdir().unwrap();
        copy(directory.path(), crashed.path());
        let again = eager(&house, crashed.path()).await;
        let expected = answers(&run(house.shared_log(), None).await.views, house.head()).await;
        assert_eq!(answers(&again.views, house.head()).await, expected, "round {round}");
    }
    drop(running);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn damaged_files_are_put_aside_and_written_anew() {
    let house = told().await;
    let expected = answers(&run(house.shared_log(), None).await.views, house.head()).await;
    let whole = tempfile::tempdir().unwrap();
    let running = eager(&house, whole.path()).await;
    answers(&running.views, house.head()).await;
    for step in [64, 512, 4096] {
        let damaged = tempfile::tempdir().unwrap();
        copy(whole.path(), damaged.path());
        damage(damaged.path(), step);
        for _ in 0..2 {
            let again = eager(&house, damaged.path()).await;
            assert_eq!(answers(&again.views, house.head()).await, expected, "step {step}");
            assert_eq!(*again.views.world(), house.world);
            stop(again, damaged.path()).await;
        }
        let names = fs::read_dir(damaged.path()).unwrap();
        assert!(names.count() <= 2, "one in use and one aside at most");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_of_another_log_is_not_used() {
    let directory = tempfile::tempdir().unwrap();
    let house = told().await;
    let running = eager(&house, directory.path()).await;
    written(&running.views, house.head()).await;
    stop(running, directory.path()).await;
    // Shorter, and with other records.
    let mut other = House::empty();
    other
        .ask(stapes_core::command::Command::CreateProject {
            name: "other".to_owned(),
            description: String::new(),
            config: Default::default(),
        })
        .await;
    let again = eager(&other, directory.path()).await;
    assert!(again.views.rebuilt().is_some());
    let (entries, _) = answers(&again.views, other.head()).await;
    assert!(entries.iter().any(|entry| entry.summary == "project other created"));
}
