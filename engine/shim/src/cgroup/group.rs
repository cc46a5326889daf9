//! The group of one guest, in every hierarchy.

use std::{
    fs::{self, File},
    io::{self, Write as _},
    os::{
        fd::{AsFd as _, OwnedFd},
        unix::fs::{OpenOptionsExt as _, chown},
    },
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::{Layout, devices, make};
use crate::{
    fault::{Doing as _, Result},
    spec::Limits,
};

/// A group is empty within this of its last process being killed, or something is wrong.
const EMPTY_WITHIN: Duration = Duration::from_secs(10);
const FROZEN_WITHIN: Duration = Duration::from_secs(5);
/// How deep and how wide a tree of groups a guest may leave behind.
pub(super) const DEPTH_MAX: usize = 64;

/// Major and, unless it is any, minor of a character device.
pub(super) type Device = (i32, Option<i32>);

/// What a guest may open: null zero full random urandom, tty ptmx pts, fuse tun. Nodes of others
/// may be made and not opened.
const DEVICES: [Device; 10] = [
    (1, Some(3)),
    (1, Some(5)),
    (1, Some(7)),
    (1, Some(8)),
    (1, Some(9)),
    (5, Some(0)),
    (5, Some(2)),
    (136, None),
    (10, Some(229)),
    (10, Some(200)),
];

/// What the cgroups of a guest say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    pub processes: u64,
    pub cpu_ns: u64,
    pub memory_bytes: u64,
    pub memory_peak_bytes: u64,
    pub swap_bytes: u64,
}

#[derive(Clone, Debug)]
pub struct Group<'a> {
    layout: &'a Layout,
    name: String,
}

impl<'a> Group<'a> {
    pub(super) fn new(layout: &'a Layout, name: &str) -> Self {
        Self { layout, name: name.to_owned() }
    }

    /// The whole group in cgroup2.
    #[must_use]
    pub fn unified(&self) -> PathBuf {
        self.layout.unified.join(&self.layout.parent).join(&self.name)
    }

    /// The part of it that the guest owns.
    pub(super) fn guest(&self) -> PathBuf {
        self.unified().join("guest")
    }

    fn legacy(&self, controller: &str) -> Option<PathBuf> {
        let has = |one: &&super::Hierarchy| one.controllers.iter().any(|name| name == controller);
        let hierarchy = self.layout.legacy.iter().find(has)?;
        Some(hierarchy.mount.join(&self.layout.parent).join(&self.name))
    }

    fn legacy_all(&self) -> impl Iterator<Item = PathBuf> {
        self.layout
            .legacy
            .iter()
            .map(|hierarchy| hierarchy.mount.join(&self.layout.parent).join(&self.name))
    }

    /// Makes the group in every hierarchy, with its limits; `owner` is the host's id of the
    /// guest's root. Answers the open directory in which the guest begins.
    ///
    /// # Errors
    /// The kernel's.
    pub fn create(&self, owner: u32, limits: &Limits) -> Result<OwnedFd> {
        for directory in self.legacy_all() {
            make(&directory).doing("make the cgroup")?;
        }
        make(&self.unified()).doing("make the cgroup")?;
        self.layout.delegate(&self.unified()).doing("delegate the cgroup")?;
        let guest = self.guest();
        make(&guest).doing("make the guest's cgroup")?;
        chown(&guest, Some(owner), Some(owner)).doing("give the cgroup to the guest")?;
        for file in ["cgroup.procs", "cgroup.threads", "cgroup.subtree_control"] {
            chown(guest.join(file), Some(owner), Some(owner))
                .doing("give the cgroup to the guest")?;
        }
        self.apply(limits, false)?;
        self.restrict_devices(owner == 0)?;
        open_directory(&guest).doing("open the guest's cgroup")
    }

    /// The directory for programs executed from outside; a guest may have removed it.
    ///
    /// # Errors
    /// The kernel's.
    pub fn exec_leaf(&self) -> io::Result<OwnedFd> {
        let leaf = self.guest().join(".exec");
        match open_directory(&leaf) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                make(&leaf)?;
                open_directory(&leaf)
            }
            answer => answer,
        }
    }

    /// The directory for who makes the guest, beside the guest's own: it ends with the guest.
    ///
    /// # Errors
    /// The kernel's.
    pub(crate) fn helper_leaf(&self) -> io::Result<OwnedFd> {
        let leaf = self.unified().join("helper");
        make(&leaf)?;
        open_directory(&leaf)
    }

    /// The `tasks` files of the v1 hierarchies, for [`enter`].
    ///
    /// # Errors
    /// The kernel's.
    pub fn doors(&self) -> Result<Vec<File>> {
        let open = |directory: PathBuf| {
            fs::OpenOptions::new()
                .write(true)
                .open(directory.join("tasks"))
                .doing_with(|| format!("open {}", directory.display()))
        };
        self.legacy_all().map(open).collect()
    }

    /// In a user namespace no node can be made, and those of images cannot be opened; there this
    /// is a second lock, which not every kernel has. A privileged guest has no other.
    fn restrict_devices(&self, privileged: bool) -> Result<()> {
        let Some(directory) = self.legacy("devices") else {
            let words = "restrict the guest's devices";
            let cgroup = open_directory(&self.unified()).doing(words)?;
            let restricted = devices::restrict(cgroup.as_fd(), &DEVICES);
            return if privileged { restricted.doing(words) } else { Ok(()) };
        };
        write(&directory.join("devices.deny"), "a")?;
        // One rule a write, on a file that is opened once.
        let path = directory.join("devices.allow");
        let file = fs::OpenOptions::new().write(true).open(&path);
        let mut file = file.doing("open devices.allow")?;
        let mut allow = |rule: &str| file.write_all(rule.as_bytes()).doing("allow devices");
        allow("c *:* m")?;
        allow("b *:* m")?;
        DEVICES.iter().try_for_each(|(major, minor)| {
            let minor = minor.map_or_else(|| "*".to_owned(), |minor| minor.to_string());
            allow(&format!("c {major}:{minor} rwm"))
        })
    }

    /// Sets every limit; where none is asked for there is none afterwards.
    ///
    /// # Errors
    /// The kernel's.
    pub fn set_limits(&self, limits: &Limits) -> Result<()> {
        self.apply(limits, true)
    }

    /// `lift`: also writes what is unlimited, as a new group is anyway.
    fn apply(&self, limits: &Limits, lift: bool) -> Result<()> {
        if lift || limits.memory_bytes.is_some() {
            self.limit_memory(limits.memory_bytes)?;
        }
        if lift || limits.cpu.is_some() {
            let period = limits.cpu.map_or(100_000, |cpu| cpu.period_us);
            let quota = limits.cpu.map(|cpu| cpu.quota_us.to_string());
            if let Some(directory) = self.legacy("cpu") {
                write(&directory.join("cpu.cfs_period_us"), &period.to_string())?;
                let quota = quota.as_deref().unwrap_or("-1");
                write(&directory.join("cpu.cfs_quota_us"), quota)?;
            } else if self.layout.has("cpu") {
                let quota = quota.as_deref().unwrap_or("max");
                write(&self.unified().join("cpu.max"), &format!("{quota} {period}"))?;
            }
        }
        if lift || limits.processes.is_some() {
            let most = limits.processes.map_or_else(|| "max".to_owned(), |most| most.to_string());
            if let Some(directory) = self.home("pids") {
                write(&directory.join("pids.max"), &most)?;
            }
        }
        Ok(())
    }

    fn limit_memory(&self, bytes: Option<u64>) -> Result<()> {
        let Some(directory) = self.legacy("memory") else {
            if !self.layout.has("memory") {
                return Ok(());
            }
            let most = bytes.map_or_else(|| "max".to_owned(), |bytes| bytes.to_string());
            return write(&self.unified().join("memory.max"), &most);
        };
        let most = bytes.map_or_else(|| "-1".to_owned(), |bytes| bytes.to_string());
        let memory = directory.join("memory.limit_in_bytes");
        let with_swap = directory.join("memory.memsw.limit_in_bytes");
        if !with_swap.exists() {
            return write(&memory, &most);
        }
        // Memory may never be above memory and swap: going up the sum is first, going down last.
        if write(&memory, &most).is_ok() {
            return write(&with_swap, &most);
        }
        write(&with_swap, &most)?;
        write(&memory, &most)
    }

    /// Where the files of a controller are that is named the same in both worlds.
    fn home(&self, controller: &str) -> Option<PathBuf> {
        let legacy = self.legacy(controller);
        legacy.or_else(|| self.layout.has(controller).then(|| self.unified()))
    }

    /// Freezes or thaws everything in it, and waits until that is so.
    ///
    /// # Errors
    /// The kernel's; `TimedOut`.
    pub fn freeze(&self, frozen: bool) -> io::Result<()> {
        let number = if frozen { "1" } else { "0" };
        fs::write(self.unified().join("cgroup.freeze"), number)?;
        self.await_event("frozen", frozen, FROZEN_WITHIN)
    }

    #[must_use]
    pub fn is_frozen(&self) -> bool {
        self.event("frozen").unwrap_or(false)
    }

    /// Kills everything in it. Does not wait.
    ///
    /// # Errors
    /// The kernel's.
    pub fn kill(&self) -> io::Result<()> {
        fs::write(self.unified().join("cgroup.kill"), "1")
    }

    #[must_use]
    pub fn exists(&self) -> bool {
        self.legacy_all().chain([self.unified()]).any(|directory| directory.exists())
    }

    /// Whether the kernel killed something in it for want of memory.
    #[must_use]
    pub fn ran_out_of_memory(&self) -> bool {
        let (path, key) = match self.legacy("memory") {
            Some(directory) => (directory.join("memory.oom_control"), "oom_kill"),
            None => (self.unified().join("memory.events"), "oom_kill"),
        };
        keyed(&path, key).is_some_and(|kills| kills > 0)
    }

    /// What it uses now.
    #[must_use]
    pub fn usage(&self) -> Usage {
        let number = |path: PathBuf| read_number(&path).unwrap_or(0);
        let mut usage = Usage::default();
        if let Some(directory) = self.home("pids") {
            usage.processes = number(directory.join("pids.current"));
        }
        usage.cpu_ns = match self.legacy("cpuacct") {
            Some(directory) => number(directory.join("cpuacct.usage")),
            None => keyed(&self.unified().join("cpu.stat"), "usage_usec").unwrap_or(0) * 1000,
        };
        if let Some(directory) = self.legacy("memory") {
            usage.memory_bytes = number(directory.join("memory.usage_in_bytes"));
            usage.memory_peak_bytes = number(directory.join("memory.max_usage_in_bytes"));
            let swapped = number(directory.join("memory.memsw.usage_in_bytes"));
            usage.swap_bytes = swapped.saturating_sub(usage.memory_bytes);
        } else {
            let directory = self.unified();
            usage.memory_bytes = number(directory.join("memory.current"));
            usage.memory_peak_bytes = number(directory.join("memory.peak"));
            usage.swap_bytes = number(directory.join("memory.swap.current"));
        }
        usage
    }

    /// Kills what is in it, waits until it is empty, and removes it from every hierarchy. Fine
    /// when it is not there.
    ///
    /// # Errors
    /// The kernel's; `TimedOut` when something in it does not die.
    pub fn destroy(&self) -> Result<()> {
        let unified = self.unified();
        if unified.exists() {
            let gone = |error: &io::Error| error.kind() == io::ErrorKind::NotFound;
            match self.kill() {
                Err(error) if !gone(&error) => {
                    return Err(error).doing_with(|| format!("kill {}", unified.display()));
                }
                Ok(()) | Err(_) => {}
            }
            self.await_event("populated", false, EMPTY_WITHIN)
                .doing_with(|| format!("empty {}", unified.display()))?;
        }
        let deadline = Instant::now() + EMPTY_WITHIN;
        for directory in self.legacy_all().chain([unified]) {
            remove_tree(&directory, deadline, 0)
                .doing_with(|| format!("remove {}", directory.display()))?;
        }
        Ok(())
    }

    fn event(&self, key: &str) -> Option<bool> {
        keyed(&self.unified().join("cgroup.events"), key).map(|value| value != 0)
    }

    /// Waits for cgroup.events to say so; the kernel wakes us at each change.
    fn await_event(&self, key: &str, wanted: bool, within: Duration) -> io::Result<()> {
        let deadline = Instant::now() + within;
        loop {
            // Opened anew each time: reading is what arms the next wake.
            let mut file = match File::open(self.unified().join("cgroup.events")) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
                file => file?,
            };
            let mut text = String::new();
            io::Read::read_to_string(&mut file, &mut text)?;
            if find_key(&text, key).is_some_and(|value| (value != 0) == wanted) {
                return Ok(());
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(io::Error::from(io::ErrorKind::TimedOut));
            }
            let left = Timespec::try_from(left).map_err(io::Error::other)?;
            poll(&mut [PollFd::from_borrowed_fd(file.as_fd(), PollFlags::PRI)], Some(&left))?;
        }
    }
}

/// Moves this single-threaded process through the doors of [`Group::doors`].
///
/// # Errors
/// The kernel's.
pub(crate) fn enter(doors: &[File]) -> io::Result<()> {
    doors.iter().try_for_each(|mut door| door.write_all(b"0"))
}

fn open_directory(path: &Path) -> io::Result<OwnedFd> {
    let flags = nix::libc::O_DIRECTORY | nix::libc::O_NOFOLLOW;
    Ok(fs::OpenOptions::new().read(true).custom_flags(flags).open(path)?.into())
}

fn write(path: &Path, value: &str) -> Result<()> {
    // Not fs::write: a cgroup file is never made or cut.
    let file = fs::OpenOptions::new().write(true).open(path);
    file.and_then(|mut file| file.write_all(value.as_bytes()))
        .doing_with(|| format!("write {value} to {}", path.display()))
}

fn read_number(path: &Path) -> Option<u64> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

fn keyed(path: &Path, key: &str) -> Option<u64> {
    find_key(&fs::read_to_string(path).ok()?, key)
}

fn find_key(text: &str, key: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' '))?;
    line.trim().parse().ok()
}

/// Removes a group and those that the guest made in it, from the leaves up.
fn remove_tree(directory: &Path, deadline: Instant, depth: usize) -> io::Result<()> {
    let entries = match fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    for entry in entries {
        let entry = entry?;
        if entry.file_type()?.is_dir() && depth < DEPTH_MAX {
            remove_tree(&entry.path(), deadline, depth + 1)?;
        }
    }
    loop {
        match fs::remove_dir(directory) {
            // A dying process leaves a group a moment after it stops being counted.
            Err(error) if error.kind() == io::ErrorKind::ResourceBusy => {
                if Instant::now() > deadline {
                    return Err(error);
                }
                std::thread::sleep(Duration::from_micros(200));
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            answer => return answer,
        }
    }
}
