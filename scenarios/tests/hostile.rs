//! Bad input from end to end, without root: requests, directories and logs that no daemon may
//! accept. Each is refused with words that say what to do, changes nothing, and the daemon lives.

use std::{fs, os::unix::fs::PermissionsExt as _, path::PathBuf};

use serde_json::{Value, json};
use stapes_api::client::{ApiError, Client, ClientError, Method};
use stapes_scenarios::real::{Answers, Mode, Real, answers};

const INSTANCES: &str = "/1.0/instances";
const WEB: &str = "/1.0/instances/web";

fn image(name: &str) -> Value {
    json!({"name": name, "source": {"type": "image", "alias": "demo"}})
}

fn with(mut body: Value, key: &str, value: Value) -> Value {
    body[key] = value;
    body
}

/// How the daemon refused: at once, or when the operation ended.
async fn refusal(client: &Client, method: Method, path: &str, body: &Value) -> ApiError {
    let ran = match method {
        Method::DELETE => client.run_delete(path).await,
        method => client.run(method, path, body).await,
    };
    match ran {
        Err(ClientError::Api(error)) => error,
        Err(ClientError::Operation { operation }) => ApiError {
            error_code: 400,
            text: operation.err.clone(),
            code: None,
            hint: None,
            facts: Default::default(),
        },
        other => panic!("{path} {body}: {other:?}"),
    }
}

/// Without what tells that something was tried: operations that failed stay in their history.
async fn things(client: &Client) -> Answers {
    let mut answers = answers(client).await;
    answers.retain(|path, _| !path.contains("operations"));
    answers
}

#[tokio::test]
async fn bad_requests_change_nothing() {
    let mut daemon = Real::started(Mode::Simulated).await;
    let client = daemon.client();
    client.run(Method::POST, INSTANCES, &image("web")).await.expect("a good request");
    let before = things(&client).await;
    let long = "x".repeat(64);
    let mut requests: Vec<(Method, &str, Value, u16)> =
        ["-a", "a-", "1a", "a_b", "a.b", "a b", "../a", "ä", &long]
            .into_iter()
            .map(|name| (Method::POST, INSTANCES, image(name), 400))
            .collect();
    let of = |key: &str, value: Value| with(image("new"), key, value);
    let disk = |keys: Value| of("devices", json!({"root": keys}));
    requests.extend([
        (Method::POST, INSTANCES, image("web"), 409),
        (Method::POST, INSTANCES, of("source", json!({"type": "image", "alias": "none"})), 404),
        (Method::POST, INSTANCES, of("source", json!({"type": "image", "fingerprint": "zz"})), 404),
        (Method::POST, INSTANCES, of("source", json!({"type": "copy", "source": "none"})), 404),
        (Method::POST, INSTANCES, of("source", json!({"type": "sorcery"})), 400),
        (Method::POST, INSTANCES, of("config", json!({"no.such.key": "1"})), 400),
        (Method::POST, INSTANCES, of("config", json!({"limits.memory": "much"})), 400),
        (Method::POST, INSTANCES, of("config", json!({"limits.memory": "-1"})), 400),
        (Method::POST, INSTANCES, of("config", json!({"limits.cpu": "0"})), 400),
        (Method::POST, INSTANCES, of("config", json!({"limits.processes": "many"})), 400),
        (Method::POST, INSTANCES, of("profiles", json!(["none"])), 404),
        (Method::POST, INSTANCES, disk(json!({"type": "disk", "path": "/", "pool": "none"})), 404),
        (
            Method::POST,
            INSTANCES,
            disk(json!({"type": "disk", "path": "/", "pool": "default", "size": "big"})),
            400,
        ),
        (Method::POST, INSTANCES, disk(json!({"type": "sorcery"})), 400),
        (Method::PUT, "/1.0/instances/web/state", json!({"action": "stop"}), 400),
        (Method::PUT, "/1.0/instances/web/state", json!({"action": "freeze"}), 400),
        (Method::PUT, "/1.0/instances/web/state", json!({"action": "dance"}), 400),
        (Method::PUT, "/1.0/instances/none/state", json!({"action": "start"}), 404),
        (Method::PATCH, WEB, json!({"config": {"no.such.key": "1"}}), 400),
        (Method::PUT, WEB, json!({"restore": "none"}), 404),
        (Method::POST, WEB, json!({"name": "a/b"}), 400),
        (Method::POST, "/1.0/instances/web/snapshots", json!({"name": "a/b"}), 400),
        (Method::DELETE, "/1.0/instances/web/snapshots/none", Value::Null, 404),
        (Method::DELETE, "/1.0/instances/none", Value::Null, 404),
        (Method::DELETE, "/1.0/profiles/default", Value::Null, 403),
        (Method::DELETE, "/1.0/storage-pools/default", Value::Null, 400),
        (Method::DELETE, "/1.0/networks/stapesbr0", Value::Null, 400),
        (Method::POST, "/1.0/storage-pools", json!({"name": "p", "driver": "tape"}), 400),
        (Method::POST, "/1.0/storage-pools", json!({"name": "default", "driver": "btrfs"}), 409),
        (Method::POST, "/1.0/networks", json!({"name": "much-too-long-for-a-link"}), 400),
        (
            Method::POST,
            "/1.0/networks",
            json!({"name": "n", "config": {"ipv4.address": "1.2.3.4.5/6"}}),
            400,
        ),
        (Method::POST, "/1.0/profiles", json!({"name": "a b"}), 400),
        (Method::POST, "/1.0/projects", json!({"name": "default"}), 409),
        (Method::GET, "/1.0/nothing", Value::Null, 404),
    ]);
    let mut wrong = Vec::new();
    for (method, path, body, code) in requests {
        let refused = refusal(&client, method.clone(), path, &body).await;
        if refused.error_code != code || refused.text.is_empty() {
            wrong.push(format!("{method} {path} {body}: {code} expected: {refused:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert_eq!(things(&client).await, before, "nothing was changed");
    daemon.stop().await;
}

#[tokio::test]
async fn bodies_that_are_none_are_refused() {
    let mut daemon = Real::started(Mode::Simulated).await;
    let client = daemon.client();
    let huge = format!("{{\"name\": \"{}\"}}", "x".repeat(2 << 20));
    for (body, code) in
        [("", 400), ("{", 400), ("[]", 400), ("{\"name\": 1}", 400), (huge.as_str(), 413)]
    {
        let json = [("content-type", "application/json")];
        let sent = client.send_bytes(Method::POST, INSTANCES, body.to_owned(), &json).await;
        let Err(ClientError::Api(refused)) = sent else { panic!("{:.40}: {sent:?}", body) };
        assert_eq!(refused.error_code, code, "{:.40}: {refused:?}", body);
    }
    // On a connection of its own: the one of a body that was not read to its end is closed.
    let _: Value = daemon.client().get("/1.0").await.expect("the daemon lives");
    daemon.stop().await;
}

/// Starts, and is refused with all of these words.
async fn assert_refused(daemon: &mut Real, words: &[&str]) {
    let said = daemon.try_start().await.expect_err("it does not start");
    for word in words {
        assert!(said.contains(word), "{word:?} is not said:\n{said}");
    }
}

#[tokio::test]
async fn a_second_daemon_leaves_the_first_alone() {
    let mut daemon = Real::started(Mode::Simulated).await;
    let mut second = daemon.beside();
    assert_refused(&mut second, &["another process has the log open", "stop it first"]).await;
    let _: Value = daemon.client().get("/1.0").await.expect("the first one serves");
    daemon.stop().await;
}

#[tokio::test]
async fn a_directory_that_others_write_is_refused() {
    let mut daemon = Real::new(Mode::Simulated);
    fs::set_permissions(daemon.directory(), fs::Permissions::from_mode(0o777)).expect("chmod");
    assert_refused(&mut daemon, &["may be written by others", "chmod go-w"]).await;
    fs::set_permissions(daemon.directory(), fs::Permissions::from_mode(0o711)).expect("chmod");
    fs::write(daemon.directory().join("node-id"), "nonsense").expect("write");
    assert_refused(&mut daemon, &["holds no node id"]).await;
    fs::remove_file(daemon.directory().join("node-id")).expect("remove");
    daemon.start().await;
    daemon.stop().await;
}

/// The log of a daemon that has gone, as files: the only segment and the mark of its head.
async fn a_log() -> (Real, PathBuf) {
    let mut daemon = Real::started(Mode::Simulated).await;
    daemon.client().run(Method::POST, INSTANCES, &image("web")).await.expect("it is made");
    daemon.stop().await;
    let log = daemon.directory().join("log");
    let segments = fs::read_dir(&log).expect("there is a log").flatten().map(|it| it.path());
    let mut segments: Vec<_> = segments
        .filter(|path| path.extension().is_some_and(|it| it == "seg" || it == "log"))
        .collect();
    segments.sort();
    let segment = segments.pop().unwrap_or_else(|| {
        panic!(
            "{:?}",
            fs::read_dir(&log).expect("a log").flatten().map(|it| it.path()).collect::<Vec<_>>()
        )
    });
    (daemon, segment)
}

#[tokio::test]
async fn a_log_with_a_flipped_bit_is_not_opened() {
    let (mut daemon, segment) = a_log().await;
    let good = fs::read(&segment).expect("a segment");
    let mut bad = good.clone();
    // In the middle of what was written: valid records follow, so that it is no torn tail.
    let written = good.iter().rposition(|byte| *byte != 0).expect("records");
    bad[written / 2] ^= 1;
    fs::write(&segment, &bad).expect("write");
    assert_refused(&mut daemon, &["the log is damaged", "restore the file from a backup"]).await;
    assert_eq!(fs::read(&segment).expect("a segment"), bad, "nothing was changed");
    fs::write(&segment, &good).expect("write");
    daemon.start().await;
    let _: Value = daemon.client().get(WEB).await.expect("nothing is lost");
    daemon.stop().await;
}

#[tokio::test]
async fn a_log_that_went_backwards_is_not_opened() {
    let mut daemon = Real::started(Mode::Simulated).await;
    daemon.stop().await;
    let log = daemon.directory().join("log");
    let older: Vec<(PathBuf, Vec<u8>)> = fs::read_dir(&log)
        .expect("a log")
        .flatten()
        .filter(|it| it.file_name() != "head" && it.file_name() != "lock" && it.path().is_file())
        .map(|it| (it.path(), fs::read(it.path()).expect("a file")))
        .collect();
    daemon.start().await;
    for name in ["a", "b", "c"] {
        daemon.client().run(Method::POST, INSTANCES, &image(name)).await.expect("it is made");
    }
    daemon.stop().await;
    for (path, bytes) in older {
        fs::write(path, bytes).expect("write");
    }
    assert_refused(&mut daemon, &["it went backwards", "restore it from a backup"]).await;
}
