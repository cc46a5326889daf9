//! Guests on the machines: where they are, whether they are well, and how they are reached.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use stapes_api::client::Method;

use super::Hosts;

/// What a move says of itself.
#[derive(Clone, Debug)]
pub struct Moved {
    /// `stop-copy`, `near-live` or `live`.
    pub mode: String,
    /// For how long nobody could reach it.
    pub downtime: Duration,
    pub bytes: u64,
    /// For whoever asked for it.
    pub took: Duration,
    /// What the machines said of its phases, in their order.
    pub phases: Vec<String>,
}

/// In the lines of a daemon that tell what took how long while a guest stood still.
const PHASES: &str = " phases=";

impl Hosts {
    /// Moves an instance, as a client of machine `at` that asks for live `required`, `preferred` or
    /// `never`.
    ///
    /// # Panics
    /// When it does not move.
    pub async fn moved(&self, at: usize, name: &str, to: &str, live: &str) -> Moved {
        let before: Vec<_> = self.hosts.iter().map(|it| it.said_of(PHASES).len()).collect();
        let began = Instant::now();
        let path = format!("/1.0/instances/{name}?target={to}&live={live}");
        let post = json!({"name": name, "migration": true, "live": live != "never"});
        let ran = self.hosts[at].client().run(Method::POST, &path, &post).await;
        let took = began.elapsed();
        let operation = ran.unwrap_or_else(|error| panic!("{name} to {to}: {error}"));
        let gain = operation.and_then(|it| it.metadata).unwrap_or_default();
        assert_eq!(self.location(at, name).await, to);
        let text = |key: &str| gain.get(key).and_then(Value::as_str).unwrap_or_default();
        let number = |key: &str| text(key).parse().unwrap_or_else(|_| panic!("{key}: {gain:?}"));
        let downtime = Duration::from_millis(number("downtime_ms"));
        let mut phases = Vec::new();
        for (host, before) in self.hosts.iter().zip(before) {
            // Each begins with its time.
            phases.extend(host.said_of(PHASES).into_iter().skip(before));
        }
        phases.sort();
        Moved { mode: text("mode").to_owned(), downtime, bytes: number("bytes"), took, phases }
    }

    /// What machine `at`'s daemon knows of an instance.
    ///
    /// # Panics
    /// When there is no such instance.
    pub async fn instance(&self, at: usize, name: &str) -> Value {
        let path = format!("/1.0/instances/{name}");
        let answer = self.hosts[at].client().get(&path).await;
        answer.unwrap_or_else(|error| panic!("{path}: {error}"))
    }

    /// The machine that an instance is on, as machine `at` tells it.
    pub async fn location(&self, at: usize, name: &str) -> String {
        self.instance(at, name).await["location"].as_str().unwrap_or_default().to_owned()
    }

    /// The instance's address in the guests' network.
    ///
    /// # Panics
    /// When it has none in time.
    pub async fn address(&self, at: usize, name: &str) -> String {
        let path = format!("/1.0/instances/{name}/state");
        let mut found = None;
        self.wait_for(&format!("{name} has an address"), async || {
            let state: Value = self.hosts[at].client().get(&path).await.unwrap_or_default();
            let addresses = state["network"]["eth0"]["addresses"].as_array().cloned();
            let inet = addresses
                .unwrap_or_default()
                .into_iter()
                .find(|address| address["family"] == "inet" && address["scope"] == "global");
            found = inet.and_then(|address| Some(address["address"].as_str()?.to_owned()));
            found.is_some()
        })
        .await;
        found.expect("it was waited for")
    }

    /// Waits until systemd in a guest says that all is well.
    ///
    /// # Panics
    /// When it does not in time.
    pub async fn systemd_runs(&self, at: usize, name: &str) {
        self.wait_for(&format!("systemd in {name} is up"), async || {
            let words = ["exec", name, "--", "systemctl", "is-system-running"];
            let asked = self.hosts[at].try_stapes(&words);
            String::from_utf8_lossy(&asked.stdout).trim() == "running"
        })
        .await;
    }

    /// Every instance is on the machine that all daemons name, as processes there and nowhere else.
    ///
    /// # Panics
    /// When one is not.
    pub async fn assert_each_on_one_machine(&self, alive: &[usize], names: &[&str]) {
        for name in names {
            let told = self.location(alive[0], name).await;
            for at in alive {
                let there = &self.hosts[*at].name;
                self.wait_for(&format!("{there} knows that {name} is on {told}"), async || {
                    self.location(*at, name).await == told
                })
                .await;
            }
            let id = self.instance(alive[0], name).await["config"]["volatile.uuid"].clone();
            let id = id.as_str().expect("an instance has an id").to_owned();
            // What the instance left behind is removed by a task that nobody waits for.
            let runs_on = || -> Vec<&str> {
                let hosts = self.hosts.iter();
                hosts.filter(|it| it.has_guest(&id)).map(|it| it.name.as_str()).collect()
            };
            self.wait_for(&format!("{name} runs on {told} and only there"), async || {
                runs_on() == [told.as_str()]
            })
            .await;
        }
    }

    /// The client's own address in the guests' network: the last but one of its range.
    pub fn join_guests(&self) {
        let shown = self.hosts[0].stapes(&["network", "get", "stapesbr0", "ipv4.address"]);
        let (gateway, prefix) = shown.trim().split_once('/').expect("an address and its prefix");
        let (net, _) = gateway.rsplit_once('.').expect("an IPv4 address");
        self.client.address("eth0", &format!("{net}.254/{prefix}"));
    }
}

impl super::Host {
    /// Whether there are processes of an instance here.
    #[must_use]
    pub fn has_guest(&self, id: &str) -> bool {
        let runs = |path: &Path| {
            path.to_string_lossy().contains(id)
                && std::fs::read_to_string(path.join("cgroup.procs"))
                    .is_ok_and(|pids| !pids.trim().is_empty())
        };
        self.traces().cgroups().iter().any(|path| runs(path))
    }
}
