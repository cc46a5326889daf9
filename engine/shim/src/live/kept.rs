//! What goes along with a guest beside CRIU's own files: the file `stapes` in their directory.

use std::{
    io,
    os::fd::{AsFd, OwnedFd},
    path::Path,
};

use serde::{Deserialize, Serialize};

use crate::{cgroup::Kept as KeptGroup, record, spec::Ids, start::KeptDevice};

/// Its name.
pub const FILE: &str = "stapes";
/// What the console showed.
pub const CONSOLE: &str = "stapes-console";
/// The version of what is in it.
pub const VERSION: u32 = 1;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kept {
    pub version: u32,
    pub instance: String,
    /// They stand in CRIU's files, where nobody changes them.
    pub ids: Option<Ids>,
    pub started_at_us: i64,
    /// The console's terminal, as CRIU names it.
    pub console: String,
    /// Names of interfaces inside.
    pub nics: Vec<String>,
    /// Names of disks.
    pub disks: Vec<String>,
    /// The parent of the guest's cgroups on the host that it comes from.
    pub cgroup_parent: String,
    /// The guest's own tree of cgroups.
    pub cgroups: Vec<KeptGroup>,
    /// What the guest made in its `/dev`.
    pub(crate) devices: Vec<KeptDevice>,
}

impl Kept {
    /// What is kept in a directory; `None` when it holds no guest.
    ///
    /// # Errors
    /// The kernel's, or `InvalidData`.
    pub fn read(images: &Path) -> io::Result<Option<Self>> {
        match std::fs::File::open(images) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            directory => record::read(OwnedFd::from(directory?), FILE),
        }
    }

    pub(super) fn write(&self, images: impl AsFd) -> io::Result<()> {
        record::write(images, FILE, self, false)
    }

    /// Why it cannot become this guest, if so.
    #[must_use]
    pub fn mismatch(&self, instance: &str, ids: Option<Ids>) -> Option<String> {
        if self.version != VERSION {
            Some(format!("it was written by another version of stapes ({})", self.version))
        } else if self.instance != instance {
            Some(format!("it holds {}", self.instance))
        } else if self.ids != ids {
            Some("it has other ids on this host than where it comes from".to_owned())
        } else {
            None
        }
    }
}
