//! What the store and the unpacking helper say to each other: one job as a line of JSON on the
//! helper's stdin, then lines of JSON on its stdout. Stdin stays open: when it closes, the daemon is
//! gone and the helper ends.

use std::{collections::BTreeMap, path::PathBuf};

use serde::{Deserialize, Serialize};
use stapes_core::{ids::Fingerprint, port::image::ImageKind};

use super::{limits::Limits, refusal::Refusal, templates::RenderJob};

/// A job holds the templates of an image and the configuration of an instance.
pub(super) const JOB_BYTES_MAX: u64 = 16 * 1024 * 1024;
/// An answer holds metadata.yaml, escaped at worst six to one.
pub(super) const LINE_BYTES_MAX: u64 = 8 * 1024 * 1024;

/// What the helper is for.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Request {
    Read(Box<Job>),
    Render(Box<RenderJob>),
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Job {
    /// The unified file, or the metadata of a split image.
    pub(super) metadata: PathBuf,
    pub(super) root: Option<PathBuf>,
    pub(super) root_is_vm: bool,
    /// An empty directory; without one everything is read and checked, and nothing written.
    pub(super) target: Option<PathBuf>,
    /// Compared with what is read, so that a blob that rotted is not unpacked.
    pub(super) expected: Option<Fingerprint>,
    pub(super) owners: Owners,
    pub(super) limits: Limits,
}

/// Whose the unpacked files are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Owners {
    /// As the archive says, capabilities and all. Needs root.
    #[default]
    Keep,
    /// The unpacker's own; for looking into an image without root.
    Mine,
    /// As [`Self::Keep`], with every extended attribute and device: from another node.
    Everything,
}

impl Owners {
    /// Whether files belong to whom the archive says.
    pub(super) const fn are_kept(self) -> bool {
        match self {
            Self::Keep | Self::Everything => true,
            Self::Mine => false,
        }
    }
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Line {
    /// Bytes of the files read so far.
    Progress(Progress),
    Done(Box<Unpacked>),
    /// In the order of the sources.
    Rendered(Vec<Result<String, Refusal>>),
    Refused(Refusal),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    pub read_bytes: u64,
    pub total_bytes: u64,
}

impl Progress {
    #[must_use]
    pub fn percent(&self) -> u8 {
        let percent = self.read_bytes.saturating_mul(100) / self.total_bytes.max(1);
        u8::try_from(percent.min(100)).unwrap_or(100)
    }
}

/// What came out of an image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unpacked {
    pub kind: ImageKind,
    /// The text of metadata.yaml.
    pub metadata: String,
    /// The texts of its templates, by file name.
    pub templates: BTreeMap<String, String>,
    pub tally: Tally,
    pub confinement: Confinement,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tally {
    pub files: u64,
    pub bytes: u64,
    /// Device nodes: an unprivileged guest cannot use them, so they are left out.
    pub devices_skipped: u64,
    /// Extended attributes of other systems (`security.selinux`, `trusted.*` ...).
    pub xattrs_skipped: u64,
    /// Things beside the root that are no part of an image.
    pub strangers_skipped: u64,
}

/// Which walls stood around the helper.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Confinement {
    /// Own mount, network, pid, ipc and uts namespaces with an empty root.
    pub namespaces: bool,
    pub landlock: bool,
    pub seccomp: bool,
}
