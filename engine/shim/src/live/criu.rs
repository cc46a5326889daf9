//! Running CRIU: its process, its arguments, and what it says when it fails.

use std::{
    ffi::{CString, OsString},
    io,
    os::{
        fd::{AsFd as _, BorrowedFd, OwnedFd},
        unix::ffi::{OsStrExt as _, OsStringExt as _},
    },
    path::Path,
};

use nix::libc;

use super::hook;
use crate::{
    fault::{Doing as _, Fault, Result},
    sys::{
        self,
        process::{self, Forked},
    },
};

/// CRIU calls `ip`, `iptables-save` and `tar`.
const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// Lines of its log that are told, and bytes of each.
const LINES_MAX: usize = 6;
const LINE_BYTES_MAX: usize = 300;

/// A CRIU that runs.
#[derive(Debug)]
pub(super) struct Criu {
    pub(super) pid: i32,
    pub(super) pidfd: OwnedFd,
}

/// The arguments of one run.
pub(super) struct Arguments(Vec<CString>);

impl Arguments {
    pub(super) fn new(criu: &Path, action: &str, images: &Path) -> io::Result<Self> {
        let mut arguments = Self(Vec::with_capacity(32));
        arguments.add(criu.as_os_str().to_owned())?;
        for word in [action, "--no-default-config", "-v1", "--manage-cgroups=soft"] {
            arguments.add(word)?;
        }
        for word in ["--enable-fs", "ramfs", "--file-locks", "--link-remap"] {
            arguments.add(word)?;
        }
        for word in ["--network-lock", "skip", "--tcp-established", "--action-script"] {
            arguments.add(word)?;
        }
        // Whatever becomes of the file that this program was started from.
        arguments.add(format!("/proc/{}/exe", std::process::id()))?;
        arguments.pair("--images-dir", images.as_os_str().to_owned())?;
        Ok(arguments)
    }

    pub(super) fn add(&mut self, word: impl Into<OsString>) -> io::Result<()> {
        self.0.push(sys::c_string(word.into().into_vec())?);
        Ok(())
    }

    pub(super) fn pair(&mut self, word: &str, value: impl Into<OsString>) -> io::Result<()> {
        self.add(word)?;
        self.add(value)
    }
}

/// Starts it in a cgroup; `prepare` is done by the child before, and by nobody else.
pub(super) fn spawn(
    arguments: &Arguments,
    records: &Path,
    cgroup: BorrowedFd<'_>,
    prepare: impl FnOnce() -> Result<()>,
) -> Result<Criu> {
    let words = "start CRIU";
    let action = arguments.0.get(1).map_or(&b""[..], |action| action.as_bytes());
    let variables = [
        variable(hook::DIRECTORY, records.as_os_str().as_bytes()).doing(words)?,
        variable(hook::ACTION, action).doing(words)?,
        sys::c_string(PATH).doing(words)?,
    ];
    let null = std::fs::OpenOptions::new().read(true).write(true).open("/dev/null").doing(words)?;
    match process::fork(0, cgroup).doing(words)? {
        Forked::Child => {
            let prepared = plain(null.as_fd()).doing(words).and_then(|()| prepare());
            if prepared.is_ok()
                && let Some(program) = arguments.0.first()
            {
                let Err(_) = nix::unistd::execve(program, &arguments.0, &variables);
            }
            process::leave(FAILED)
        }
        Forked::Parent { pid, pidfd } => Ok(Criu { pid, pidfd }),
    }
}

fn variable(name: &str, value: &[u8]) -> io::Result<CString> {
    sys::c_string([name.as_bytes(), b"=", value].concat())
}

/// The status of a child that did not become CRIU.
const FAILED: i32 = 99;

/// The shim's own ways are none of CRIU's: it waits for signals, and its files are secret.
fn plain(null: BorrowedFd<'_>) -> io::Result<()> {
    for number in 0..3 {
        sys::duplicate_to(null, number)?;
    }
    // SAFETY: plain calls; the set is initialised by sigemptyset.
    unsafe {
        libc::umask(0o077);
        let mut none = std::mem::zeroed();
        libc::sigemptyset(&raw mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const none, std::ptr::null_mut());
    }
    Ok(())
}

/// Why it failed, from its log: the first errors are the reasons, the later ones their
/// consequences.
pub(super) fn complaint(doing: &'static str, log: &Path) -> Fault {
    let text = std::fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<String> = text
        .lines()
        .filter(|line| line.contains("Error") && !is_noise(line))
        .take(LINES_MAX)
        .map(shortened)
        .collect();
    let why = if lines.is_empty() { "CRIU gave no reason".to_owned() } else { lines.join("; ") };
    Fault::because(doing, &why)
}

/// What CRIU calls an error and goes on after.
fn is_noise(line: &str) -> bool {
    const NOISE: [&str; 6] = [
        "can't setup rlimit_",
        "address already assigned",
        // What a host has no program for, a guest has no rules of.
        "tables",
        "cgroupd",
        "dumping failed",
        "restoring failed",
    ];
    let line = line.to_lowercase();
    NOISE.iter().any(|noise| line.contains(noise))
}

fn shortened(line: &str) -> String {
    // `(00.123456) Error (criu/file.c:123): what happened`
    let text = line.split_once("): ").map_or(line, |(_, text)| text).trim();
    text.chars().take(LINE_BYTES_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_errors_of_the_log_are_told_without_noise() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let log = "(00.000001) Warn  (criu/x.c:1): careful\n\
                   (00.000002) Error (criu/rlimit.c:2): rlimit: Can't setup RLIMIT_NOFILE for 1\n\
                   (00.000003) Error (criu/tty.c:3): tty: Found slave peer index 0\n\
                   (00.000004) Error (criu/cr-dump.c:4): Dumping FAILED.\n";
        std::fs::write(file.path(), log).unwrap();
        let fault = complaint("checkpoint", file.path());
        assert_eq!(fault.to_string(), "checkpoint: tty: Found slave peer index 0");
        let none = complaint("restore", Path::new("/nowhere/at/all"));
        assert_eq!(none.to_string(), "restore: CRIU gave no reason");
    }
}
