//! The btrfs of a pool: made, mounted, found again, grown and unmounted.
//!
//! A file system that we make has a uuid that follows from the pool, so that what is mounted or
//! attached can be told from anything else.

use std::{
    ffi::CStr,
    fs::File,
    os::{
        fd::AsFd,
        unix::fs::{FileExt, MetadataExt},
    },
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use rustix::{
    fs::IFlags,
    io::Errno,
    mount::{MountFlags, UnmountFlags},
};
use stapes_core::ids::PoolId;
use uuid::Uuid;

use super::{
    super::{
        error::{Context, DriverError},
        layout,
        steps::Steps,
    },
    Quotas, ioctl,
    loops::Loop,
    open,
};

/// btrfs of less than this spends most of it on itself.
const SIZE_MIN_BYTES: u64 = 256 << 20;
const SIZE_UNIT_BYTES: u64 = 1 << 20;
/// After a loss of power the newest changes of so many seconds are missing. The node performs what it
/// did not flush once more.
const OPTIONS: &CStr = c"discard=async,commit=5";
/// Of the only daemon on a host.
const TAG: &str = "stapes";
/// Where btrfs keeps its superblock, and in it the file system's uuid and the word that says so.
const SUPERBLOCK_AT: u64 = 0x1_0000;
const UUID_AT: usize = 0x20;
const MAGIC_AT: usize = 0x40;
const MAGIC: &[u8] = b"_BHRfS_M";
/// `statfs` says so of a btrfs.
const BTRFS_MAGIC: u64 = 0x9123_683e;

/// What the file system of a pool is called and where it is seen.
#[derive(Clone, Debug)]
pub(in super::super) struct Filesystem {
    pub(in super::super) uuid: Uuid,
    pub(in super::super) label: String,
    pub(in super::super) mountpoint: PathBuf,
    pub(in super::super) steps: Steps,
}

impl Filesystem {
    /// Makes the sparse file with its file system unless it is there.
    pub(in super::super) fn make_file(
        &self,
        file: &Path,
        size_bytes: u64,
    ) -> Result<(), DriverError> {
        if layout::exists(file)? {
            return Ok(());
        }
        if size_bytes < SIZE_MIN_BYTES {
            return Err(DriverError::Refused(format!(
                "a btrfs pool needs at least {} MiB; {} MiB were asked for. Nothing was made",
                SIZE_MIN_BYTES >> 20,
                size_bytes >> 20
            )));
        }
        let part = file.with_extension("img.part");
        layout::remove_file(&part)?;
        let make = || {
            let made = File::create_new(&part)?;
            // On a copy-on-write host file system a pool would be copied twice. Others know no
            // such flag.
            let _no_such_flag = rustix::fs::ioctl_setflags(&made, IFlags::NOCOW);
            made.set_len(size_bytes - size_bytes % SIZE_UNIT_BYTES)
        };
        make().context(|| format!("making {}", part.display()))?;
        self.steps.at("loop file made")?;
        self.format(&part)?;
        self.steps.at("loop file formatted")?;
        File::open(&part)
            .and_then(|file| file.sync_all())
            .context(|| "flushing the pool".into())?;
        std::fs::rename(&part, file).context(|| format!("naming {}", file.display()))?;
        self.steps.at("loop file named")
    }

    /// Makes the file system on a device or file that holds none.
    pub(in super::super) fn format(&self, device: &Path) -> Result<(), DriverError> {
        let path = std::env::var("PATH").unwrap_or_default();
        let made = Command::new("mkfs.btrfs")
            .env("PATH", format!("{path}:/usr/sbin:/sbin"))
            .args(["--quiet", "--nodiscard", "--uuid", &self.uuid.to_string()])
            .args(["--label", &self.label])
            .arg(device)
            .stdin(Stdio::null())
            .output();
        let made = made.map_err(|error| {
            DriverError::Refused(format!(
                "mkfs.btrfs cannot be run ({error}). Nothing was made. Install btrfs-progs, or \
                 make a pool of the driver dir"
            ))
        })?;
        if made.status.success() {
            return Ok(());
        }
        let said = String::from_utf8_lossy(&made.stderr);
        Err(DriverError::Refused(format!(
            "mkfs.btrfs made no file system on {}: {}",
            device.display(),
            said.trim()
        )))
    }

    /// Whether this very file system is mounted there.
    pub(in super::super) fn mounted(&self) -> Result<bool, DriverError> {
        if !is_root_of_btrfs(&self.mountpoint)? {
            return Ok(false);
        }
        let uuid = ioctl::filesystem_uuid(open(&self.mountpoint)?.as_fd());
        let uuid = uuid.context(|| format!("looking at {}", self.mountpoint.display()))?;
        if uuid != self.uuid {
            return Err(DriverError::Refused(format!(
                "another btrfs ({uuid}) is mounted at {}. Nothing was changed. Unmount it first",
                self.mountpoint.display()
            )));
        }
        Ok(true)
    }

    /// Mounts the file, which must hold the file system, unless that is mounted.
    pub(in super::super) fn mount_file(&self, file: &Path) -> Result<(), DriverError> {
        if self.mounted()? {
            return Ok(());
        }
        let device = Loop::attach(file)?;
        self.steps.at("loop attached")?;
        self.mount(&device.path)
    }

    /// Mounts the device.
    pub(in super::super) fn mount(&self, device: &Path) -> Result<(), DriverError> {
        layout::make_dir(&self.mountpoint)?;
        let mounted =
            rustix::mount::mount(device, &self.mountpoint, "btrfs", MountFlags::NOATIME, OPTIONS);
        match mounted {
            Ok(()) => {}
            Err(error @ (Errno::INVAL | Errno::IO | Errno::UCLEAN)) => {
                return Err(DriverError::Refused(format!(
                    "{} cannot be mounted ({error}): what is on it is no btrfs, or damaged. Nothing \
                     was changed. Look with `btrfs check --readonly`, or put it back from a backup",
                    device.display()
                )));
            }
            Err(error) => {
                return Err(error).context(|| format!("mounting {}", device.display()));
            }
        }
        self.steps.at("mounted")
    }

    /// Gives the file system more room. It never shrinks.
    pub(in super::super) fn grow_file(
        &self,
        file: &Path,
        size_bytes: u64,
    ) -> Result<(), DriverError> {
        let size_bytes = size_bytes - size_bytes % SIZE_UNIT_BYTES;
        let now = std::fs::metadata(file).context(|| format!("reading {}", file.display()))?.len();
        if size_bytes < now {
            return Err(DriverError::Refused(format!(
                "the pool has {} MiB and cannot be made smaller ({} MiB). Nothing was changed",
                now >> 20,
                size_bytes >> 20
            )));
        }
        let Some(device) = Loop::find(file)? else { return Ok(()) };
        if size_bytes > now {
            let grown = File::options().write(true).open(file);
            let grown = grown.and_then(|file| file.set_len(size_bytes));
            grown.context(|| format!("growing {}", file.display()))?;
            self.steps.at("loop file grown")?;
        }
        device.grow()?;
        self.steps.at("loop grown")?;
        ioctl::grow(open(&self.mountpoint)?.as_fd())
            .context(|| format!("growing {}", self.mountpoint.display()))?;
        self.steps.at("file system grown")
    }

    /// Turns simple quotas on if they are off. To be called before there is any data: what was
    /// written before is never counted.
    pub(in super::super) fn enable_quotas(&self) -> Result<Quotas, DriverError> {
        if quotas(self.uuid) == Quotas::Enforced {
            return Ok(Quotas::Enforced);
        }
        if let Err(error) = ioctl::enable_simple_quotas(open(&self.mountpoint)?.as_fd()) {
            let pool = self.mountpoint.display();
            tracing::warn!(%pool, %error, "the kernel has no simple quotas: sizes are not limited");
        }
        self.steps.at("quotas on")?;
        Ok(quotas(self.uuid))
    }

    /// Unmounts it if it is mounted. The loop device goes by itself.
    pub(in super::super) fn unmount(&self) -> Result<(), DriverError> {
        match rustix::mount::unmount(&self.mountpoint, UnmountFlags::NOFOLLOW) {
            // Not mounted, or there is not even a directory.
            Ok(()) | Err(Errno::INVAL | Errno::NOENT) => {}
            Err(error) => {
                return Err(error).context(|| format!("unmounting {}", self.mountpoint.display()));
            }
        }
        self.steps.at("unmounted")?;
        layout::remove_dir(&self.mountpoint)
    }
}

/// The uuid of a pool's file system: the pool's own. A kernel mounts no two of one uuid, so members
/// of a cluster that share a kernel, as in tests, tell theirs apart by their tags.
pub(in super::super) fn uuid_of(pool: PoolId, tag: &str) -> Uuid {
    if tag == TAG { pool.0 } else { Uuid::new_v5(&pool.0, tag.as_bytes()) }
}

/// Whether the kernel enforces quotas on this file system.
pub(in super::super) fn quotas(uuid: Uuid) -> Quotas {
    let directory = format!("/sys/fs/btrfs/{}/qgroups", uuid.hyphenated());
    let mode = std::fs::read_to_string(format!("{directory}/mode")).unwrap_or_default();
    let inconsistent = std::fs::read_to_string(format!("{directory}/inconsistent"));
    // The kernel silently stops enforcing the other, older mode when it has lost count.
    let consistent = inconsistent.is_ok_and(|flag| flag.trim() == "0");
    match mode.trim() {
        "squota" => Quotas::Enforced,
        "qgroup" if consistent => Quotas::Enforced,
        _ => Quotas::Off,
    }
}

/// The uuid of the btrfs that the directory is on, `None` when it is on none.
pub(in super::super) fn uuid_below(directory: &Path) -> Result<Option<Uuid>, DriverError> {
    let found = rustix::fs::statfs(directory);
    let found = found.context(|| format!("looking at {}", directory.display()))?;
    if u64::try_from(found.f_type) != Ok(BTRFS_MAGIC) {
        return Ok(None);
    }
    let uuid = ioctl::filesystem_uuid(open(directory)?.as_fd());
    uuid.map(Some).context(|| format!("looking at {}", directory.display()))
}

/// Whether this very file system is on the device.
pub(in super::super) fn is_on_device(uuid: Uuid, device: &Path) -> Result<bool, DriverError> {
    let mut block = [0; MAGIC_AT + MAGIC.len()];
    let read = File::open(device).and_then(|file| file.read_exact_at(&mut block, SUPERBLOCK_AT));
    read.context(|| format!("reading {}", device.display()))?;
    Ok(&block[MAGIC_AT..] == MAGIC && block[UUID_AT..UUID_AT + 16] == *uuid.as_bytes())
}

/// Makes the device empty for whoever looks what is on it.
pub(in super::super) fn wipe(device: &Path) -> Result<(), DriverError> {
    let wipe = || {
        let device = File::options().write(true).open(device)?;
        device.write_all_at(&[0; MAGIC.len()], SUPERBLOCK_AT + MAGIC_AT as u64)?;
        device.sync_all()
    };
    wipe().context(|| format!("wiping {}", device.display()))
}

/// Whether the root of a btrfs is mounted there.
fn is_root_of_btrfs(path: &Path) -> Result<bool, DriverError> {
    if !layout::exists(path)? || uuid_below(path)?.is_none() {
        return Ok(false);
    }
    let device = |path: &Path| std::fs::metadata(path).map(|found| (found.dev(), found.ino()));
    let parent = path.parent().unwrap_or(path);
    let here = device(path).context(|| format!("looking at {}", path.display()))?;
    let above = device(parent).context(|| format!("looking at {}", parent.display()))?;
    Ok(here.1 == ioctl::SUBVOLUME_INODE && here.0 != above.0)
}
