//! What was: timelines, names over time, operations, the world as it was.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use proptest::prelude::*;
use stapes_core::{
    command::Command,
    config::Devices,
    furniture::{default_profile, node},
    ids::{Revision, Sequence, StreamId, StreamKind},
    name::NameKind,
    port::log::EventLog,
    project::Project,
    record::Recorded,
    server::Server,
    world::World,
};
use stapes_projections::{AsOf, Entry, HIDDEN, OperationFilter, Views};
use support::{House, SOON, at, run, target};

async fn summaries(views: &Views, stream: StreamId) -> Vec<String> {
    let mut lines = Vec::new();
    let mut before = None;
    loop {
        let page = views.timeline(&[stream], before, 3).await.unwrap();
        lines.extend(page.rows.into_iter().map(|entry| entry.summary));
        before = page.next;
        if before.is_none() {
            lines.reverse();
            return lines;
        }
    }
}

/// An instance that was renamed and deleted, and another one of its first name.
async fn told() -> House {
    let mut house = House::new().await;
    house.create("web", &[("limits.memory", "2GiB"), ("environment.KEY", "tomato")]).await;
    house.start("web").await;
    house.configure("web", &[("limits.memory", "4GiB"), ("environment.KEY", "potato")]).await;
    house.snapshot("web", "before").await;
    house.stop("web").await;
    house.rename("web", "old").await;
    house.create("web", &[]).await;
    house.delete("old").await;
    house
}

#[tokio::test]
async fn a_deleted_instance_is_found_by_each_of_its_names() {
    let house = told().await;
    let running = run(house.shared_log(), None).await;
    running.views.wait_for(house.head(), SOON).await.unwrap();
    let project = Project::default_id();
    let web = running.views.holders(NameKind::Instance, project, "web").await.unwrap();
    let old = running.views.holders(NameKind::Instance, project, "old").await.unwrap();
    assert_eq!((web.len(), old.len()), (2, 1));
    assert_eq!(web[0].id, old[0].id);
    // Both are records of the one commit that renamed it.
    assert!(web[0].to.unwrap().0.abs_diff(old[0].from.0) == 1);
    assert!(old[0].to.is_some() && web[1].to.is_none());
    assert_ne!(web[0].id, web[1].id);

    let lines = summaries(&running.views, StreamId::new(StreamKind::Instance, old[0].id)).await;
    for line in [
        "container web created without image",
        "started (pid 4711)",
        "snapshot before taken",
        "stopped: guest-shutdown",
        "name web → old",
        "deleted",
    ] {
        assert!(lines.iter().any(|it| it == line), "{line:?} is not in {lines:#?}");
    }
    let memory = lines.iter().find(|line| line.contains("limits.memory")).unwrap();
    assert!(memory.contains("limits.memory 2GiB → 4GiB"), "{memory}");
    assert_eq!(lines.last().unwrap(), "deleted");
    let newer = summaries(&running.views, StreamId::new(StreamKind::Instance, web[1].id)).await;
    assert!(!newer.iter().any(|line| line == "deleted"), "{newer:#?}");
}

/// With more nodes than one, what others rely on is changed under a guard of many records.
#[tokio::test]
async fn what_keeps_decisions_apart_is_in_no_timeline() {
    let mut house = House::new().await;
    house.ask(Command::StartNode(Box::new(node("there")))).await;
    house.ask(default_profile(Devices::new())).await;
    let guard = Server::guards().next().unwrap();
    assert!(house.world.tail(guard).revision > Revision(0), "nothing was guarded");
    let running = run(house.shared_log(), None).await;
    running.views.wait_for(house.head(), SOON).await.unwrap();
    assert_eq!(summaries(&running.views, guard).await, [""; 0]);
}

#[tokio::test]
async fn secrets_are_never_shown() {
    let house = told().await;
    let running = run(house.shared_log(), None).await;
    running.views.wait_for(house.head(), SOON).await.unwrap();
    let page = running.views.timeline_all(Sequence(0), 1000).await.unwrap();
    let shown = serde_json::to_string(&page).unwrap();
    assert!(!shown.contains("tomato") && !shown.contains("potato"), "{shown}");
    assert!(shown.contains(HIDDEN) && shown.contains("environment.KEY"));
    let back: stapes_projections::Page<Entry> = serde_json::from_str(&shown).unwrap();
    assert_eq!(back, page);
}

#[tokio::test]
async fn the_whole_timeline_comes_page_by_page_in_order() {
    let house = told().await;
    let running = run(house.shared_log(), None).await;
    running.views.wait_for(house.head(), SOON).await.unwrap();
    let all = running.views.timeline_all(Sequence(0), 1000).await.unwrap();
    assert_eq!((all.next, all.at), (None, house.head()));
    let mut paged = Vec::new();
    let mut after = Some(Sequence(0));
    while let Some(from) = after {
        let page = running.views.timeline_all(from, 7).await.unwrap();
        paged.extend(page.rows);
        after = page.next;
    }
    assert_eq!(paged, all.rows);
    assert!(paged.is_sorted_by_key(|entry| (entry.sequence, entry.index)));
}

#[tokio::test]
async fn operations_are_listed_newest_first_for_good() {
    let mut house = told().await;
    let started = house.ask(Command::StartInstance { target: target("web") }).await;
    let running = run(house.shared_log(), None).await;
    running.views.wait_for(house.head(), SOON).await.unwrap();
    let all = OperationFilter::default();
    let page = running.views.operations(all.clone(), None, 1000).await.unwrap();
    assert_eq!(page.rows[0].operation.id, started);
    assert!(!page.rows[0].operation.ended() && page.rows[1].operation.ended());
    let mut paged = Vec::new();
    let mut before = None;
    loop {
        let page = running.views.operations(all.clone(), before, 2).await.unwrap();
        paged.extend(page.rows);
        before = page.next;
        if before.is_none() {
            break;
        }
    }
    assert_eq!(paged, page.rows);
    let ended = OperationFilter { ended_only: true, ..OperationFilter::default() };
    let ended = running.views.operations(ended, None, 1000).await.unwrap();
    assert_eq!(ended.rows, page.rows[1..]);
}

#[tokio::test]
async fn a_time_means_the_last_record_before_the_first_later_one() {
    let house = told().await;
    let running = run(house.shared_log(), None).await;
    running.views.wait_for(house.head(), SOON).await.unwrap();
    let stored = house.log.read(Sequence(1), usize::MAX).await.unwrap();
    let times: Vec<_> =
        stored.iter().map(|stored| Recorded::read(stored).unwrap().record.time).collect();
    for second in [0, 1, 2, 5, 10, 20, 1_000_000] {
        let until = times.iter().take_while(|time| **time <= at(second)).count();
        let found = running.views.sequence_at(at(second)).await.unwrap();
        assert_eq!(found, Sequence(until as u64), "after {second} s");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(8))]

    #[test]
    fn the_world_as_of_a_record_is_the_fold_of_all_before(
        asked in proptest::collection::vec(0_u64..60, 1..12),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let house = told().await;
            let running = run(house.shared_log(), None).await;
            running.views.wait_for(house.head(), SOON).await.unwrap();
            let stored = house.log.read(Sequence(1), usize::MAX).await.unwrap();
            for asked in asked {
                let mut folded = World::default();
                for stored in stored.iter().take(usize::try_from(asked).unwrap()) {
                    folded.apply(&Recorded::read(stored).unwrap()).unwrap();
                }
                let sequence = Sequence(asked.min(house.head().0));
                let world = running.views.world_at(AsOf::Sequence(sequence)).await.unwrap();
                assert_eq!(*world, folded);
            }
            let ahead = running.views.world_at(AsOf::Sequence(house.head().next())).await;
            assert!(ahead.is_err());
        });
    }
}
