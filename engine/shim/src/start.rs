//! Starting a guest: the shim's half.
//!
//! ```text
//!  shim (root of the host)                       child (becomes init)
//!  cgroups, limits
//!  clone3: all namespaces, into the cgroup ───►  enters the v1 groups
//!  id maps ─────────────── Mapped ────────────►  root of its user namespace; cgroup namespace
//!  root and /dev: detached, ids mapped           proc, sys, devpts ...: detached
//!  pairs of interfaces
//!  ─────────────────────── Mounts + fds ──────►  attaches all, makes the console, pivots
//!  console, devpts ◄────── Ready + fds ────────  capabilities, seccomp, execve
//!  end of conversation = init runs
//! ```
//!
//! Both sides work at the same time. The child is killed when the shim dies before init runs.
//! The order is proved: what must come before what, and why, stands at each step.

use std::{
    fs,
    os::fd::{AsFd as _, BorrowedFd, OwnedFd},
};

use serde::{Deserialize, Serialize};

use crate::{
    cgroup::Group,
    fault::{Doing as _, Fault, Result},
    spec::{Nic, Spec},
    sys::{
        self,
        netlink::Netlink,
        process::{self, Forked},
        terminal::{self, Terminal},
    },
    transport,
};

mod child;
mod console;
mod covers;
mod device_nodes;
mod disks;
mod files;
mod kept_devices;
mod root;
mod systemd;

pub(crate) use child::{make_terminals, propagate, settle};
pub(crate) use disks::open_one as open_disk;
pub(crate) use kept_devices::KeptDevice;
pub(crate) use kept_devices::keep as keep_devices;
pub(crate) use root::make as make_root;
pub use root::takes_descriptors;

pub(crate) use console::{
    plug as plug_console, replace as replace_console, unplug as unplug_console,
};

/// The shim's words to the child.
#[derive(Debug, Serialize, Deserialize)]
enum ToChild {
    Mapped,
    /// With the root and `/dev`; so many disks follow.
    Mounts {
        disks: usize,
    },
    /// With its mount.
    Disk,
}

/// The child's words to the shim.
#[derive(Debug, Serialize, Deserialize)]
enum FromChild {
    /// With the console's master and slave and the root of devpts; execve is next.
    Ready {
        /// What it could do without.
        problems: Vec<String>,
    },
    Failed {
        doing: String,
        errno: i32,
        text: String,
    },
}

/// A guest whose init runs.
#[derive(Debug)]
pub(crate) struct Started {
    pub(crate) pid: i32,
    pub(crate) pidfd: OwnedFd,
    pub(crate) devpts: OwnedFd,
    /// The console's terminal, as CRIU names it.
    pub(crate) console: String,
    /// The devpts of its console, when that is not its own.
    #[expect(dead_code, reason = "the console can be mounted as long as this is open")]
    pub(crate) console_home: Option<OwnedFd>,
    /// It was restored, and counts time since its start otherwise than the host.
    pub(crate) own_clocks: bool,
    /// The v1 groups, for programs that are executed later.
    pub(crate) doors: Vec<fs::File>,
    /// Its root, if this shim made it. An overlay is unmounted when the last of its users goes, and
    /// writes all that its pool has not written yet: who kills a guest need not wait for that.
    pub(crate) root: Option<OwnedFd>,
    pub(crate) problems: Vec<String>,
}

/// Starts the guest, and answers its console. On an error nothing of it is left.
pub(crate) fn start(spec: &Spec) -> Result<(Started, Terminal)> {
    let group = spec.cgroups.group(&spec.instance);
    start_in(spec, &group).inspect_err(|_| {
        // The error that is told is the first one; the driver cleans up once more.
        let _ = group.destroy();
    })
}

fn start_in(spec: &Spec, group: &Group<'_>) -> Result<(Started, Terminal)> {
    let directory = group.create(spec.root_id(), &spec.limits)?;
    let doors = group.doors()?;
    let (ours, theirs) = transport::pair().doing("make a socket pair")?;
    let (pid, pidfd) = fork(spec, &directory, &doors, &ours, theirs)?;
    let started = lead(spec, pid, &pidfd, &ours);
    match started {
        Ok((Ready { console, devpts, problems }, root)) => {
            let name = terminal::name(&console).doing("look at the console")?;
            let own_clocks = false;
            let started = Started {
                pid,
                pidfd,
                devpts,
                console: name,
                console_home: None,
                own_clocks,
                doors,
                root: Some(root),
                problems,
            };
            Ok((started, console))
        }
        Err(fault) => {
            // It is our child and not reaped: it can neither be another nor survive.
            let _ = process::signal(pidfd.as_fd(), nix::libc::SIGKILL);
            let _ = rustix::process::waitid(
                rustix::process::WaitId::PidFd(pidfd.as_fd()),
                rustix::process::WaitIdOptions::EXITED,
            );
            Err(fault)
        }
    }
}

fn fork(
    spec: &Spec,
    directory: &OwnedFd,
    doors: &[fs::File],
    ours: &OwnedFd,
    theirs: OwnedFd,
) -> Result<(i32, OwnedFd)> {
    let user = if spec.ids.is_some() { nix::libc::CLONE_NEWUSER } else { 0 };
    let mut theirs = Some(theirs);
    let mut fork = || match process::fork(process::NAMESPACES | user, directory.as_fd())? {
        // It never comes back here, where this closure's caller would change its ids.
        Forked::Child => match theirs.take() {
            Some(socket) => child::main(spec, ours, &socket, doors),
            None => process::leave(child::FAILED),
        },
        Forked::Parent { pid, pidfd } => Ok((pid, pidfd)),
    };
    match spec.ids {
        Some(ids) => sys::acting_as(ids.base, fork),
        None => fork(),
    }
    .doing("clone the guest's init")
}

/// What the shim does while the child does its part. Answers the guest's root as well.
fn lead(spec: &Spec, pid: i32, pidfd: &OwnedFd, socket: &OwnedFd) -> Result<(Ready, OwnedFd)> {
    if let Some(ids) = spec.ids {
        let map = format!("0 {} {}", ids.base, ids.size);
        for name in ["uid_map", "gid_map"] {
            fs::write(format!("/proc/{pid}/{name}"), &map).doing("map the guest's ids")?;
        }
    }
    tell(socket, &ToChild::Mapped, &[])?;
    let ids = match spec.ids {
        Some(_) => Some(process::user_namespace(pidfd.as_fd(), pid).doing("find its ids")?),
        None => None,
    };
    let ids = ids.as_ref().map(OwnedFd::as_fd);
    let devices = device_nodes::make(spec.ids)?;
    connect(&spec.nics, pidfd.as_fd(), pid)?;
    let root = root::make(spec, ids)?;
    let disks = disks::open(&spec.disks, ids)?;
    tell(socket, &ToChild::Mounts { disks: disks.len() }, &[root.as_fd(), devices.as_fd()])?;
    for disk in &disks {
        tell(socket, &ToChild::Disk, &[disk.as_fd()])?;
    }
    let started = await_ready(socket)?;
    await_execution(socket, spec)?;
    Ok((started, root))
}

fn tell(socket: &OwnedFd, message: &ToChild, descriptors: &[BorrowedFd<'_>]) -> Result<()> {
    match transport::send(socket, message, descriptors) {
        // It has ended, and has said why: that is the better error.
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => {
            Err(await_ready(socket).err().unwrap_or_else(|| Fault::new("start init", error)))
        }
        answer => answer.doing("tell the guest's init"),
    }
}

/// A guest's `/dev`, with what another one had made in it.
pub(crate) fn make_devices(ids: crate::spec::Ids, kept: &[KeptDevice]) -> Result<OwnedFd> {
    let devices = device_nodes::make(Some(ids))?;
    kept_devices::make(&devices, ids.base, kept).doing("fill /dev again")?;
    Ok(devices)
}

fn connect(nics: &[Nic], pidfd: BorrowedFd<'_>, pid: i32) -> Result<()> {
    if nics.is_empty() {
        return Ok(());
    }
    let namespace = process::net_namespace(pidfd, pid).doing("find the guest's network")?;
    let mut netlink = Netlink::open().doing("open rtnetlink")?;
    for nic in nics {
        let words = || format!("connect {} to {}", nic.name, nic.bridge);
        match netlink.add_pair(nic, namespace.as_fd()) {
            // The last incarnation's: the kernel takes down a dead guest's network in its own
            // time. The name follows from the instance's id, so it is nobody else's.
            Err(error) if error.raw_os_error() == Some(nix::libc::EEXIST) => {
                netlink.remove(&nic.host_name).doing_with(words)?;
                netlink.add_pair(nic, namespace.as_fd()).doing_with(words)?;
            }
            answer => answer.doing_with(words)?,
        }
    }
    Ok(())
}

/// What the child has when all that is left is to execute init.
struct Ready {
    console: Terminal,
    devpts: OwnedFd,
    problems: Vec<String>,
}

fn await_ready(socket: &OwnedFd) -> Result<Ready> {
    let words = "start the guest's init";
    match transport::receive(socket).doing(words)? {
        Some((FromChild::Ready { problems }, descriptors)) => {
            let mut descriptors = descriptors.into_iter();
            match (descriptors.next(), descriptors.next(), descriptors.next()) {
                (Some(master), Some(slave), Some(devpts)) => {
                    Ok(Ready { console: Terminal { master, slave }, devpts, problems })
                }
                _ => Err(Fault::because(words, "it sent no console")),
            }
        }
        Some((failed @ FromChild::Failed { .. }, _)) => Err(failed.into_fault()),
        None => Err(Fault::because(words, "it was killed before it ran")),
    }
}

/// The child's end of the socket closes by execve.
fn await_execution(socket: &OwnedFd, spec: &Spec) -> Result<()> {
    let program = spec.init.first().map_or("", String::as_str);
    match transport::receive::<FromChild>(socket).doing_with(|| format!("execute {program}"))? {
        None => Ok(()),
        Some((failed, _)) => Err(failed.into_fault()),
    }
}

impl FromChild {
    fn into_fault(self) -> Fault {
        match self {
            Self::Failed { doing, errno: 0, text } => Fault::because(doing, &text),
            Self::Failed { doing, errno, .. } => {
                Fault::new(doing, std::io::Error::from_raw_os_error(errno))
            }
            Self::Ready { .. } => Fault::because("start the guest's init", "it spoke out of turn"),
        }
    }
}
