//! The daemon is killed with -9 at random moments of everything that it does, and started again.
//!
//! After each start: every operation that was acknowledged ends, and guests that nobody had asked
//! anything of still run, as the same process. In the end the log tells what is served, and when all
//! is deleted nothing of it is left on the host. `STAPES_SEED` repeats a run's choices (not the
//! kernel's), `STAPES_KILLS` makes it longer.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use futures::future::join_all;
use serde_json::{Value, json};
use stapes_api::client::{Answer, Client, ClientError, Method};
use stapes_scenarios::real::{BUSYBOX, Mode, Real, dice::Dice};

const KILLS: u64 = 50;
/// Requests at once, as many clients.
const WORKERS: u64 = 4;
/// Guests that are asked for things; their names come again and again.
const NAMES: [&str; 6] = ["g0", "g1", "g2", "g3", "g4", "g5"];
/// A guest that nobody asks anything of.
const QUIET: [&str; 2] = ["quiet0", "quiet1"];
/// Until the daemon is killed, since the requests began.
const MILLISECONDS: std::ops::Range<u64> = 1..400;
const ENDED_WITHIN: Duration = Duration::from_secs(60);

/// What clients know when the daemon is gone.
#[derive(Debug, Default)]
struct Told {
    acknowledged: Vec<(String, String)>,
    touched: BTreeSet<String>,
}

type Shared = Arc<Mutex<Told>>;

#[tokio::test]
async fn nothing_is_lost_in_fifty_crashes() {
    let seed = Dice::seed();
    let kills = std::env::var("STAPES_KILLS").ok().and_then(|text| text.parse().ok());
    eprintln!("STAPES_SEED={seed}");
    let mut dice = Dice::new(seed);
    let mut daemon = Real::started(Mode::Host).await;
    daemon.furnish().await;
    for name in QUIET {
        launch(&daemon.client(), name).await.expect("it is launched");
    }
    let (mut acknowledged, since) = (0, Instant::now());
    for kill in 0..kills.unwrap_or(KILLS) {
        acknowledged += round(&mut daemon, &mut dice, kill).await;
    }
    eprintln!("{acknowledged} operations acknowledged, {:.0?} in all", since.elapsed());
    let replayed = daemon.client().send(Method::POST, "/1.0/replay", &json!({})).await;
    let replayed = replayed.expect("the log is folded").envelope.metadata;
    assert_eq!(replayed["identical"], json!(true), "{replayed}");
    daemon.dismantle().await;
}

/// Requests, a crash among them, a restart, and the proof.
async fn round(daemon: &mut Real, dice: &mut Dice, kill: u64) -> usize {
    let before = running(&daemon.client()).await;
    let told = Shared::default();
    let workers = (0..WORKERS).map(|_| {
        let (client, told, dice) = (daemon.client(), told.clone(), Dice::new(dice.number()));
        tokio::spawn(work(client, told, dice))
    });
    let workers: Vec<_> = workers.collect();
    // The moment of the crash, which is what is tried here.
    tokio::time::sleep(Duration::from_millis(dice.within(MILLISECONDS))).await;
    daemon.crash().await;
    for worker in join_all(workers).await {
        worker.expect("a worker ends when the daemon is gone");
    }
    daemon.start().await;
    let told = std::mem::take(&mut *told.lock().expect("no worker panicked"));
    for (id, what) in &told.acknowledged {
        assert_ends(&daemon.client(), id, what, kill).await;
    }
    assert_settled(&daemon.client(), kill).await;
    let after = running(&daemon.client()).await;
    for (name, pid) in before.iter().filter(|(name, _)| !told.touched.contains(*name)) {
        assert_eq!(
            after.get(name),
            Some(pid),
            "crash {kill}: {name} ran and nobody asked it to stop"
        );
        assert!(std::path::Path::new(&format!("/proc/{pid}")).exists(), "crash {kill}: {name}");
    }
    // Removes the guests' names from the bridges' ports, so that they are known at the end.
    let _ = daemon.traces().links();
    told.acknowledged.len()
}

/// One request after the other, until the daemon is gone.
async fn work(client: Client, told: Shared, mut dice: Dice) {
    loop {
        let name = *dice.one_of(&NAMES);
        let other = *dice.one_of(&NAMES);
        told.lock()
            .expect("no worker panicked")
            .touched
            .extend([name.to_owned(), other.to_owned()]);
        let (what, asked) = request(&client, &mut dice, name, other).await;
        match asked {
            Ok(answer) => {
                let Some(operation) = answer.operation() else { continue };
                let id = operation.id.clone();
                told.lock().expect("no worker panicked").acknowledged.push((id.clone(), what));
                match client.wait(&id).await {
                    Ok(_) | Err(ClientError::Operation { .. }) => {}
                    Err(_) => return,
                }
            }
            // Of a name that is not there, or in a state that does not fit.
            Err(ClientError::Api(_)) => {}
            Err(_) => return,
        }
    }
}

async fn request(
    client: &Client,
    dice: &mut Dice,
    name: &str,
    other: &str,
) -> (String, Result<Answer, ClientError>) {
    let path = format!("/1.0/instances/{name}");
    let state = |action: &str| json!({"action": action, "timeout": 5, "force": action != "start"});
    let (what, method, path, body) = match dice.within(0..12) {
        0..4 => ("launch", Method::POST, "/1.0/instances".to_owned(), launched(name)),
        4 => ("stop", Method::PUT, format!("{path}/state"), state("stop")),
        5 => ("start", Method::PUT, format!("{path}/state"), state("start")),
        6 => ("restart", Method::PUT, format!("{path}/state"), state("restart")),
        7 => ("snapshot", Method::POST, format!("{path}/snapshots"), json!({"name": "s"})),
        8 => ("restore", Method::PUT, path, json!({"restore": "s"})),
        9 => {
            let source = json!({"type": "copy", "source": name});
            let copy = json!({"name": other, "source": source});
            ("copy", Method::POST, "/1.0/instances".to_owned(), copy)
        }
        10 => ("forget a snapshot", Method::DELETE, format!("{path}/snapshots/s"), Value::Null),
        _ => ("delete", Method::DELETE, format!("{path}?force=1"), Value::Null),
    };
    let asked = match method {
        Method::DELETE => client.delete(&path).await,
        method => client.send(method, &path, &body).await,
    };
    (format!("{what} {name}"), asked)
}

fn launched(name: &str) -> Value {
    json!({"name": name, "source": {"type": "image", "alias": BUSYBOX}, "start": true})
}

async fn launch(client: &Client, name: &str) -> Result<(), ClientError> {
    client.run(Method::POST, "/1.0/instances", &launched(name)).await.map(|_| ())
}

/// An operation that was acknowledged ends, well or not; it is not forgotten.
async fn assert_ends(client: &Client, id: &str, what: &str, kill: u64) {
    let ended = tokio::time::timeout(ENDED_WITHIN, client.wait(id)).await;
    match ended {
        Ok(Ok(_) | Err(ClientError::Operation { .. })) => {}
        Ok(Err(error)) => panic!("crash {kill}: {what} ({id}): {error}"),
        Err(_) => panic!("crash {kill}: {what} ({id}) does not end"),
    }
}

/// Operations that nobody heard the acknowledgement of end as well.
async fn assert_settled(client: &Client, kill: u64) {
    let groups: BTreeMap<String, Vec<Value>> =
        client.get("/1.0/operations?recursion=1").await.expect("a list");
    for operation in groups.get("running").into_iter().flatten() {
        let id = operation["id"].as_str().expect("it has one");
        let what = operation["description"].as_str().unwrap_or_default();
        assert_ends(client, id, what, kill).await;
    }
}

/// The guests that run, with their first processes.
async fn running(client: &Client) -> BTreeMap<String, i64> {
    let all: Vec<Value> = client.get("/1.0/instances?recursion=2").await.expect("a list");
    let up = all.iter().filter(|one| one["status"] == "Running");
    up.map(|one| {
        let pid = one["state"]["pid"].as_i64().unwrap_or_default();
        (one["name"].as_str().unwrap_or_default().to_owned(), pid)
    })
    .collect()
}
