//! Two daemons on a log server that is not theirs: it asks for a password, and knows nothing of stapes.
//! No root is needed, and the guests are pretend ones; the programs, the server and TLS between the
//! members are real.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may panic")]

use std::{net::TcpListener, process::Stdio, time::Duration};

use serde_json::{Value, json};
use stapes_api::client::Method;
use stapes_nats::testing::Servers;
use stapes_scenarios::real::{Mode, Real, stapes};

/// How long the daemons may take for what they do by themselves, on a machine that is busy.
const WITHIN: Duration = Duration::from_secs(60);
const OPEN: &str = "max_payload: 2MB\nauthorization { user: stapes, password: secret }\n";

fn server() -> (Servers, String) {
    let servers = Servers::start_with(1, OPEN, "sync_interval: always");
    let url = servers.urls()[0].replace("nats://", "nats://stapes:secret@");
    (servers, url)
}

fn free_address() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().to_string()
}

async fn run(daemon: &Real, arguments: &[&str]) -> Result<String, String> {
    let mut command = tokio::process::Command::new(stapes());
    command.args(arguments).env("STAPES_DIR", daemon.directory()).env_remove("STAPES_SOCKET");
    let output = command.stdin(Stdio::null()).env("NO_COLOR", "1").output().await.unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    match output.status.success() {
        true => Ok(text(&output.stdout)),
        false => Err(text(&output.stderr)),
    }
}

/// Pretend images have no files to be fetched: what is to run elsewhere begins with nothing.
async fn launch(at: &Real, name: &str, target: &str, config: Value) {
    let body = json!({"name": name, "source": {"type": "none"}, "start": true, "config": config});
    let path = format!("/1.0/instances{target}");
    at.client().run(Method::POST, &path, &body).await.unwrap();
}

/// A member may hear a moment later what another one was told: what is not there yet is nothing.
async fn instance(at: &Real, name: &str) -> Value {
    at.client().get(&format!("/1.0/instances/{name}")).await.unwrap_or_default()
}

async fn shows(at: &Real, name: &str, value: &str, of: impl Fn(&Value) -> &Value) {
    until(&format!("{name} shows {value}"), || async { of(&instance(at, name).await) == value })
        .await;
}

/// The instance's entries in the log: what happened to it, and what was ordered.
async fn history(at: &Real, name: &str) -> usize {
    let entries: Value = at.client().get(&format!("/1.0/instances/{name}/history")).await.unwrap();
    entries.as_array().unwrap().len()
}

async fn until<F: Future<Output = bool>>(what: &str, mut is_so: impl FnMut() -> F) {
    let waited = async {
        while !is_so().await {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    assert!(tokio::time::timeout(WITHIN, waited).await.is_ok(), "waited in vain until {what}");
}

async fn joined(founder: &Real, name: &str) -> Real {
    let token = run(founder, &["cluster", "add", name]).await.unwrap();
    let joiner = Real::started(Mode::Simulated).await;
    let listens = free_address();
    run(&joiner, &["cluster", "join", token.trim(), "--address", &listens]).await.unwrap();
    joiner
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_members_share_a_server_that_is_not_theirs() {
    let (servers, url) = server();
    let mut one = Real::started(Mode::Simulated).await;
    launch(&one, "before", "", json!({})).await;
    let listens = free_address();
    let wrong = url.replace("secret", "guessed");
    let enable = ["cluster", "enable", "n1", "--address", &listens, "--nats"];
    let refused = run(&one, &[&enable[..], &[&wrong]].concat()).await.unwrap_err();
    assert!(refused.contains("does not let this node in"), "{refused}");
    assert!(!refused.contains("guessed"), "no password is shown: {refused}");
    run(&one, &[&enable[..], &[&url]].concat()).await.unwrap();

    // What was done before is not done again: pretend guests of the old daemon are gone, and nothing
    // but their end is written.
    shows(&one, "before", "Stopped", |it| &it["status"]).await;
    let own = |file: &str| std::fs::read(format!("/proc/{}/{file}", one.pid().unwrap())).unwrap();
    assert_eq!(own("comm"), b"stapes\n", "the daemon that started anew keeps its name");
    assert!(own("cmdline").starts_with(stapes().as_os_str().as_encoded_bytes()));
    let entries = history(&one, "before").await;
    launch(&one, "after", "", json!({})).await;
    assert_eq!(history(&one, "before").await, entries);

    let mut two = joined(&one, "n2").await;
    launch(&one, "there", "?target=n2", json!({})).await;
    shows(&two, "there", "n2", |it| &it["location"]).await;
    shows(&one, "there", "Running", |it| &it["status"]).await;

    // A task that was ordered while its node was away is there when it is back.
    two.crash().await;
    tokio::join!(launch(&one, "late", "?target=n2", json!({})), two.start());
    shows(&two, "late", "Running", |it| &it["status"]).await;

    // And the founder comes back after a crash.
    one.crash().await;
    one.start().await;
    let cluster: Value = one.client().get("/1.0/cluster").await.unwrap();
    assert_eq!(cluster["health"]["log"], "external");
    drop(servers);
}

/// A key that is drawn after a member joined reaches it when it is needed, whoever draws it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn secrets_of_a_new_project_open_on_every_member() {
    let (_servers, url) = server();
    let one = Real::started(Mode::Simulated).await;
    let listens = free_address();
    run(&one, &["cluster", "enable", "n1", "--address", &listens, "--nats", &url]).await.unwrap();
    let two = joined(&one, "n2").await;
    let secret = json!({"environment.TOKEN": "tomato"});
    launch(&one, "there", "?target=n2", secret.clone()).await;
    shows(&one, "there", "Running", |it| &it["status"]).await;
    shows(&two, "there", "tomato", |it| &it["config"]["environment.TOKEN"]).await;
    launch(&two, "here", "?target=n1", secret).await;
    shows(&one, "here", "tomato", |it| &it["config"]["environment.TOKEN"]).await;
    let keys = |daemon: &Real| {
        let entries = std::fs::read_dir(daemon.directory().join("keys")).unwrap();
        let mut keys: Vec<_> = entries
            .map(|entry| entry.unwrap().path())
            .map(|path| (path.file_name().unwrap().to_owned(), std::fs::read(path).unwrap()))
            .collect();
        keys.sort();
        keys
    };
    assert_eq!(keys(&one), keys(&two));
    assert_eq!(keys(&one).len(), 1);
}
