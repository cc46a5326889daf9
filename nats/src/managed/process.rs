//! A server process: started so that it outlives the daemon, and found again by a daemon that comes
//! later.
//!
//! The record names the process by its id, the time it started and the boot: a pid alone may be
//! somebody else's by then. Signals go through a pidfd, so they never reach another process either.

use std::{
    fs,
    io::{self, Write},
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use serde::{Deserialize, Serialize};
use tokio::process::Command;

use super::{
    ManagedError,
    paths::{failed, find, remove_file, write},
};

/// How long a process that was killed may take to be gone.
const GONE_WITHIN: Duration = Duration::from_secs(10);
/// How often one is looked at that is not this process's child.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// How much of the log's end is looked at when the server died.
const LOG_TAIL_BYTES: usize = 16 << 10;

/// Which process it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Record {
    pid: i32,
    /// In clock ticks since boot.
    started: u64,
    boot: String,
    config: PathBuf,
}

/// A server that runs, or ran just now.
#[derive(Debug)]
pub(super) struct Process {
    record: Record,
    record_path: PathBuf,
    pidfd: OwnedFd,
    /// When it was started by this daemon, whose duty is then to collect it.
    child: Option<tokio::process::Child>,
}

impl Process {
    /// Starts a server on this configuration. It has a session of its own, and keeps running when this
    /// process ends.
    pub(super) fn start(
        binary: &Path,
        config: &Path,
        record_path: &Path,
    ) -> Result<Self, ManagedError> {
        remove_file(record_path)?;
        let mut command = Command::new(binary);
        command.arg("-c").arg(config).process_group(0).kill_on_drop(false);
        // What it says goes to its log file, and what it says before it has one, too.
        let dir = config.parent().unwrap_or_else(|| Path::new("/"));
        let said = dir.join("nats.out");
        let out = fs::File::create(&said).map_err(failed("cannot write", &said))?;
        let err = out.try_clone().map_err(failed("cannot write", &said))?;
        command.stdin(Stdio::null()).stdout(out).stderr(err);
        let child = command
            .spawn()
            .map_err(|source| ManagedError::NoBinary { binary: binary.to_owned(), source })?;
        let pid = child
            .id()
            .and_then(|pid| i32::try_from(pid).ok())
            .ok_or_else(|| ManagedError::Died("at once".to_owned()))?;
        let io = failed("cannot watch the process of", config);
        let (pidfd, started, boot) =
            watch(pid).and_then(|fd| Ok((fd, started_at(pid)?, boot_id()?))).map_err(io)?;
        let record = Record { pid, started, boot, config: config.to_owned() };
        let json = serde_json::to_string(&record).unwrap_or_default();
        write(record_path, &json)?;
        Ok(Self { record, record_path: record_path.to_owned(), pidfd, child: Some(child) })
    }

    /// The server that the record names, when it still runs.
    pub(super) fn find(record_path: &Path) -> Result<Option<Self>, ManagedError> {
        let Some(text) = find(record_path)? else { return Ok(None) };
        let Ok(record) = serde_json::from_str::<Record>(&text) else { return Ok(None) };
        let same = || -> io::Result<OwnedFd> {
            // The pidfd comes first: what is read of the process afterwards is of this one, or of none.
            let pidfd = watch(record.pid)?;
            if started_at(record.pid)? == record.started && boot_id()? == record.boot {
                Ok(pidfd)
            } else {
                Err(io::ErrorKind::NotFound.into())
            }
        };
        let found = same().ok();
        Ok(found.map(|pidfd| Self {
            record,
            record_path: record_path.to_owned(),
            pidfd,
            child: None,
        }))
    }

    pub(super) fn pid(&self) -> i32 {
        self.record.pid
    }

    /// Waits for its end.
    pub(super) async fn ended(&mut self) {
        if let Some(child) = &mut self.child {
            // Collects it, too. An error would mean that somebody else did.
            let _ = child.wait().await;
        } else {
            while !is_over(&self.pidfd) {
                tokio::time::sleep(LOOK_EVERY).await;
            }
        }
    }

    /// # Errors
    /// When the process is gone.
    pub(super) fn signal(&self, signal: Signal) -> io::Result<()> {
        Ok(pidfd_send_signal(&self.pidfd, signal)?)
    }

    /// Asks it to end, and after `patience` makes it.
    pub(super) async fn end(
        mut self,
        signal: Signal,
        patience: Duration,
    ) -> Result<(), ManagedError> {
        // Gone already is as good.
        let _ = self.signal(signal);
        if tokio::time::timeout(patience, self.ended()).await.is_err() {
            let _ = self.signal(Signal::KILL);
            if tokio::time::timeout(GONE_WITHIN, self.ended()).await.is_err() {
                return Err(ManagedError::Answer(format!(
                    "process {} does not end, not even when killed",
                    self.record.pid
                )));
            }
        }
        remove_file(&self.record_path)
    }
}

/// Ends whatever the record names, if it still runs.
pub(super) async fn end_recorded(record_path: &Path) -> Result<(), ManagedError> {
    match Process::find(record_path)? {
        Some(process) => process.end(Signal::KILL, GONE_WITHIN).await,
        None => Ok(()),
    }
}

fn watch(pid: i32) -> io::Result<OwnedFd> {
    let pid = Pid::from_raw(pid).ok_or(io::ErrorKind::NotFound)?;
    Ok(pidfd_open(pid, PidfdFlags::empty())?)
}

/// A pidfd is readable once its process is over.
fn is_over(pidfd: &OwnedFd) -> bool {
    let mut fds = [PollFd::new(pidfd, PollFlags::IN)];
    let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
    matches!(poll(&mut fds, Some(&at_once)), Ok(ready) if ready > 0)
}

fn started_at(pid: i32) -> io::Result<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The name in parentheses may hold anything; the 20th field after it is the time.
    let after = stat.rsplit(')').next().unwrap_or_default();
    let mut fields = after.split_whitespace();
    let zombie = fields.next() == Some("Z");
    let started = fields.nth(18).and_then(|field| field.parse().ok());
    started.filter(|_| !zombie).ok_or_else(|| io::ErrorKind::NotFound.into())
}

fn boot_id() -> io::Result<String> {
    fs::read_to_string("/proc/sys/kernel/random/boot_id").map(|text| text.trim().to_owned())
}

/// What a server that died said last: its errors, or else its last lines.
pub(super) fn last_words(log: &Path) -> String {
    let out = log.with_extension("out");
    let text: String = [log, &out].iter().map(|path| tail(path)).collect();
    let bad =
        |line: &&str| ["[FTL]", "[ERR]", "nats-server:"].iter().any(|mark| line.contains(mark));
    let lines: Vec<&str> = text.lines().collect();
    let told: Vec<&str> = lines.iter().copied().filter(bad).collect();
    let from = if told.is_empty() { &lines } else { &told };
    let last = from.iter().rev().take(3).rev().copied().collect::<Vec<_>>().join("; ");
    if last.is_empty() { format!("{} says nothing", log.display()) } else { last }
}

fn tail(path: &Path) -> String {
    let bytes = fs::read(path).unwrap_or_default();
    let from = bytes.len().saturating_sub(LOG_TAIL_BYTES);
    let mut text = String::from_utf8_lossy(&bytes[from..]).into_owned();
    text.push('\n');
    text
}

/// Marks in the log where another attempt begins.
pub(super) fn mark(log: &Path, what: &str) {
    let marked = fs::OpenOptions::new().append(true).create(true).open(log);
    // The log is for people; a server runs without the mark.
    let _ = marked.and_then(|mut file| writeln!(file, "--- {what}"));
}
