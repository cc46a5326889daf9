//! A pretend daemon: answers what a test says on a unix socket in a directory of its own, and
//! remembers what it was asked.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    os::unix::net::{UnixListener, UnixStream},
    path::Path,
    process::Command,
    sync::{Arc, Mutex},
};

use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::{
    Message, WebSocket, handshake::derive_accept_key, protocol::Role,
};

/// One request as it came.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) method: String,
    /// With its query.
    pub(crate) path: String,
    pub(crate) headers: Vec<String>,
    pub(crate) body: Value,
}

/// What is said to a request.
pub(crate) enum Reply {
    /// The metadata of a sync answer.
    Sync(Value),
    /// An operation that was begun.
    Begun(Value),
    /// A refusal, with what is beside Incus's seven keys.
    Refused(u16, &'static str, Value),
    /// Lines of a websocket, which is then closed, or held open.
    Lines { lines: Vec<Value>, hold: bool },
    /// No answer, ever.
    Silence,
}

pub(crate) struct Daemon {
    pub(crate) dir: tempfile::TempDir,
    asked: Arc<Mutex<Vec<Asked>>>,
}

impl Daemon {
    pub(crate) fn start(answer: impl Fn(&Asked) -> Reply + Send + Sync + 'static) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(dir.path().join("unix.socket")).unwrap();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (answer, log) = (Arc::new(answer), Arc::clone(&asked));
        // Ends with the test's process.
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (answer, log) = (Arc::clone(&answer), Arc::clone(&log));
                std::thread::spawn(move || serve(stream, &*answer, &log));
            }
        });
        Self { dir, asked }
    }

    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }

    pub(crate) fn stapes(&self, args: &[&str]) -> Command {
        stapes(self.dir.path(), args)
    }
}

/// The program, with nothing of this machine's in its environment.
pub(crate) fn stapes(dir: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(assert_cmd::cargo::cargo_bin!("stapes"));
    command
        .args(args)
        .env_clear()
        .env("STAPES_DIR", dir)
        .env("HOME", dir)
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .stdin(std::process::Stdio::null());
    command
}

/// Exit status, stdout and stderr, with the test's own directory named DIR.
pub(crate) fn told(command: &mut Command, dir: &Path) -> String {
    let output = command.output().unwrap();
    let text =
        |bytes: &[u8]| String::from_utf8_lossy(bytes).replace(&dir.display().to_string(), "DIR");
    format!(
        "exit {}\n--- stdout\n{}--- stderr\n{}",
        output.status.code().map_or_else(|| "by signal".to_owned(), |code| code.to_string()),
        text(&output.stdout),
        text(&output.stderr)
    )
}

fn serve(stream: UnixStream, answer: &dyn Fn(&Asked) -> Reply, log: &Mutex<Vec<Asked>>) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut stream = stream;
    while let Some(asked) = read(&mut reader) {
        log.lock().unwrap().push(asked.clone());
        let (status, body) = match answer(&asked) {
            Reply::Sync(metadata) => (200, envelope("sync", "", 0, "", metadata)),
            Reply::Begun(operation) => {
                let url = format!("/1.0/operations/{}", operation["id"].as_str().unwrap());
                (202, envelope("async", &url, 0, "", operation))
            }
            Reply::Refused(code, text, advice) => {
                let mut body = envelope("error", "", code, text, Value::Null);
                for (key, value) in advice.as_object().into_iter().flatten() {
                    body[key] = value.clone();
                }
                (code, body)
            }
            Reply::Lines { lines, hold } => return tell(stream, &asked, lines, hold),
            Reply::Silence => {
                // Until the other side goes.
                let _ = reader.read(&mut [0]);
                return;
            }
        };
        let body = body.to_string();
        let head = format!(
            "HTTP/1.1 {status} X\r\ncontent-type: application/json\r\netag: \"7\"\r\n\
             x-stapes-sequence: 42\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        if stream.write_all((head + &body).as_bytes()).is_err() {
            return;
        }
    }
}

fn envelope(kind: &str, operation: &str, code: u16, error: &str, metadata: Value) -> Value {
    json!({
        "type": kind, "status": "", "status_code": 200, "operation": operation,
        "error_code": code, "error": error, "metadata": metadata,
    })
}

fn read(reader: &mut BufReader<UnixStream>) -> Option<Asked> {
    let mut headers = Vec::new();
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).ok()? == 0 {
            return None;
        }
        match line.trim_end() {
            "" => break,
            line => headers.push(line.to_owned()),
        }
    }
    let mut first = headers.first()?.split(' ');
    let (method, path) = (first.next()?.to_owned(), first.next()?.to_owned());
    let length = header(&headers, "content-length").and_then(|text| text.parse().ok()).unwrap_or(0);
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    let body = serde_json::from_slice(&body).unwrap_or_default();
    Some(Asked { method, path, headers, body })
}

pub(crate) fn header<'a>(headers: &'a [String], name: &str) -> Option<&'a str> {
    headers.iter().find_map(|line| {
        let (key, value) = line.split_once(": ")?;
        key.eq_ignore_ascii_case(name).then_some(value)
    })
}

fn tell(mut stream: UnixStream, asked: &Asked, lines: Vec<Value>, hold: bool) {
    let key = header(&asked.headers, "sec-websocket-key").unwrap_or_default();
    let accept = derive_accept_key(key.as_bytes());
    let head = format!(
        "HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\n\
         sec-websocket-accept: {accept}\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).unwrap();
    let mut socket = WebSocket::from_raw_socket(stream, Role::Server, None);
    for line in lines {
        if socket.send(Message::Text(line.to_string().into())).is_err() {
            return;
        }
    }
    if hold {
        while socket.read().is_ok() {}
    } else {
        let _ = socket.close(None);
        let _ = socket.flush();
    }
}
