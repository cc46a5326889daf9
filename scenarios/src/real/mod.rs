//! A real daemon under test: the shipped program as a child, in a directory of its own.
//!
//! [`Real`] starts it, waits until it serves, kills it as a crash would, starts it again, and takes
//! everything away in the end, also when a test panics. What of it is on the host is told by
//! [`traces::Traces`], by the daemon's own tag alone: others may work on the same machine.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Stdio,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use stapes_api::client::Client;
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::{Child, Command},
    sync::watch,
};
use uuid::Uuid;

pub mod dice;
mod furniture;
mod history;
mod programs;
pub mod traces;

pub use furniture::BUSYBOX;
pub use history::{Answers, answers};
pub use programs::{busybox_image, stapes};
use traces::Traces;

/// How long a daemon may take to serve, on a machine that is busy.
const READY_WITHIN: Duration = Duration::from_secs(60);
/// How long it may take to go when it is asked to.
const GONE_WITHIN: Duration = Duration::from_secs(30);
/// Lines of the daemon's talk that are kept for whoever looks into a failure.
const LINES_MAX: usize = 400;

/// What the daemon's guests, volumes and networks are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Real ones, which need root.
    Host,
    /// Pretended, without root.
    Simulated,
}

/// A directory with a daemon, and the means to crash it.
#[derive(Debug)]
pub struct Real {
    directory: Arc<TempDir>,
    mode: Mode,
    child: Option<Child>,
    lines: Lines,
    traces: Traces,
}

/// The end of what the daemon said on stderr.
#[derive(Clone, Debug, Default)]
struct Lines(Arc<Mutex<Vec<String>>>);

impl Lines {
    fn push(&self, line: String) {
        let mut lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if lines.len() == LINES_MAX {
            lines.remove(0);
        }
        lines.push(line);
    }

    fn text(&self) -> String {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).join("\n")
    }
}

impl Real {
    /// A directory for a daemon that is not started yet.
    ///
    /// # Panics
    /// When there is no room for a temporary directory.
    #[must_use]
    pub fn new(mode: Mode) -> Self {
        let directory =
            tempfile::Builder::new().prefix("stapes-real-").tempdir().expect("a directory");
        // Guests' users walk through it to their roots.
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o711)).expect("chmod");
        let path = directory.path().canonicalize().expect("it is there");
        let traces = Traces::of(&path);
        let directory = Arc::new(directory);
        Self { directory, mode, child: None, lines: Lines::default(), traces }
    }

    /// Another daemon on the same directory, which should not start.
    #[must_use]
    pub fn beside(&self) -> Self {
        // Nothing is traced to it, so that it takes nothing of the first one away.
        let traces = Traces::of(&self.directory().join("second"));
        let (directory, mode) = (self.directory.clone(), self.mode);
        Self { directory, mode, child: None, lines: Lines::default(), traces }
    }

    /// A daemon that serves.
    ///
    /// # Panics
    /// When it does not.
    pub async fn started(mode: Mode) -> Self {
        let mut real = Self::new(mode);
        real.start().await;
        real
    }

    #[must_use]
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.directory().join("unix.socket")
    }

    #[must_use]
    pub fn client(&self) -> Client {
        Client::unix(self.socket())
    }

    #[must_use]
    pub fn traces(&self) -> &Traces {
        &self.traces
    }

    /// The daemon's process.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.child.as_ref().and_then(Child::id)
    }

    /// Of this daemon's own: others on this machine have theirs.
    #[must_use]
    pub fn bridge(&self) -> String {
        format!("sp{}", self.tag())
    }

    /// As the daemon itself makes it of its directory.
    #[must_use]
    pub fn tag(&self) -> String {
        self.traces.tag().to_owned()
    }

    fn command(&self) -> Command {
        let mut command = Command::new(stapes());
        command.arg("daemon").env("STAPES_DIR", self.directory()).env_remove("STAPES_SOCKET");
        if self.mode == Mode::Simulated {
            command.arg("--simulated");
        }
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        command.kill_on_drop(true);
        command
    }

    /// Starts the daemon and waits until it serves.
    ///
    /// # Panics
    /// When it does not serve in time; with what it said.
    pub async fn start(&mut self) {
        if let Err(said) = self.try_start().await {
            panic!("the daemon does not serve:\n{said}");
        }
    }

    /// Starts the daemon; `Err` is what it said when it ended without serving.
    ///
    /// # Errors
    /// What it said.
    ///
    /// # Panics
    /// When it neither serves nor ends in time, or one runs already.
    pub async fn try_start(&mut self) -> Result<(), String> {
        assert!(self.child.is_none(), "a daemon runs already");
        let mut child = self.command().spawn().expect("the daemon can be started");
        let stderr = child.stderr.take().expect("it is piped");
        let (serving, mut told) = watch::channel(None);
        let said = Lines::default();
        let (all, mine) = (self.lines.clone(), said.clone());
        tokio::spawn(async move {
            let mut lines = BufReader::new(stderr).lines();
            while let Ok(Some(line)) = lines.next_line().await {
                if line.contains("serving") && line.contains("socket") {
                    let _ = serving.send(Some(true));
                }
                mine.push(line.clone());
                all.push(line);
            }
            let _ = serving.send(Some(false));
        });
        let serves = tokio::time::timeout(READY_WITHIN, told.wait_for(Option::is_some)).await;
        let serves = serves.map(|told| told.is_ok_and(|told| *told == Some(true)));
        match serves {
            Ok(true) => {
                self.child = Some(child);
                Ok(())
            }
            Ok(false) => {
                let _ = child.wait().await;
                Err(said.text())
            }
            Err(_) => panic!("the daemon neither serves nor ends:\n{}", said.text()),
        }
    }

    /// `kill -9`: the daemon has no say in it.
    ///
    /// # Panics
    /// When no daemon runs.
    pub async fn crash(&mut self) {
        let mut child = self.child.take().expect("a daemon runs");
        child.kill().await.expect("it can be killed");
    }

    /// SIGTERM, and waits until it is gone.
    ///
    /// # Panics
    /// When no daemon runs, or it does not go cleanly.
    pub async fn stop(&mut self) {
        let mut child = self.child.take().expect("a daemon runs");
        traces::terminate(child.id().expect("it runs"));
        let gone = tokio::time::timeout(GONE_WITHIN, child.wait()).await;
        let status = gone.expect("it goes in time").expect("it can be waited for");
        assert!(status.success(), "the daemon ended with {status}:\n{}", self.lines.text());
    }
}

impl Drop for Real {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.start_kill();
        }
        if std::thread::panicking() {
            let kept = std::env::temp_dir().join(format!("stapes-real-{}.log", self.tag()));
            let _ = fs::write(&kept, self.lines.text());
            tracing::error!(log = %kept.display(), "what the daemon said is kept");
        }
        self.traces.remove();
    }
}

/// The tag that a daemon gives what it makes, of where it is.
pub(crate) fn tag_of(directory: &Path) -> String {
    let bytes = directory.as_os_str().as_encoded_bytes();
    Uuid::new_v5(&Uuid::NAMESPACE_URL, bytes).simple().to_string()[..8].to_owned()
}
