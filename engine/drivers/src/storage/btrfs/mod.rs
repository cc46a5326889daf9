//! btrfs: trees are subvolumes, copied in a millisecond and limited by simple quotas.
//!
//! Simple quotas charge an extent to the subvolume that wrote it, for as long as anybody holds it.
//! So a volume's use counts what it wrote itself, its snapshots keep what it wrote charged to it,
//! and neither the image below nor the content that a copy began with counts.

use std::{
    ffi::{CString, OsStr},
    os::{
        fd::{AsFd, OwnedFd},
        unix::ffi::OsStrExt,
    },
    path::Path,
};

use rustix::{
    fs::{AtFlags, FileType, Mode, OFlags},
    io::Errno,
};

use super::{
    envelope::{Inlet, Outlet},
    error::{Context, DriverError},
    trees::{Access, TreeUsage, Trees},
};

pub(super) mod filesystem;
mod ioctl;
mod loops;
mod nested;
mod receive;
mod search;
mod send;
mod stream;

/// Ids below are the file system's own.
const FIRST_SUBVOLUME: u64 = 256;

#[derive(Debug)]
pub(super) struct BtrfsTrees {
    pub(super) quotas: Quotas,
    pub(super) root: std::path::PathBuf,
}

/// Whether limits are enforced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Quotas {
    Enforced,
    Off,
}

impl Trees for BtrfsTrees {
    fn create(&self, at: &Path) -> Result<(), DriverError> {
        let (parent, name) = entry(at)?;
        ioctl::create_subvolume(parent.as_fd(), &name)
            .context(|| format!("making subvolume {}", at.display()))
    }

    fn copy(&self, from: &Path, to: &Path, access: Access) -> Result<(), DriverError> {
        let source = open(from)?;
        let (parent, name) = entry(to)?;
        let read_only = access == Access::ReadOnly;
        ioctl::snapshot(source.as_fd(), parent.as_fd(), &name, read_only)
            .context(|| format!("making {} a snapshot of {}", to.display(), from.display()))
    }

    fn copies_at_once(&self) -> bool {
        true
    }

    fn set_access(&self, at: &Path, access: Access) -> Result<(), DriverError> {
        let tree = open(at)?;
        let set = || {
            let read_only = access == Access::ReadOnly;
            // Only the root of a subvolume can be asked; the directories that hold some are ours.
            if rustix::fs::fstat(&tree)?.st_ino != ioctl::SUBVOLUME_INODE
                || ioctl::read_only(tree.as_fd())? == read_only
            {
                return Ok(());
            }
            ioctl::set_read_only(tree.as_fd(), read_only)
        };
        set().context(|| format!("making {} {access:?}", at.display()))
    }

    fn delete(&self, at: &Path) -> Result<(), DriverError> {
        if !super::layout::exists(at)? {
            return Ok(());
        }
        let (parent, name) = entry(at)?;
        let found = match rustix::fs::statat(&parent, &name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(found) => found,
            Err(Errno::NOENT) => return Ok(()),
            Err(error) => return Err(error).context(|| format!("looking at {}", at.display())),
        };
        let is_directory = FileType::from_raw_mode(found.st_mode) == FileType::Directory;
        if !is_directory {
            return super::layout::remove_file(at);
        }
        if found.st_ino == ioctl::SUBVOLUME_INODE {
            return nested::delete(parent.as_fd(), &name)
                .context(|| format!("deleting subvolume {}", at.display()));
        }
        // A directory of ours, which holds the snapshots of a volume.
        for name in super::layout::names(at)? {
            self.delete(&at.join(name))?;
        }
        super::layout::remove_dir(at)
    }

    fn stream_format(&self) -> &'static str {
        "btrfs-1"
    }

    fn sends_differences(&self) -> bool {
        true
    }

    fn send(
        &self,
        from: &Path,
        parent: Option<&Path>,
        outlet: &mut Outlet,
    ) -> Result<(), DriverError> {
        let id = |path: &Path| {
            let id = ioctl::subvolume_id(open(path)?.as_fd());
            id.context(|| format!("looking at {}", path.display()))
        };
        send::send(open(from)?.as_fd(), parent.map(id).transpose()?, outlet)
    }

    fn receive(
        &self,
        staged: &Path,
        parent: Option<&Path>,
        inlet: &mut Inlet<'_>,
    ) -> Result<(), DriverError> {
        let uuids = |path: &Path| {
            let uuids = ioctl::uuids(open(path)?.as_fd());
            uuids.context(|| format!("looking at {}", path.display()))
        };
        let tree = open(staged)?;
        let origin = receive::receive(inlet, tree.as_fd(), parent.map(uuids).transpose()?)?;
        ioctl::set_received(tree.as_fd(), origin.uuid, origin.transaction)
            .context(|| format!("marking {}", staged.display()))
    }

    fn forget_origin(&self, at: &Path) -> Result<(), DriverError> {
        ioctl::set_received(open(at)?.as_fd(), [0; 16], 0)
            .context(|| format!("marking {}", at.display()))
    }

    fn overlays(&self) -> bool {
        true
    }

    fn check_limit(&self, bytes: Option<u64>) -> Result<(), DriverError> {
        match (self.quotas, bytes) {
            (Quotas::Off, Some(_)) => Err(DriverError::Refused(format!(
                "quotas are off on the btrfs at {}, so no size limit can be kept. Nothing was \
                 changed. Turn them on with `btrfs quota enable --simple {0}` (Linux 6.7 or \
                 later), or leave the size out",
                self.root.display()
            ))),
            (Quotas::Off, None) | (Quotas::Enforced, _) => Ok(()),
        }
    }

    fn set_limit(&self, at: &Path, bytes: Option<u64>) -> Result<(), DriverError> {
        match self.quotas {
            Quotas::Off => Ok(()),
            Quotas::Enforced => ioctl::set_limit(open(at)?.as_fd(), bytes)
                .context(|| format!("limiting {}", at.display())),
        }
    }

    fn usage(&self, at: &Path) -> Result<TreeUsage, DriverError> {
        if self.quotas == Quotas::Off {
            return Ok(TreeUsage::default());
        }
        let tree = open(at)?;
        let read = || search::account(tree.as_fd(), ioctl::subvolume_id(tree.as_fd())?);
        let account = read().context(|| format!("reading the account of {}", at.display()))?;
        let account = account.unwrap_or_default();
        Ok(TreeUsage { used_bytes: account.used_bytes, limit_bytes: account.limit_bytes })
    }

    fn flush(&self, at: &Path) -> Result<(), DriverError> {
        ioctl::sync(open(at)?.as_fd()).context(|| format!("flushing {}", at.display()))
    }

    /// btrfs does so by itself: all changes of a moment reach the disk together and in order, every
    /// few seconds (see [`filesystem`]). To wait for it would take longer than all else that a
    /// volume needs.
    fn commit(&self, _directory: &Path) -> Result<(), DriverError> {
        Ok(())
    }

    fn tidy(&self) -> Result<(), DriverError> {
        if self.quotas == Quotas::Off {
            return Ok(());
        }
        let root = open(&self.root)?;
        let accounted = search::accounted(root.as_fd());
        for id in accounted.context(|| format!("listing accounts of {}", self.root.display()))? {
            // Newer kernels do this by themselves. An account that others' extents are charged to
            // answers BUSY and stays.
            if id >= FIRST_SUBVOLUME
                && id >> 48 == 0
                && search::is_gone(root.as_fd(), id) == Ok(true)
                && let Err(error) = ioctl::destroy_qgroup(root.as_fd(), id)
            {
                tracing::debug!(id, %error, "the account of a deleted subvolume stays");
            }
        }
        Ok(())
    }
}

fn open(path: &Path) -> Result<OwnedFd, DriverError> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, Mode::empty()).context(|| format!("opening {}", path.display()))
}

/// The directory that holds `path`, and its name there.
fn entry(path: &Path) -> Result<(OwnedFd, CString), DriverError> {
    let parent = path.parent().unwrap_or_else(|| Path::new("/"));
    let name = path.file_name().unwrap_or_else(|| OsStr::new("."));
    let name = CString::new(name.as_bytes()).map_err(std::io::Error::from);
    Ok((open(parent)?, name.context(|| format!("naming {}", path.display()))?))
}
