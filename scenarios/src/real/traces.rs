//! What a daemon has on the host: looked for by its tag and its directory, in every place where
//! something could stay behind.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use super::tag_of;

/// How long the kernel may take to let go of what was removed.
const SETTLED_WITHIN: Duration = Duration::from_secs(10);

#[derive(Debug)]
pub struct Traces {
    directory: PathBuf,
    tag: String,
    /// Guests' interfaces that were seen on our bridges: without its bridge nothing tells whose one
    /// is.
    interfaces: Mutex<BTreeSet<String>>,
}

impl Traces {
    pub(crate) fn of(directory: &Path) -> Self {
        let tag = tag_of(directory);
        Self { directory: directory.to_owned(), tag, interfaces: Mutex::default() }
    }

    #[must_use]
    pub fn tag(&self) -> &str {
        &self.tag
    }

    /// Everything of ours that is on the host now, a line each. Nothing when all is gone.
    #[must_use]
    pub fn all(&self) -> Vec<String> {
        let named = |kind: &str, list: Vec<String>| {
            list.into_iter().map(|one| format!("{kind} {one}")).collect::<Vec<_>>()
        };
        let pids = self.processes().into_iter().map(describe).collect();
        let groups = self.cgroups().iter().map(|path| path.display().to_string()).collect();
        [
            named("process", pids),
            named("cgroup", groups),
            named("mount", self.mounts()),
            named("loop", self.loops()),
            named("link", self.links()),
            named("table", self.tables()),
        ]
        .concat()
    }

    /// Waits until nothing of ours is left; dying takes the kernel a moment.
    ///
    /// # Panics
    /// With what is still there.
    pub async fn assert_none(&self) {
        let since = Instant::now();
        loop {
            let left = self.all();
            if left.is_empty() {
                return;
            }
            assert!(since.elapsed() < SETTLED_WITHIN, "left behind:\n{}", left.join("\n"));
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Processes in our cgroups, or with our directory among their arguments.
    #[must_use]
    pub fn processes(&self) -> Vec<u32> {
        let group = format!("/stapes-{}", self.tag);
        let directory = self.directory.to_string_lossy().into_owned();
        let me = std::process::id();
        let pids = entries(Path::new("/proc")).into_iter().filter_map(|path| {
            path.file_name()?.to_str()?.parse::<u32>().ok().filter(|pid| *pid != me)
        });
        pids.filter(|pid| {
            let read = |file: &str| fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default();
            let holds =
                |file: &str, text: &str| String::from_utf8_lossy(&read(file)).contains(text);
            holds("cgroup", &group) || holds("cmdline", &directory)
        })
        .collect()
    }

    /// Our directories in every hierarchy, the deepest first.
    #[must_use]
    pub fn cgroups(&self) -> Vec<PathBuf> {
        let ours = format!("stapes-{}", self.tag);
        let root = Path::new("/sys/fs/cgroup");
        let mut found = Vec::new();
        let hierarchies = entries(root).into_iter().chain([root.to_owned()]);
        for hierarchy in hierarchies {
            let top = hierarchy.join(&ours);
            if top.is_dir() && !top.is_symlink() {
                below(&top, &mut found);
            }
        }
        found
    }

    #[must_use]
    pub fn mounts(&self) -> Vec<String> {
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let directory = self.directory.to_string_lossy().into_owned();
        let points = mounts.lines().filter_map(|line| line.split(' ').nth(4));
        points.filter(|point| point.starts_with(&directory)).map(str::to_owned).collect()
    }

    /// Loop devices whose file is ours.
    #[must_use]
    pub fn loops(&self) -> Vec<String> {
        let directory = self.directory.to_string_lossy().into_owned();
        let devices = entries(Path::new("/sys/block")).into_iter().filter(|device| {
            let file = fs::read_to_string(device.join("loop/backing_file"));
            file.is_ok_and(|file| file.starts_with(&directory))
        });
        devices.filter_map(|path| Some(format!("/dev/{}", path.file_name()?.to_str()?))).collect()
    }

    /// Our bridge, what is plugged into it, and what once was.
    #[must_use]
    pub fn links(&self) -> Vec<String> {
        let mut known = self.interfaces.lock().unwrap_or_else(PoisonError::into_inner);
        let bridge = format!("sp{}", self.tag);
        let plugged = entries(&Path::new("/sys/class/net").join(&bridge).join("brif"));
        known
            .extend(plugged.iter().filter_map(|path| Some(path.file_name()?.to_str()?.to_owned())));
        known.insert(bridge);
        let there = |name: &&String| Path::new("/sys/class/net").join(name).exists();
        known.iter().filter(there).cloned().collect()
    }

    /// Our tables of nftables, as `family name`.
    #[must_use]
    pub fn tables(&self) -> Vec<String> {
        let listed = run("nft", &["list", "tables"]);
        let text = listed.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
        let text = text.unwrap_or_default();
        let ours = text.lines().filter(|line| line.contains(&self.tag));
        ours.filter_map(|line| line.strip_prefix("table ")).map(str::to_owned).collect()
    }

    /// Takes everything away, without asking anybody: for a test that failed.
    pub(crate) fn remove(&self) {
        let since = Instant::now();
        loop {
            for pid in self.processes() {
                kill(pid, nix::sys::signal::Signal::SIGKILL);
            }
            for link in self.links() {
                run("ip", &["link", "delete", &link]);
            }
            for table in self.tables() {
                let words: Vec<_> = table.split(' ').collect();
                run("nft", &[&["delete", "table"], words.as_slice()].concat());
            }
            for mount in self.mounts().iter().rev() {
                run("umount", &["-l", mount]);
            }
            for device in self.loops() {
                run("losetup", &["-d", &device]);
            }
            for group in self.cgroups() {
                let _ = fs::remove_dir(group);
            }
            if self.all().is_empty() || since.elapsed() > SETTLED_WITHIN {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// Asks a process to end.
pub(super) fn terminate(pid: u32) {
    kill(pid, nix::sys::signal::Signal::SIGTERM);
}

fn kill(pid: u32, signal: nix::sys::signal::Signal) {
    if let Ok(pid) = i32::try_from(pid) {
        // One that has gone meanwhile is fine.
        let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), signal);
    }
}

fn describe(pid: u32) -> String {
    let arguments = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let arguments = String::from_utf8_lossy(&arguments).replace('\0', " ");
    format!("{pid} {arguments}")
}

fn run(program: &str, arguments: &[&str]) -> Option<Output> {
    Command::new(program).args(arguments).output().ok()
}

fn entries(directory: &Path) -> Vec<PathBuf> {
    let read = fs::read_dir(directory).into_iter().flatten();
    read.filter_map(|entry| Some(entry.ok()?.path())).collect()
}

fn below(directory: &Path, found: &mut Vec<PathBuf>) {
    for path in entries(directory) {
        if path.is_dir() && !path.is_symlink() {
            below(&path, found);
        }
    }
    found.push(directory.to_owned());
}
