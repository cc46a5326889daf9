//! Where guests are counted, limited, frozen and killed, on both kinds of hosts.
//!
//! ```text
//! <cgroup2>/<parent>/shims/            every shim; never the daemon's own group
//! <cgroup2>/<parent>/<uuid>/           limits (where cgroup2 has the controllers), freeze, kill
//! <cgroup2>/<parent>/<uuid>/guest/     the guest's own tree: the root of its cgroup namespace
//! <cgroup2>/<parent>/<uuid>/guest/.exec/   programs executed from outside
//! <v1 hierarchy>/<parent>/<uuid>/      limits, where a v1 hierarchy has the controller
//! ```
//!
//! Freezing and killing are cgroup2's on every host: they need no controller. A guest owns its
//! `guest/` directory and no file with a limit. `<parent>` is a parameter, so that two daemons on
//! one host never touch each other's guests.
//!
//! A process enters a v1 group by writing `0` to `tasks`, for itself: moving a single thread that
//! is the writer takes no lock, while a write to `cgroup.procs` waits for a grace period of RCU
//! (up to 30 ms).

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

mod devices;
mod group;
mod kept;
mod mounts;
pub(crate) use group::enter;
pub use group::{Group, Usage};
pub use kept::Kept;

/// The controllers that limits and measurements need.
const CONTROLLERS: [&str; 5] = ["memory", "cpu", "cpuacct", "pids", "devices"];

/// The directory of the shims, beside those of the guests.
pub const SHIMS: &str = "shims";

/// What of cgroups this host has, and which part of it is ours.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Layout {
    /// Where cgroup2 is mounted.
    pub unified: PathBuf,
    /// Which of [`CONTROLLERS`] cgroup2 has.
    pub unified_controllers: Vec<String>,
    pub legacy: Vec<Hierarchy>,
    /// Our directory's name in each.
    pub parent: String,
}

/// A mounted v1 hierarchy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hierarchy {
    pub controllers: Vec<String>,
    pub mount: PathBuf,
}

impl Layout {
    /// Looks at what is mounted.
    ///
    /// # Errors
    /// When there is no cgroup2, or the kernel does not answer.
    pub fn discover(parent: &str) -> io::Result<Self> {
        if parent.is_empty() || parent.contains('/') || parent.starts_with('.') {
            return Err(io::Error::other(format!("{parent:?} cannot name a cgroup")));
        }
        let (unified, legacy) = mounts::parse(&fs::read_to_string("/proc/self/mountinfo")?);
        let unified = unified.ok_or_else(|| io::Error::other("cgroup2 is mounted nowhere"))?;
        let here = fs::read_to_string(unified.join("cgroup.controllers"))?;
        let here = here.split_whitespace().filter(|one| CONTROLLERS.contains(one));
        let unified_controllers = here.map(str::to_owned).collect();
        Ok(Self { unified, unified_controllers, legacy, parent: parent.to_owned() })
    }

    /// Makes our directories, and lets controllers down to them. May be repeated.
    ///
    /// # Errors
    /// The kernel's.
    pub fn prepare(&self) -> io::Result<()> {
        let ours = self.unified.join(&self.parent);
        make(&ours)?;
        for directory in [self.unified.as_path(), ours.as_path()] {
            self.delegate(directory)?;
        }
        make(&ours.join(SHIMS))?;
        self.legacy.iter().try_for_each(|hierarchy| make(&hierarchy.mount.join(&self.parent)))
    }

    /// Lets the controllers into the directories below this one.
    fn delegate(&self, directory: &Path) -> io::Result<()> {
        if self.unified_controllers.is_empty() {
            return Ok(());
        }
        let down: String = self.unified_controllers.iter().map(|one| format!("+{one} ")).collect();
        fs::write(directory.join("cgroup.subtree_control"), down)
    }

    /// Removes our directories when nothing is in them.
    pub fn retire(&self) {
        // A directory in use stays, as it should.
        for hierarchy in &self.legacy {
            let _ = fs::remove_dir(hierarchy.mount.join(&self.parent));
        }
        let ours = self.unified.join(&self.parent);
        let _ = fs::remove_dir(ours.join(SHIMS));
        let _ = fs::remove_dir(ours);
    }

    /// Where shims live.
    #[must_use]
    pub fn shims(&self) -> PathBuf {
        self.unified.join(&self.parent).join(SHIMS)
    }

    /// Moves this single-threaded process into our directory of every v1 hierarchy.
    ///
    /// # Errors
    /// The kernel's.
    pub fn enter_as_shim(&self) -> io::Result<()> {
        for hierarchy in &self.legacy {
            fs::write(hierarchy.mount.join(&self.parent).join("tasks"), "0")?;
        }
        Ok(())
    }

    /// The names of all groups below our parent, in any hierarchy.
    ///
    /// # Errors
    /// The kernel's.
    pub fn groups(&self) -> io::Result<Vec<String>> {
        let mut names = std::collections::BTreeSet::new();
        let mounts = self.legacy.iter().map(|hierarchy| &hierarchy.mount);
        for mount in mounts.chain([&self.unified]) {
            for entry in fs::read_dir(mount.join(&self.parent))? {
                let entry = entry?;
                if entry.file_type()?.is_dir() && entry.file_name() != SHIMS {
                    names.extend(entry.file_name().into_string());
                }
            }
        }
        Ok(names.into_iter().collect())
    }

    /// Each hierarchy, by one of its controllers (cgroup2: none), and where in it the cgroup
    /// namespace of a guest begins.
    pub(crate) fn roots(&self, name: &str) -> Vec<(String, String)> {
        let legacy = self.legacy.iter().filter_map(|hierarchy| {
            let controller = hierarchy.controllers.first()?.clone();
            Some((controller, format!("/{}/{name}", self.parent)))
        });
        legacy.chain([(String::new(), format!("/{}/{name}/guest", self.parent))]).collect()
    }

    /// The group of one guest.
    #[must_use]
    pub fn group(&self, name: &str) -> Group<'_> {
        Group::new(self, name)
    }

    fn has(&self, controller: &str) -> bool {
        self.unified_controllers.iter().any(|one| one == controller)
    }
}

/// Makes a directory; fine when it is there.
fn make(directory: &Path) -> io::Result<()> {
    match fs::create_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        answer => answer.map_err(|error| {
            io::Error::new(error.kind(), format!("{}: {error}", directory.display()))
        }),
    }
}
