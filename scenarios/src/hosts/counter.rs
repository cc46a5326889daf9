//! Somebody who holds one connection to a guest and counts: does each number come back, once and in
//! order, and what was the longest wait?

use std::process::{Child, Command, Stdio};

use serde_json::Value;

use super::Namespace;

/// Where [`BUSYBOX_ECHO`] and [`DEBIAN_ECHO`] listen.
pub const ECHO_PORT: u16 = 7007;
/// A command in a busybox guest that starts a server which gives back what it is sent.
pub const BUSYBOX_ECHO: &[&str] =
    &["sh", "-c", "busybox setsid busybox nc -ll -p 7007 -e /bin/cat </dev/null >/dev/null 2>&1 &"];
/// The same in Debian's smallest system, which has perl.
pub const DEBIAN_ECHO: &[&str] = &[
    "systemd-run",
    "perl",
    "-e",
    "use Socket; socket(L, PF_INET, SOCK_STREAM, 0); \
     setsockopt(L, SOL_SOCKET, SO_REUSEADDR, 1); bind(L, sockaddr_in(7007, INADDR_ANY)); \
     listen(L, 5); while (accept(C, L)) { next if fork; \
     while (sysread(C, my $b, 4096)) { syswrite(C, $b) } exit }",
];

/// A client that counts over one connection until it is asked.
#[derive(Debug)]
pub struct Counter {
    child: Option<Child>,
}

/// What came of it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Counted {
    /// Numbers that came back.
    pub count: u64,
    /// The longest time between two of them.
    pub gap_ms: f64,
    /// Whether every one came back once, in order.
    pub whole: bool,
}

impl Counter {
    /// Connects to an echo server, which may have been started a moment ago, and waits until the first numbers came back.
    ///
    /// # Panics
    /// When there is no connection.
    #[must_use]
    pub fn connect(from: &Namespace, address: &str, port: u16) -> Self {
        use std::io::{BufRead as _, BufReader};
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/lib/counter.py");
        let mut command: Command = from.program("python3");
        command.arg(script).arg(address).arg(port.to_string());
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("python3 can be started");
        let mut first = String::new();
        let stdout = child.stdout.as_mut().expect("it is piped");
        BufReader::with_capacity(1, stdout).read_line(&mut first).expect("it says something");
        assert_eq!(first.trim(), "counting", "no connection to {address}:{port}");
        Self { child: Some(child) }
    }

    /// Ends the connection.
    ///
    /// # Panics
    /// When the client itself failed.
    pub fn stop(mut self) -> Counted {
        let mut child = self.child.take().expect("it counts");
        // Closing its input asks it to end.
        drop(child.stdin.take());
        let output = child.wait_with_output().expect("it ends");
        let text = String::from_utf8_lossy(&output.stdout);
        let said: Value = serde_json::from_str(&text).unwrap_or_else(|_| panic!("{text:?}"));
        Counted {
            count: said["count"].as_u64().unwrap_or_default(),
            gap_ms: said["gap_ms"].as_f64().unwrap_or(f64::INFINITY),
            whole: said["whole"].as_bool().unwrap_or_default(),
        }
    }
}

impl Drop for Counter {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
