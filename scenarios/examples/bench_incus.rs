//! Times what people do all day on two servers that speak the dialect, with the same client code,
//! turn by turn: `bench_incus OURS.socket PEER.socket IMAGE-ALIAS ROUNDS`. Both must have a default
//! profile with a root disk and the image. `scenarios/bench.sh` makes both and runs this.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "the table is what it is for")]

use std::{
    collections::BTreeMap,
    error::Error,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use stapes_api::{
    client::{Client, Method},
    wire::exec::InstanceExecPost,
};

type Outcome<T> = Result<T, Box<dyn Error>>;

/// What is timed, in the order in which it is done to one instance.
const VERBS: [&str; 10] = [
    "create",
    "start",
    "exec true",
    "GET full",
    "PATCH config",
    "snapshot",
    "copy",
    "force stop",
    "restore",
    "delete",
];

/// Lives that may go wrong in a row.
const MISHAPS_MAX: u32 = 10;

/// What each verb took, round by round.
type Times = BTreeMap<&'static str, Vec<Duration>>;

#[tokio::main]
async fn main() -> Outcome<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [ours, peer, image, rounds] = arguments.as_slice() else {
        return Err("usage: bench_incus OURS.socket PEER.socket IMAGE-ALIAS ROUNDS".into());
    };
    let rounds: u32 = rounds.parse()?;
    let servers = [Client::unix(ours), Client::unix(peer)];
    let mut times = [Times::new(), Times::new()];
    // The first round warms both up: the image is unpacked into the pool, caches are filled.
    for round in 0..=rounds {
        for (server, times) in servers.iter().zip(&mut times) {
            let taken = whole_life(server, image, round).await?;
            if round > 0 {
                for (verb, took) in taken {
                    times.entry(verb).or_default().extend(took);
                }
            }
        }
    }
    table(image, rounds, &times);
    Ok(())
}

/// A life without a mishap. Incus now and then says that an operation is done and then that it is
/// not; what was timed until then is not counted.
async fn whole_life(client: &Client, image: &str, round: u32) -> Outcome<Times> {
    let mut mishap = String::new();
    for attempt in 0..MISHAPS_MAX {
        let name = format!("bench{round}-{attempt}");
        let mut times = Times::new();
        match life(client, image, &name, &mut times).await {
            Ok(()) => return Ok(times),
            Err(error) => mishap = format!("{}: {error}", client.socket().display()),
        }
        eprintln!("{mishap}; once more");
        for left in [name.clone(), format!("{name}c")] {
            let path = format!("/1.0/instances/{left}");
            let stop = json!({"action": "stop", "force": true, "timeout": 30});
            // What is not there, or does not run, is as it should be.
            let _ = client.run(Method::PUT, &format!("{path}/state"), &stop).await;
            let _ = client.run_delete(&path).await;
        }
    }
    Err(mishap.into())
}

/// One instance's life.
async fn life(client: &Client, image: &str, name: &str, times: &mut Times) -> Outcome<()> {
    let path = format!("/1.0/instances/{name}");
    let state = |action: &str| json!({"action": action, "force": true, "timeout": 30});
    let source = json!({"type": "image", "alias": image});
    let create = json!({"name": name, "source": source});
    timed(times, "create", client.run(Method::POST, "/1.0/instances", &create)).await?;
    let at = format!("{path}/state");
    timed(times, "start", client.run(Method::PUT, &at, &state("start"))).await?;
    let post = InstanceExecPost { command: vec!["true".to_owned()], ..InstanceExecPost::default() };
    let output = timed(times, "exec true", client.exec_output(name, &post, &[])).await?;
    if output.status != 0 {
        return Err(format!("true ended with {}", output.status).into());
    }
    let full = format!("{path}?recursion=1");
    let _: Value = timed(times, "GET full", client.get(&full)).await?;
    let patch = json!({"config": {"user.of": name}});
    timed(times, "PATCH config", client.run(Method::PATCH, &path, &patch)).await?;
    let snapshots = format!("{path}/snapshots");
    timed(times, "snapshot", client.run(Method::POST, &snapshots, &json!({"name": "one"}))).await?;
    let copy = json!({"name": format!("{name}c"), "source": {"type": "copy", "source": name}});
    timed(times, "copy", client.run(Method::POST, "/1.0/instances", &copy)).await?;
    timed(times, "force stop", client.run(Method::PUT, &at, &state("stop"))).await?;
    timed(times, "restore", client.run(Method::PUT, &path, &json!({"restore": "one"}))).await?;
    timed(times, "delete", client.run_delete(&path)).await?;
    client.run_delete(&format!("{path}c")).await?;
    Ok(())
}

async fn timed<T, E>(
    times: &mut Times,
    verb: &'static str,
    act: impl Future<Output = Result<T, E>>,
) -> Result<T, String>
where
    E: Error,
{
    let since = Instant::now();
    let outcome = act.await;
    times.entry(verb).or_default().push(since.elapsed());
    outcome.map_err(|error| format!("{verb}: {error}"))
}

fn table(image: &str, rounds: u32, [ours, peer]: &[Times; 2]) {
    println!("{image}: median of {rounds} in ms, request until the operation is done");
    println!(
        "| verb | stapes | min-max | Incus 6.0.4 | min-max | ratio |\n|---|---|---|---|---|---|"
    );
    let mut logarithms = 0.0;
    for verb in VERBS {
        let (ours, peer) = (Spread::of(&ours[verb]), Spread::of(&peer[verb]));
        let ratio = peer.median / ours.median;
        logarithms += ratio.ln();
        println!("| {verb} | {ours} | {peer} | {ratio:.1} |");
    }
    let count = u32::try_from(VERBS.len()).map_or(1.0, f64::from);
    println!("| geometric mean | | | | | **{:.1}** |", (logarithms / count).exp());
}

/// In milliseconds.
struct Spread {
    median: f64,
    least: f64,
    most: f64,
}

impl Spread {
    fn of(times: &[Duration]) -> Self {
        let mut sorted: Vec<f64> = times.iter().map(|time| time.as_secs_f64() * 1e3).collect();
        sorted.sort_by(f64::total_cmp);
        let (least, most) = (sorted[0], sorted[sorted.len() - 1]);
        Self { median: sorted[sorted.len() / 2], least, most }
    }
}

impl std::fmt::Display for Spread {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:.2} | {:.1}-{:.1}", self.median, self.least, self.most)
    }
}
