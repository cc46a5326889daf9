//! What a shim is told to run: the file `spec` that the driver writes before it starts one.
//!
//! It is complete: paths are resolved, cgroups are found, ids are numbers. The shim looks nothing
//! up and decides nothing that the driver could have decided.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::cgroup;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spec {
    /// A UUID, hyphenated; also the name of its cgroup.
    pub instance: String,
    pub epoch: u64,
    pub generation: u64,
    pub hostname: String,
    pub root: Root,
    /// The host's ids for its 0..; none is a privileged guest.
    pub ids: Option<Ids>,
    /// May run containers of its own: nothing in `/proc` and `/sys` is covered.
    pub nesting: bool,
    pub limits: Limits,
    /// The init program and its arguments.
    pub init: Vec<String>,
    pub environment: Vec<(String, String)>,
    pub nics: Vec<Nic>,
    pub disks: Vec<Disk>,
    /// Written before init runs.
    #[serde(default)]
    pub files: Vec<WrittenFile>,
    /// This kernel's overlays take their layers by path alone.
    #[serde(default)]
    pub layers_by_path: bool,
    /// It is not to begin, but to go on.
    #[serde(default)]
    pub restore: Option<Restore>,
    pub cgroups: cgroup::Layout,
    /// When the driver asked, in microseconds since 1970.
    pub asked_at_us: i64,
}

/// The overlay's upper directory in its volume; the storage port names it so too.
pub const UPPER: &str = "u";
/// The overlay's work directory in its volume.
pub const WORK: &str = "w";

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Root {
    /// `lower` below [`UPPER`] and [`WORK`] in `volume`.
    Overlay {
        lower: PathBuf,
        volume: PathBuf,
    },
    Plain {
        root: PathBuf,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ids {
    pub base: u32,
    pub size: u32,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    pub memory_bytes: Option<u64>,
    pub cpu: Option<Cpu>,
    pub processes: Option<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cpu {
    pub quota_us: u64,
    pub period_us: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Nic {
    pub name: String,
    pub host_name: String,
    pub bridge: String,
    pub mac: [u8; 6],
}

/// A directory or file of the host at `path` inside.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Disk {
    pub name: String,
    pub source: PathBuf,
    pub path: PathBuf,
    pub read_only: bool,
}

/// A file inside; what is not said of one that is there stays as it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WrittenFile {
    pub path: String,
    pub content: String,
    pub mode: Option<u32>,
    pub uid: Option<u32>,
    pub gid: Option<u32>,
    pub create_only: bool,
}

/// A guest in files.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Restore {
    pub images: PathBuf,
    /// The program `criu`.
    pub criu: PathBuf,
}

impl Spec {
    /// The host's id of its root user.
    #[must_use]
    pub fn root_id(&self) -> u32 {
        self.ids.map_or(0, |ids| ids.base)
    }
}
