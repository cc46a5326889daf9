//! What is true now: read your writes, operations, following.

mod support;

use futures::StreamExt;
use stapes_core::{command::Command, ids::Sequence, operation::Status as Outcome};
use stapes_projections::{AsOf, Followed, Status};
use support::{House, SOON, at, run, target};

#[tokio::test]
async fn what_was_written_is_read() {
    let mut house = House::new().await;
    let running = run(house.shared_log(), None).await;
    house.create("web", &[("limits.memory", "2GiB")]).await;
    house.start("web").await;
    running.views.wait_for(house.head(), SOON).await.unwrap();
    assert_eq!(running.views.status(), Status::Live { at: house.head() });
    assert_eq!(*running.views.world(), house.world);
    assert!(running.views.read(|world| world.instance("default", "web").is_ok()));
    let behind = running.views.wait_for(house.head().next(), std::time::Duration::ZERO).await;
    assert_eq!(behind.unwrap_err().at, house.head());
}

#[tokio::test]
async fn an_operation_is_found_while_it_runs_and_ever_after() {
    let mut house = House::new().await;
    house.create("web", &[]).await;
    let operation = house.ask(Command::StartInstance { target: target("web") }).await;
    let running = run(house.shared_log(), None).await;
    running.views.wait_for(house.head(), SOON).await.unwrap();
    let under_way = running.views.running_operations();
    assert_eq!(under_way.iter().map(|it| it.operation.id).collect::<Vec<_>>(), [operation]);
    assert_eq!(under_way[0].operation.status, Outcome::Running);
    house.work().await;
    running.views.wait_for(house.head(), SOON).await.unwrap();
    assert!(running.views.running_operations().is_empty());
    let ended = running.views.operation(operation).await.unwrap().unwrap();
    assert_eq!(ended.operation.resources[0].name, "web");
    assert!(ended.last > ended.first);
    assert_eq!(running.views.recently_ended(at(0))[0], ended);
    assert_eq!(running.views.recently_ended(ended.operation.ended_at.unwrap()), []);
}

#[tokio::test]
async fn following_from_memory_and_from_the_log_tells_the_same() {
    let mut house = House::new().await;
    let running = run(house.shared_log(), None).await;
    running.views.wait_for(house.head(), SOON).await.unwrap();
    let before = house.head();
    let mut from_memory = running.views.follow(Some(before));
    house.create("web", &[("environment.PASSWORD", "tomato")]).await;
    house.start("web").await;
    let later = run(house.shared_log(), None).await;
    later.views.wait_for(house.head(), SOON).await.unwrap();
    let mut from_log = later.views.follow(Some(before));
    let mut told = [Vec::new(), Vec::new()];
    for (stream, told) in [&mut from_memory, &mut from_log].into_iter().zip(&mut told) {
        while told.last().is_none_or(|last: &Sequence| *last < house.head()) {
            if let Followed::Told(batch) = stream.next().await.unwrap().unwrap() {
                told.extend(batch.iter().map(|told| told.recorded.sequence));
            }
        }
    }
    assert_eq!(told[0], told[1]);
    assert_eq!(told[0].len() as u64, house.head().0 - before.0);
}

#[tokio::test]
async fn a_replay_gives_the_same_world() {
    let mut house = House::new().await;
    house.create("web", &[]).await;
    let running = run(house.shared_log(), None).await;
    running.views.wait_for(house.head(), SOON).await.unwrap();
    let verified = running.views.verify().await.unwrap();
    assert!(verified.equal, "{verified:?}");
    assert_eq!((verified.sequence, verified.counts.instances), (house.head(), 1));
    let past = running.views.world_at(AsOf::Time(at(1))).await.unwrap();
    // The node's name was reserved with its start.
    assert_eq!((past.sequence, past.nodes.len(), past.projects.len()), (Sequence(2), 1, 0));
}
