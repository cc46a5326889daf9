//! Watches over one log, with ears that hear what the test says and time that stands until all wait.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use stapes_core::{
    command::Command,
    config::Config,
    furniture,
    ids::NodeId,
    lease::Boottime,
    node::{Duty, Evacuation, Reach},
    port::log::MemoryLog,
    record::Actor,
    server::Server,
};
use tokio::time::Instant;

use super::{Ears, Watch};
use crate::{Control, Request};

/// Everybody is heard but those who are silent since then.
#[derive(Debug)]
struct Told {
    began: Instant,
    silent: Mutex<BTreeMap<NodeId, Instant>>,
}

impl Told {
    fn silence_of(&self, names: &[&str]) {
        let since = names.iter().map(|name| (id(name), Instant::now()));
        *self.silent.lock().unwrap() = since.collect();
    }
}

impl Ears for Told {
    fn now(&self) -> Boottime {
        Boottime(self.began.elapsed())
    }

    fn silence(&self, node: NodeId) -> Option<Duration> {
        let silent = self.silent.lock().unwrap();
        Some(silent.get(&node).map_or(Duration::ZERO, Instant::elapsed))
    }
}

fn id(name: &str) -> NodeId {
    NodeId::derive(&[name])
}

async fn ask(control: &Control, command: Command) {
    control.submit(command, Request::by(Actor::system())).await.unwrap();
}

/// A cluster of these, each with a control of its own over one log.
async fn cluster(names: &[&str]) -> Vec<Control> {
    let log = Arc::new(MemoryLog::default());
    let controls: Vec<_> = names.iter().map(|_| Control::new(log.clone())).collect();
    for control in &controls {
        tokio::spawn(control.clone().follow());
    }
    let first = &controls[0];
    first.found(furniture::node(names[0])).await.unwrap();
    for command in furniture::cluster(names) {
        ask(first, command).await;
    }
    controls
}

fn watch(controls: &[Control], names: &[&str]) -> Arc<Told> {
    let told = Arc::new(Told { began: Instant::now(), silent: Mutex::default() });
    for (control, name) in controls.iter().zip(names) {
        tokio::spawn(Watch::new(control.clone(), id(name), told.clone()).run());
    }
    told
}

fn reach(control: &Control, name: &str) -> Reach {
    control.world().nodes[&id(name)].reach
}

async fn seconds(count: u64) {
    tokio::time::sleep(Duration::from_secs(count)).await;
}

const FOUR: [&str; 4] = ["one", "two", "three", "four"];

#[tokio::test(start_paused = true)]
async fn the_silent_are_lost_then_fenced_and_come_back() {
    let controls = cluster(&FOUR).await;
    // The fourth is gone: its own watch does not run.
    let told = watch(&controls[..3], &FOUR);
    seconds(60).await;
    assert_eq!(reach(&controls[1], "four"), Reach::Online);
    told.silence_of(&["four"]);
    seconds(11).await;
    assert_eq!(reach(&controls[1], "four"), Reach::Online);
    seconds(3).await;
    assert!(matches!(reach(&controls[1], "four"), Reach::Unreachable { .. }));
    seconds(27).await;
    assert!(matches!(reach(&controls[2], "four"), Reach::Unreachable { .. }));
    seconds(5).await;
    assert!(matches!(reach(&controls[2], "four"), Reach::Fenced { .. }));
    // Fenced is not taken back because something is heard: its own watch says so.
    told.silence_of(&[]);
    seconds(5).await;
    assert!(matches!(reach(&controls[0], "four"), Reach::Fenced { .. }));
    tokio::spawn(Watch::new(controls[3].clone(), id("four"), told).run());
    seconds(3).await;
    assert_eq!(reach(&controls[0], "four"), Reach::Online);
}

#[tokio::test(start_paused = true)]
async fn who_comes_back_has_the_time_to_be_heard() {
    let controls = cluster(&FOUR).await;
    let told = watch(&controls[..3], &FOUR);
    seconds(5).await;
    told.silence_of(&["four"]);
    seconds(20).await;
    assert!(matches!(reach(&controls[1], "four"), Reach::Unreachable { .. }));
    // It says so on the log; none of its beats has come yet.
    ask(&controls[3], Command::ReturnNode { node: id("four") }).await;
    seconds(10).await;
    assert_eq!(reach(&controls[1], "four"), Reach::Online);
    seconds(5).await;
    assert!(matches!(reach(&controls[1], "four"), Reach::Unreachable { .. }));
}

#[tokio::test(start_paused = true)]
async fn when_many_fall_silent_nothing_is_taken_over() {
    let controls = cluster(&FOUR).await;
    let told = watch(&controls[..2], &FOUR);
    told.silence_of(&["three", "four"]);
    seconds(120).await;
    for name in ["three", "four"] {
        assert!(matches!(reach(&controls[0], name), Reach::Unreachable { .. }), "{name}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_member_asks_for_what_it_lacks_and_ends_its_own_evacuation() {
    let controls = cluster(&FOUR[..2]).await;
    let pool = |name: &str| Command::CreatePool {
        name: name.to_owned(),
        driver: "dir".to_owned(),
        description: String::new(),
        config: Config::new(),
    };
    ask(&controls[0], pool("a")).await;
    let told = watch(&controls, &FOUR);
    let [token, join, _] = furniture::joining("three");
    ask(&controls[0], token).await;
    ask(&controls[1], join).await;
    let asked = |control: &Control| {
        control.world().pools.values().all(|pool| pool.parts.get(id("three")).is_some())
    };
    assert!(!asked(&controls[0]));
    tokio::spawn(Watch::new(controls[0].clone(), id("three"), told.clone()).run());
    seconds(3).await;
    assert!(asked(&controls[0]));

    let (name, mode) = ("two".to_owned(), Evacuation::Auto);
    ask(&controls[0], Command::EvacuateNode { name: name.clone(), mode }).await;
    seconds(3).await;
    let duty = |control: &Control| control.world().nodes[&id("two")].duty;
    assert_eq!(duty(&controls[1]), Duty::Evacuated);
    ask(&controls[0], Command::RestoreNode { name }).await;
    seconds(3).await;
    assert_eq!(duty(&controls[1]), Duty::Serving);
}

#[tokio::test(start_paused = true)]
async fn deciders_of_several_nodes_do_not_pass_each_other() {
    let controls = cluster(&FOUR[..3]).await;
    controls[0].catch_up().await.unwrap();
    let guarded = |control: &Control| {
        let world = control.world();
        Server::guards().map(|guard| world.tail(guard).revision.0).sum::<u64>()
    };
    let before = guarded(&controls[0]);
    let create = |name: String| Command::CreateProfile {
        project: "default".to_owned(),
        name,
        wanted: Box::default(),
    };
    let many = (0..24).map(|n| {
        let control = controls[n % 3].clone();
        let command = create(format!("p{n}"));
        tokio::spawn(async move { control.submit(command, Request::by(Actor::system())).await })
    });
    for done in futures::future::join_all(many).await {
        done.unwrap().unwrap();
    }
    controls[0].catch_up().await.unwrap();
    assert_eq!(guarded(&controls[0]) - before, 24);
}
