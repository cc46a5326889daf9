//! Programs and consoles over websockets.

use axum::http::Method;
use serde_json::{Value, json};
use stapes_api::wire::exec::{Control, InstanceConsolePost, InstanceExecPost};

use crate::support::Daemon;

fn program(words: &[&str]) -> InstanceExecPost {
    InstanceExecPost {
        command: words.iter().map(|word| (*word).to_owned()).collect(),
        ..InstanceExecPost::default()
    }
}

#[tokio::test]
async fn output_input_and_status_go_through() {
    let daemon = Daemon::furnished().await;
    daemon.launch("web").await;
    let client = &daemon.client;
    let said = client.exec_output("web", &program(&["echo", "hello"]), b"").await.unwrap();
    assert_eq!((said.stdout.as_slice(), said.status), (&b"hello\n"[..], 0));
    let input = vec![b'x'; 1 << 20];
    let copied = client.exec_output("web", &program(&["cat"]), &input).await.unwrap();
    assert_eq!(copied.stdout.len(), input.len());
    let failed = client.exec_output("web", &program(&["sh", "-c", "exit 7"]), b"").await.unwrap();
    assert_eq!(failed.status, 7);
    let missing = client.exec_output("web", &program(&["no-such-program"]), b"").await.unwrap();
    assert_eq!(missing.status, 127);
}

#[tokio::test]
async fn the_environment_is_ours_then_the_instances_then_the_clients() {
    let daemon = Daemon::furnished().await;
    daemon.launch("web").await;
    let config = json!({"config": {"environment.TEAM": "blue", "environment.FLOOR": "1"}});
    daemon.client.send(Method::PATCH, "/1.0/instances/web", &config).await.unwrap();
    let mut post = program(&["env"]);
    post.environment.insert("FLOOR".to_owned(), "2".to_owned());
    let said = daemon.client.exec_output("web", &post, b"").await.unwrap();
    let text = String::from_utf8(said.stdout).unwrap();
    for line in ["HOME=/root", "USER=root", "LANG=C.UTF-8", "TEAM=blue", "FLOOR=2"] {
        assert!(text.lines().any(|it| it == line), "{line} is not in {text}");
    }
}

#[tokio::test]
async fn many_at_once_lose_nothing() {
    let daemon = Daemon::furnished().await;
    daemon.launch("web").await;
    let runs = (0..32).map(|number| {
        let client = daemon.client.clone();
        async move {
            let word = format!("number-{number}");
            let said = client.exec_output("web", &program(&["echo", &word]), b"").await.unwrap();
            assert_eq!(said.stdout, format!("{word}\n").into_bytes());
        }
    });
    futures::future::join_all(runs).await;
}

#[tokio::test]
async fn a_signal_reaches_the_program() {
    let daemon = Daemon::furnished().await;
    daemon.launch("web").await;
    let mut handle = daemon.client.exec("web", &program(&["sleep", "1000"])).await.unwrap();
    let fds = handle.operation.metadata.as_ref().unwrap()["fds"].as_object().unwrap().clone();
    assert_eq!(fds.keys().collect::<Vec<_>>(), ["0", "1", "2", "control"]);
    assert!(fds.values().all(|secret| secret.as_str().unwrap().len() == 64));
    handle.control.as_mut().unwrap().control(&Control::Signal { signal: 15 }).await.unwrap();
    assert_eq!(handle.wait().await.unwrap(), 143);
}

#[tokio::test]
async fn a_terminal_goes_both_ways_on_one_socket() {
    let daemon = Daemon::furnished().await;
    daemon.launch("web").await;
    let post =
        InstanceExecPost { interactive: true, width: 100, height: 40, ..program(&["echo", "hi"]) };
    let mut handle = daemon.client.exec("web", &post).await.unwrap();
    assert!(handle.stdout.is_none());
    let mut control = handle.control.take().unwrap();
    control.control(&Control::resize(120, 50)).await.unwrap();
    let said = handle.stdin.take().unwrap().collect().await.unwrap();
    assert!(String::from_utf8_lossy(&said).contains("hi"), "{said:?}");
    assert_eq!(handle.wait().await.unwrap(), 0);
}

#[tokio::test]
async fn secrets_are_for_one_use_and_wrong_ones_for_none() {
    let daemon = Daemon::furnished().await;
    daemon.launch("web").await;
    let post = json!({"command": ["true"], "wait-for-websocket": true});
    let answer = daemon.client.send(Method::POST, "/1.0/instances/web/exec", &post).await.unwrap();
    let id = answer.operation().unwrap().id;
    let path = format!("/1.0/operations/{id}/websocket");
    let headers = [
        ("connection", "upgrade"),
        ("upgrade", "websocket"),
        ("sec-websocket-version", "13"),
        ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ];
    let wrong = format!("{path}?secret=00");
    let sent = daemon.client.send_bytes(Method::GET, &wrong, Vec::new(), &headers).await;
    assert_eq!(sent.unwrap_err().error_code(), 403);
}

#[tokio::test]
async fn recorded_output_lies_in_files() {
    let daemon = Daemon::furnished().await;
    daemon.launch("web").await;
    let post = json!({"command": ["echo", "kept"], "record-output": true});
    let operation =
        daemon.client.run(Method::POST, "/1.0/instances/web/exec", &post).await.unwrap().unwrap();
    let metadata = operation.metadata.unwrap();
    assert_eq!(metadata["return"], 0);
    let url = metadata["output"]["1"].as_str().unwrap().to_owned();
    let kept = daemon.client.download(&url).await.unwrap().bytes().await.unwrap();
    assert_eq!(&kept[..], b"kept\n");
    let list: Value = daemon.client.get("/1.0/instances/web/logs/exec-output").await.unwrap();
    assert_eq!(list.as_array().unwrap().len(), 2);
    daemon.client.delete(&url).await.unwrap();
    assert!(daemon.client.download(&url).await.unwrap_err().is_not_found());
    let outside = "/1.0/instances/web/logs/exec-output/..%2F..%2Funix.socket";
    assert_eq!(daemon.client.download(outside).await.unwrap_err().error_code(), 400);
}

#[tokio::test]
async fn a_program_needs_a_running_instance() {
    let daemon = Daemon::furnished().await;
    daemon.launch("web").await;
    let stop = json!({"action": "stop", "force": true});
    daemon.client.run(Method::PUT, "/1.0/instances/web/state", &stop).await.unwrap();
    let refused = daemon.client.exec_output("web", &program(&["true"]), b"").await.unwrap_err();
    assert_eq!(
        (refused.error_code(), refused.to_string().as_str()),
        (400, "Instance is not running")
    );
}

#[tokio::test]
async fn a_console_is_attached_and_left() {
    let daemon = Daemon::furnished().await;
    daemon.launch("web").await;
    let post = InstanceConsolePost { width: 80, height: 24, ..InstanceConsolePost::default() };
    let mut session = daemon.client.console("web", &post).await.unwrap();
    session.control.end().await.unwrap();
    let operation = daemon.client.wait(&session.operation.id).await.unwrap();
    assert_eq!(operation.description, "Showing console");
}
