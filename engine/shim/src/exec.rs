//! Programs executed in the guest from outside.
//!
//! The shim's children are born in the guest's pid namespace (the shim has entered it *for its
//! children*, once) and in the guest's cgroup2 leaf; the child enters the v1 groups by itself and
//! the other namespaces by one setns. One fork, and the shim reaps it: no helper in between.

use std::{
    convert::Infallible,
    ffi::CString,
    fs::File,
    io::{self, Write as _},
    os::fd::{AsFd as _, BorrowedFd, OwnedFd},
};

use nix::{errno::Errno, libc};

use crate::{
    cgroup::{self, Group},
    fault::{Doing as _, Fault, Result},
    protocol::Exec,
    spec::Spec,
    start::{Started, settle},
    sys::{
        self, become_root, become_user,
        process::{self, Forked},
        terminal::{self, Terminal},
    },
};

const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
const NOT_EXECUTABLE: i32 = 126;
const NOT_FOUND: i32 = 127;

/// A program that runs.
#[derive(Debug)]
pub(crate) struct Program {
    pub(crate) pid: i32,
    pub(crate) pidfd: OwnedFd,
    /// The master of its terminal, to resize it.
    pub(crate) terminal: Option<OwnedFd>,
}

/// Its standard streams: what the driver sent, or a terminal of ours.
enum Streams {
    Sent([OwnedFd; 3]),
    Terminal(Terminal),
}

/// Makes the shim's children be born in the guest's pid namespace.
pub(crate) fn enter_for_children(guest: BorrowedFd<'_>) -> Result<()> {
    process::enter(guest, libc::CLONE_NEWPID).doing("enter the guest's pid namespace")
}

/// The opposite: for who has business with the guest and is none of its processes.
pub(crate) fn leave_for_children() -> Result<()> {
    let words = "leave the guest's pid namespace";
    let ours = File::open("/proc/self/ns/pid").doing(words)?;
    process::enter(ours.as_fd(), libc::CLONE_NEWPID).doing(words)
}

/// Executes a program; with a terminal, answers its master for the driver.
pub(crate) fn execute(
    spec: &Spec,
    guest: &Started,
    group: &Group<'_>,
    wanted: &Exec,
    sent: Vec<OwnedFd>,
) -> Result<Program> {
    if wanted.command.is_empty() {
        return Err(Fault::because("execute", "there is no command"));
    }
    let streams =
        match wanted.terminal {
            Some((columns, rows)) => {
                let terminal = terminal::open(guest.devpts.as_fd()).doing("open a terminal")?;
                let base = spec.root_id();
                terminal::give_to(terminal.slave.as_fd(), base + wanted.user, base)
                    .doing("give the terminal away")?;
                if columns > 0 && rows > 0 {
                    terminal::resize(terminal.master.as_fd(), columns, rows)
                        .doing("size the terminal")?;
                }
                Streams::Terminal(terminal)
            }
            None => Streams::Sent(<[OwnedFd; 3]>::try_from(sent).map_err(|_| {
                Fault::because("execute", "three streams are needed, or a terminal")
            })?),
        };
    let leaf = group.exec_leaf().doing("open the cgroup for programs")?;
    match process::fork(0, leaf.as_fd()).doing("fork into the guest")? {
        Forked::Child => become_program(spec, guest, wanted, &streams),
        Forked::Parent { pid, pidfd } => {
            let terminal = match streams {
                Streams::Terminal(terminal) => Some(terminal.master),
                Streams::Sent(_) => None,
            };
            Ok(Program { pid, pidfd, terminal })
        }
    }
}

fn become_program(spec: &Spec, guest: &Started, wanted: &Exec, streams: &Streams) -> ! {
    if enter(spec, guest, streams).is_err() {
        process::leave(NOT_EXECUTABLE);
    }
    let Err(fault) = run(spec, wanted);
    // From here on standard error is the caller's: there is nobody else to tell.
    let _ = writeln!(io::stderr(), "{fault}");
    let missing = matches!(fault.errno(), libc::ENOENT | libc::ENOTDIR);
    process::leave(if missing { NOT_FOUND } else { NOT_EXECUTABLE })
}

/// Into the guest, with all that makes a process of the guest out of one of the host.
fn enter(spec: &Spec, guest: &Started, streams: &Streams) -> Result<()> {
    if let Streams::Sent(sent) = streams {
        // SAFETY: plain call; a new session without a terminal.
        unsafe { libc::setsid() };
        for (number, stream) in (0..).zip(sent) {
            sys::duplicate_to(stream.as_fd(), number).doing("place the streams")?;
        }
    }
    enter_groups(&guest.doors)?;
    let user = if spec.ids.is_some() { libc::CLONE_NEWUSER } else { 0 };
    // A guest that has moved has clocks of its own, which go on from where they were.
    let clocks = if guest.own_clocks { libc::CLONE_NEWTIME } else { 0 };
    let others = libc::CLONE_NEWCGROUP | user | clocks;
    let namespaces = (process::NAMESPACES & !libc::CLONE_NEWPID) | others;
    process::enter(guest.pidfd.as_fd(), namespaces).doing("enter the guest")?;
    become_root().doing("become the guest's root")?;
    if let Streams::Terminal(terminal) = streams {
        terminal::take(terminal.slave.as_fd()).doing("take the terminal")?;
    }
    settle()
}

fn enter_groups(doors: &[File]) -> Result<()> {
    cgroup::enter(doors).doing("enter the guest's v1 cgroups")
}

fn run(spec: &Spec, wanted: &Exec) -> Result<Infallible> {
    let directory = wanted.working_directory.as_deref().unwrap_or("/");
    let words = |name: &str| format!("execute {name}");
    let name = wanted.command[0].as_str();
    let variables = variables(spec, wanted).doing_with(|| words(name))?;
    let arguments: io::Result<Vec<CString>> =
        wanted.command.iter().map(|argument| sys::c_string(argument.as_str())).collect();
    let arguments = arguments.doing_with(|| words(name))?;
    if wanted.user != 0 || wanted.group != 0 {
        become_user(wanted.user, wanted.group).doing("become the user")?;
    }
    std::env::set_current_dir(directory).map_err(|error| {
        // Not "not found": that would mean the program.
        Fault::because(format!("enter {directory}"), &error.to_string())
    })?;
    let path = search_path(wanted, spec);
    let mut refused = Errno::ENOENT;
    for candidate in candidates(name, path) {
        let Ok(candidate) = sys::c_string(candidate) else { continue };
        let Err(errno) = nix::unistd::execve(&candidate, &arguments, &variables);
        // A later directory may have it; but a file that is there and cannot be executed is the
        // better reason.
        if !matches!(errno, Errno::ENOENT | Errno::ENOTDIR) {
            refused = errno;
        }
    }
    Err(refused).doing_with(|| words(name))
}

fn search_path<'a>(wanted: &'a Exec, spec: &'a Spec) -> &'a str {
    let find = |variables: &'a [(String, String)]| {
        variables.iter().find(|(key, _)| key == "PATH").map(|(_, value)| value.as_str())
    };
    find(&wanted.environment).or_else(|| find(&spec.environment)).unwrap_or(PATH)
}

/// Where the program may be: at its path, or in the directories of PATH.
fn candidates(name: &str, path: &str) -> Vec<String> {
    if name.contains('/') {
        return vec![name.to_owned()];
    }
    path.split(':')
        .filter(|part| part.starts_with('/'))
        .map(|part| format!("{part}/{name}"))
        .collect()
}

fn variables(spec: &Spec, wanted: &Exec) -> io::Result<Vec<CString>> {
    let mut all = std::collections::BTreeMap::from([("container", "lxc"), ("PATH", PATH)]);
    for (key, value) in spec.environment.iter().chain(&wanted.environment) {
        all.insert(key, value);
    }
    all.iter().map(|(key, value)| sys::c_string(format!("{key}={value}"))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_looked_up_in_absolute_directories_only() {
        assert_eq!(candidates("ls", "/a:b::/c"), ["/a/ls", "/c/ls"]);
        assert_eq!(candidates("./ls", "/a"), ["./ls"]);
    }
}
