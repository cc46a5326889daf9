//! Where things are in a pool, and what a volume says of itself.
//!
//! ```text
//! images/<fingerprint>/       an unpacked image: rootfs/, metadata.yaml, templates/
//! unwanted/<fingerprint>      the image goes when no volume uses it any more
//! uses/<fingerprint>/<volume> the volume is made from the image; stale when there is no such volume
//! volumes/<volume>/           volume.json and either u/ and w/ (an overlay's) or rootfs/
//! snapshots/<volume>/<snapshot>/
//! incoming/<volume>/<snapshot>/  as the received snapshot of that name, and writable
//! tmp/<id>                    being made; whoever finds one of its own throws it away
//! trash/<uuid>                on its way out
//! ```
//!
//! A name in images, volumes and snapshots is there when the thing is whole: renaming to it is the
//! last step. Guests reach `u/`, `w/` and `rootfs/` only, so that everything beside is ours.

use std::{
    fs::{File, Permissions},
    io::{ErrorKind, Write},
    os::{fd::AsRawFd, unix::fs::PermissionsExt},
    path::{Path, PathBuf},
};

use nix::libc;
use serde::{Deserialize, Serialize};
use stapes_core::ids::{Fingerprint, SnapshotId, VolumeId};

use super::{
    error::{Context, DriverError},
    trees::Trees,
};

/// A volume's whole tree, where no overlay is used.
pub(super) const ROOTFS: &str = "rootfs";
pub(super) const VOLUME_FILE: &str = "volume.json";

/// What a volume is made of. Written into it, so that snapshots and copies have it too.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum VolumeKind {
    /// `u` and `w` above this image's `rootfs`.
    Overlay { image: Fingerprint },
    /// `rootfs`.
    Plain,
}

const PARTS: [&str; 8] =
    ["images", "unwanted", "uses", "volumes", "snapshots", "incoming", "tmp", "trash"];

#[derive(Clone, Debug)]
pub(super) struct Layout {
    pub(super) root: PathBuf,
}

impl Layout {
    /// Makes the directories. Nobody but root may look inside: a guest's files have its setuid bits.
    pub(super) fn make(&self) -> Result<(), DriverError> {
        for part in PARTS {
            let path = self.root.join(part);
            make_dir(&path)?;
            let private = std::fs::set_permissions(&path, Permissions::from_mode(0o700));
            private.context(|| format!("closing {}", path.display()))?;
        }
        let passage = std::fs::set_permissions(&self.root, Permissions::from_mode(0o711));
        passage.context(|| format!("closing {}", self.root.display()))
    }

    /// Removes the directories with all that is in them.
    pub(super) fn remove(&self, trees: &dyn Trees) -> Result<(), DriverError> {
        for part in PARTS {
            let path = self.root.join(part);
            for name in names(&path)? {
                trees.delete(&path.join(name))?;
            }
            remove_dir(&path)?;
        }
        Ok(())
    }

    pub(super) fn image(&self, image: &Fingerprint) -> PathBuf {
        self.root.join("images").join(image.as_str())
    }

    pub(super) fn unwanted(&self, image: &Fingerprint) -> PathBuf {
        self.root.join("unwanted").join(image.as_str())
    }

    pub(super) fn uses(&self, image: &Fingerprint) -> PathBuf {
        self.root.join("uses").join(image.as_str())
    }

    pub(super) fn volumes(&self) -> PathBuf {
        self.root.join("volumes")
    }

    pub(super) fn volume(&self, volume: VolumeId) -> PathBuf {
        self.volumes().join(volume.to_string())
    }

    pub(super) fn snapshots(&self, volume: VolumeId) -> PathBuf {
        self.root.join("snapshots").join(volume.to_string())
    }

    pub(super) fn snapshot(&self, volume: VolumeId, snapshot: SnapshotId) -> PathBuf {
        self.snapshots(volume).join(snapshot.to_string())
    }

    pub(super) fn arrivals(&self, volume: VolumeId) -> PathBuf {
        self.root.join("incoming").join(volume.to_string())
    }

    pub(super) fn arrival(&self, volume: VolumeId, snapshot: SnapshotId) -> PathBuf {
        self.arrivals(volume).join(snapshot.to_string())
    }

    pub(super) fn tmp(&self) -> PathBuf {
        self.root.join("tmp")
    }

    pub(super) fn trash(&self) -> PathBuf {
        self.root.join("trash")
    }
}

/// What the tree `at` says of itself; `None` when there is no such tree.
pub(super) fn read_kind(at: &Path) -> Result<Option<VolumeKind>, DriverError> {
    let path = at.join(VOLUME_FILE);
    let text = match std::fs::read(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error).context(|| format!("reading {}", path.display())),
    };
    serde_json::from_slice(&text).map(Some).map_err(|error| {
        DriverError::Failed(format!("{} cannot be understood: {error}", path.display()))
    })
}

pub(super) fn write_kind(at: &Path, kind: &VolumeKind) -> Result<(), DriverError> {
    let path = at.join(VOLUME_FILE);
    let text = serde_json::to_vec(kind).expect("it has no maps and no failing parts");
    // Never through a link that an image may have there.
    remove_file(&path)?;
    let write = || {
        let mut file = File::create_new(&path)?;
        file.write_all(&text)?;
        begin_to_store(&file);
        Ok::<_, std::io::Error>(())
    };
    write().context(|| format!("writing {}", path.display()))
}

/// Hands what was written to the file system without waiting for the disk. btrfs puts so little in
/// the tree itself, so that it gets to the disk together with the name that the volume has next.
fn begin_to_store(file: &File) {
    // SAFETY: a plain call on a file that is open. What it answers changes nothing for us: a file
    // system that knows no such call stores the file later.
    unsafe { libc::sync_file_range(file.as_raw_fd(), 0, 0, libc::SYNC_FILE_RANGE_WRITE) };
}

/// Whether there is something of this name, without following it.
pub(super) fn exists(path: &Path) -> Result<bool, DriverError> {
    match std::fs::symlink_metadata(path) {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error).context(|| format!("looking at {}", path.display())),
    }
}

/// Fine when it is there.
pub(super) fn make_dir(path: &Path) -> Result<(), DriverError> {
    match std::fs::create_dir(path) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
        made => made.context(|| format!("making {}", path.display())),
    }
}

/// Fine when there is none.
pub(super) fn remove_file(path: &Path) -> Result<(), DriverError> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        gone => gone.context(|| format!("removing {}", path.display())),
    }
}

/// Fine when there is none.
pub(super) fn remove_dir(path: &Path) -> Result<(), DriverError> {
    match std::fs::remove_dir(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        gone => gone.context(|| format!("removing {}", path.display())),
    }
}

/// The names in a directory of ours; none when there is no directory.
pub(super) fn names(directory: &Path) -> Result<Vec<String>, DriverError> {
    let entries = match std::fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error).context(|| format!("listing {}", directory.display())),
    };
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry.context(|| format!("listing {}", directory.display()))?;
        names.extend(entry.file_name().into_string());
    }
    Ok(names)
}
