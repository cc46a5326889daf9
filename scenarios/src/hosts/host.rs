//! One machine of a test: a network namespace with a daemon, and what can be done to it.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    time::Duration,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use stapes_api::client::Client;
use tempfile::TempDir;
use tokio::process::Child;

use super::namespace::{Namespace, done};
use crate::real::{stapes, traces::Traces};

/// How long a daemon may take to serve, on a machine that is busy; a cluster's log has to be found
/// first.
const READY_WITHIN: Duration = Duration::from_secs(90);
/// Where the other machines find it.
const PORT: u16 = 8443;

#[derive(Debug)]
pub struct Host {
    /// What the cluster calls it.
    pub name: String,
    pub(super) namespace: Namespace,
    /// In the network of the machines.
    pub(super) address: String,
    /// Of its cables, at the switches.
    pub(super) ports: Vec<String>,
    directory: TempDir,
    traces: Traces,
    daemon: Option<Child>,
    environment: Vec<(String, String)>,
    simulated: bool,
}

impl Host {
    pub(super) fn new(name: &str, namespace: Namespace, address: String, simulated: bool) -> Self {
        let directory = tempfile::Builder::new()
            .prefix(&format!("stapes-{name}-"))
            .tempdir()
            .expect("a directory");
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o711)).expect("chmod");
        let traces = Traces::of(&directory.path().canonicalize().expect("it is there"));
        Self {
            name: name.to_owned(),
            namespace,
            address,
            ports: Vec::new(),
            directory,
            traces,
            daemon: None,
            environment: Vec::new(),
            simulated,
        }
    }

    #[must_use]
    pub const fn namespace(&self) -> &Namespace {
        &self.namespace
    }

    /// `STAPES_DIR`.
    #[must_use]
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// `host:port` for the others.
    #[must_use]
    pub fn listens(&self) -> String {
        format!("{}:{PORT}", self.address)
    }

    #[must_use]
    pub const fn traces(&self) -> &Traces {
        &self.traces
    }

    #[must_use]
    pub const fn is_simulated(&self) -> bool {
        self.simulated
    }

    #[must_use]
    pub fn client(&self) -> Client {
        Client::unix(self.directory().join("unix.socket"))
    }

    /// Of the daemon and every command from now on.
    pub fn set_environment(&mut self, name: &str, value: &str) {
        self.environment.push((name.to_owned(), value.to_owned()));
    }

    fn program(&self, program: impl Into<PathBuf>) -> Command {
        let mut command = self.namespace.program(program);
        command.env("STAPES_DIR", self.directory()).env("INCUS_DIR", self.directory());
        command.env_remove("STAPES_SOCKET").env("NO_COLOR", "1").stdin(Stdio::null());
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command
    }

    /// Starts the daemon and waits until it serves.
    ///
    /// # Panics
    /// When it does not in time.
    pub async fn start(&mut self) {
        self.launch();
        self.serves().await;
    }

    /// Starts the daemon and waits until it answers, be it only from what it knew.
    ///
    /// # Panics
    /// When it does not in time.
    pub async fn start_without_log(&mut self) {
        self.launch();
        self.answers("/1.0").await;
    }

    fn launch(&mut self) {
        assert!(self.daemon.is_none(), "{} has a daemon", self.name);
        let log = fs::OpenOptions::new().create(true).append(true).open(self.log());
        let log = log.expect("a file for what it says");
        let mut command = self.program(stapes());
        command.arg("daemon").stdout(Stdio::null()).stderr(log);
        if self.simulated {
            command.arg("--simulated");
        }
        // The daemon's own process: `nsenter` becomes it.
        let mut command = tokio::process::Command::from(command);
        self.daemon = Some(command.kill_on_drop(true).spawn().expect("it can be started"));
    }

    /// Waits until the daemon answers from its log.
    ///
    /// # Panics
    /// When it does not in time, or is gone.
    pub async fn serves(&mut self) {
        self.answers("/internal/ready").await;
    }

    async fn answers(&mut self, path: &str) {
        let answers = async {
            loop {
                let asked = self.client().get::<serde_json::Value>(path).await;
                if asked.is_ok() {
                    return;
                }
                let gone = self.daemon.as_mut().and_then(|daemon| daemon.try_wait().ok().flatten());
                assert!(gone.is_none(), "{} is gone ({gone:?}):\n{}", self.name, self.said());
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let in_time = tokio::time::timeout(READY_WITHIN, answers).await.is_ok();
        assert!(in_time, "{} does not serve:\n{}", self.name, self.said());
    }

    /// Ends the daemon as an operator does: guests and nats-server live on.
    ///
    /// # Panics
    /// When there is no daemon, or it does not end.
    pub async fn stop(&mut self) {
        let mut daemon = self.daemon.take().expect("a daemon runs");
        signal(daemon.id().expect("it runs"), Signal::SIGTERM);
        let ended = tokio::time::timeout(READY_WITHIN, daemon.wait()).await;
        ended.expect("it ends in time").expect("it can be waited for");
    }

    /// `kill -9` of the daemon alone: guests and nats-server live on.
    ///
    /// # Panics
    /// When there is no daemon.
    pub async fn crash(&mut self) {
        let mut daemon = self.daemon.take().expect("a daemon runs");
        daemon.kill().await.expect("it can be killed");
    }

    /// `kill -9` of the daemon and of its nats-server.
    ///
    /// # Panics
    /// When there is no daemon.
    pub async fn crash_all(&mut self) {
        let servers = self.nats_servers();
        self.crash().await;
        for pid in servers {
            signal(pid, Signal::SIGKILL);
        }
    }

    /// The nats-servers that this host's daemon keeps.
    #[must_use]
    pub fn nats_servers(&self) -> Vec<u32> {
        let mut found = self.traces.processes();
        found.retain(|pid| {
            fs::read_link(format!("/proc/{pid}/exe"))
                .is_ok_and(|exe| exe.to_string_lossy().contains("nats-server"))
        });
        found
    }

    /// Runs `stapes` here.
    ///
    /// # Panics
    /// When it fails, with what it said.
    pub fn stapes(&self, words: &[&str]) -> String {
        done(self.program(stapes()).args(words))
    }

    /// The same, whatever comes of it.
    pub fn try_stapes(&self, words: &[&str]) -> Output {
        self.program(stapes()).args(words).output().expect("it can be run")
    }

    /// Runs the peers' client here.
    ///
    /// # Panics
    /// When it fails, with what it said.
    pub fn incus(&self, words: &[&str]) -> String {
        let configuration = self.directory().join("incus-client");
        done(self.program("incus").args(words).env("INCUS_CONF", configuration))
    }

    fn log(&self) -> PathBuf {
        self.directory().join("daemon.stderr")
    }

    /// The lines of what the daemon said that have a word in them.
    #[must_use]
    pub fn said_of(&self, word: &str) -> Vec<String> {
        let text = fs::read_to_string(self.log()).unwrap_or_default();
        text.lines().filter(|line| line.contains(word)).map(str::to_owned).collect()
    }

    /// The end of what the daemon said.
    #[must_use]
    pub fn said(&self) -> String {
        let text = fs::read_to_string(self.log()).unwrap_or_default();
        let lines: Vec<_> = text.lines().collect();
        lines[lines.len().saturating_sub(60)..].join("\n")
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        if let Some(mut daemon) = self.daemon.take() {
            let _ = daemon.start_kill();
        }
        if std::thread::panicking() {
            let kept = std::env::temp_dir().join(format!("stapes-{}.log", self.name));
            let _ = fs::copy(self.log(), &kept);
            tracing::error!(log = %kept.display(), "what the daemon said is kept");
        }
        self.traces.remove();
    }
}

fn signal(pid: u32, signal: Signal) {
    if let Ok(pid) = i32::try_from(pid) {
        // One that has gone meanwhile is fine.
        let _ = kill(Pid::from_raw(pid), signal);
    }
}
