//! What keeps a guest from moving while it runs, found before anything is done to it.
//!
//! Each rule stands for something that CRIU refuses, or worse, loses; all were provoked, and the
//! words are for the user, who knows services and programs and not CRIU's files.

use std::{collections::BTreeSet, fs, os::unix::fs::MetadataExt as _, path::Path};

use super::tasks::{self, SHARED, Task};

/// Anonymous files that CRIU can write down.
const ANONYMOUS: [&str; 8] = [
    "[eventfd]",
    "[eventpoll]",
    "inotify",
    "[signalfd]",
    "[timerfd]",
    "[fanotify]",
    "[pidfd]",
    "bpf-map",
];
const PROTOCOLS: [&str; 13] = [
    "TCP",
    "TCPv6",
    "UDP",
    "UDPv6",
    "UDP-Lite",
    "UNIX",
    "UNIX-STREAM",
    "PACKET",
    "NETLINK",
    "RAW",
    "RAWv6",
    "PING",
    "PINGv6",
];
const FILE_SYSTEMS: [&str; 20] = [
    "proc",
    "sysfs",
    "tmpfs",
    "devpts",
    "cgroup",
    "cgroup2",
    "mqueue",
    "devtmpfs",
    "binfmt_misc",
    "ext4",
    "btrfs",
    "xfs",
    "overlay",
    "zfs",
    "fusectl",
    "debugfs",
    "tracefs",
    "securityfs",
    "autofs",
    "ramfs",
];
/// Told at most; the rest is as likely as not the same.
const TOLD_MAX: usize = 12;

/// What was found.
#[derive(Debug, Default)]
pub(super) struct Objections {
    pub(super) against: BTreeSet<String>,
    /// It can move, and may notice.
    pub(super) remarks: BTreeSet<String>,
}

/// Looks at the guest whose init this is, and whose processes are in this cgroup.
pub(super) fn find(init: i32, group: &Path) -> std::io::Result<Objections> {
    let tree = tasks::tree(init)?;
    let mut found = Objections::default();
    let Some(first) = tree.first().filter(|task| task.pid == init) else {
        return Err(std::io::Error::other("its init has just ended"));
    };
    let ours = SHARED.map(|name| first.namespace(name));
    let mut guest = Guest::new(init);
    for task in tree.iter().filter(|task| task.state != 'Z') {
        guest.enter_mounts(task, &mut found);
    }
    for task in tree.iter().filter(|task| task.state != 'Z') {
        namespaces(task, &ours, &mut found);
        guest.files(task, &mut found);
    }
    guest.terminals(&mut found);
    guest.queues(&mut found);
    // What changes fast is looked at last.
    for task in tasks::tree(init)? {
        states(&task, &mut found);
    }
    for task in tasks::strangers(group, &tasks::tree(init)?) {
        let what = task.named();
        found.object(format!("{what} was executed from outside; wait until it has ended"));
    }
    Ok(found)
}

impl Objections {
    fn object(&mut self, what: String) {
        if self.against.len() < TOLD_MAX {
            self.against.insert(what);
        }
    }
}

fn namespaces(task: &Task, ours: &[Option<String>; 6], found: &mut Objections) {
    for (name, init) in SHARED.iter().zip(ours) {
        let its = task.namespace(name);
        let children = task.namespace(&format!("{name}_for_children"));
        let differs = |one: &Option<String>| one.is_some() && one != init;
        if !differs(&its) && !differs(&children) {
            continue;
        }
        let what = task.named();
        found.object(match *name {
            "uts" => {
                format!("{what} has a host name of its own (ProtectHostname=); restart its service")
            }
            "user" => format!("{what} has users of its own (PrivateUsers=, or a container)"),
            "ipc" => format!("{what} has message queues of its own (PrivateIPC=, or a container)"),
            "pid" => format!("{what} has processes of its own (PrivatePIDs=, or a container)"),
            "time" => format!("{what} has clocks of its own"),
            _ => format!("{what} has control groups of its own (a container)"),
        });
    }
}

fn states(task: &Task, found: &mut Objections) {
    let what = task.named();
    if task.is_traced {
        found.object(format!("{what} is being debugged"));
    }
    if task.state == 'D' {
        found.object(format!("{what} waits for a disk or a child and cannot be stopped now"));
    }
}

/// What is looked at of the guest as a whole.
struct Guest {
    init: i32,
    /// Of `/dev/console`: the number of the device and its file system.
    console: Option<(u64, u64)>,
    terminals: Option<u64>,
    mounts: BTreeSet<String>,
    namespaces: BTreeSet<String>,
    masters: BTreeSet<String>,
    slaves: Vec<(String, String)>,
}

impl Guest {
    fn new(init: i32) -> Self {
        let look = |path: &str| fs::metadata(format!("/proc/{init}/root/dev/{path}")).ok();
        Self {
            init,
            console: look("console").map(|it| (it.rdev(), it.dev())),
            terminals: look("pts").map(|it| it.dev()),
            mounts: BTreeSet::new(),
            namespaces: BTreeSet::new(),
            masters: BTreeSet::new(),
            slaves: Vec::new(),
        }
    }

    fn enter_mounts(&mut self, task: &Task, found: &mut Objections) {
        let Some(namespace) = task.namespace("mnt") else { return };
        if !self.namespaces.insert(namespace) {
            return;
        }
        for (number, place, kind) in task.mounts() {
            if !FILE_SYSTEMS.contains(&kind.as_str()) {
                found.object(format!("a file system that cannot move ({kind}) is at {place}"));
            }
            self.mounts.insert(number);
        }
    }

    fn files(&mut self, task: &Task, found: &mut Objections) {
        for (number, link) in task.files() {
            if let Some(kind) = link.strip_prefix("anon_inode:") {
                anonymous(task, &number, kind, found);
            } else if link.starts_with("socket:") {
                socket(task, &number, found);
            } else if link.ends_with("/ptmx") {
                self.masters.extend(task.file_info(&number, "tty-index"));
            } else if link.starts_with('/') && !link.starts_with("/memfd:") {
                self.file(task, &number, &link, found);
            }
        }
    }

    fn file(&mut self, task: &Task, number: &str, link: &str, found: &mut Objections) {
        let looked_at = || fs::metadata(task.file(number)).ok();
        if let Some(terminal) = link.strip_prefix("/dev/pts/")
            && terminal.bytes().all(|byte| byte.is_ascii_digit())
        {
            let Some(it) = looked_at() else { return };
            let is_console = Some((it.rdev(), it.dev())) == self.console;
            if !is_console && Some(it.dev()) == self.terminals {
                self.slaves.push((terminal.to_owned(), task.named()));
                return;
            }
        }
        let Some(mount) = task.file_info(number, "mnt_id") else { return };
        if self.mounts.contains(&mount) {
            return;
        }
        let is_console = looked_at().is_some_and(|it| Some((it.rdev(), it.dev())) == self.console);
        if !is_console {
            let what = task.named();
            found.object(format!("{what} has a file open that is not the guest's: {link}"));
        }
    }

    fn terminals(&self, found: &mut Objections) {
        for (terminal, what) in &self.slaves {
            if !self.masters.contains(terminal) {
                found.object(format!("{what} runs on a terminal from outside (pts/{terminal})"));
            }
        }
    }

    fn queues(&self, found: &mut Objections) {
        let queues = fs::read_dir(format!("/proc/{}/root/dev/mqueue", self.init));
        if queues.is_ok_and(|mut queues| queues.next().is_some()) {
            found.object("there are POSIX message queues in it (/dev/mqueue)".to_owned());
        }
    }
}

fn anonymous(task: &Task, number: &str, kind: &str, found: &mut Objections) {
    let what = task.named();
    if !ANONYMOUS.contains(&kind) {
        let kind = kind.trim_matches(['[', ']']);
        found.object(format!("{what} uses {kind}, which cannot move"));
    } else if kind == "[timerfd]" && is_periodic(task, number) {
        let remark = format!("{what} has a periodic timer (timerfd), which may stop ticking");
        found.remarks.insert(remark);
    }
}

fn is_periodic(task: &Task, number: &str) -> bool {
    // `it_interval: (0, 2000000)`
    let interval = task.file_info(number, "it_interval").unwrap_or_default();
    interval.bytes().any(|byte| (b'1'..=b'9').contains(&byte))
}

fn socket(task: &Task, number: &str, found: &mut Objections) {
    let mut name = [0; 64];
    let Ok(length) = rustix::fs::getxattr(task.file(number), "system.sockprotoname", &mut name)
    else {
        return;
    };
    let name = String::from_utf8_lossy(&name[..length]).trim_end_matches('\0').to_owned();
    if !PROTOCOLS.contains(&name.as_str()) {
        found.object(format!("{} has a connection that cannot move ({name})", task.named()));
    }
}
