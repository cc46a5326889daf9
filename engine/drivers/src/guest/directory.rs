//! The directory of one guest's records, and who holds its lock.
//!
//! The lock is taken before the shim exists and goes along with the descriptor that the shim is
//! born with: from then on the directory is locked exactly as long as the shim lives.

use std::{
    fs, io,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
};

use rustix::fs::{FlockOperation, Mode, OFlags, flock, openat};
use stapes_core::ids::InstanceId;
use stapes_shim::record;

#[derive(Debug)]
pub(super) struct Directory {
    path: PathBuf,
    pub(super) fd: OwnedFd,
}

impl Directory {
    fn at(path: PathBuf) -> io::Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = rustix::fs::open(&path, flags, Mode::empty())?;
        Ok(Self { path, fd })
    }

    /// The instance's directory, if it has one.
    pub(super) fn find(run_dir: &Path, instance: InstanceId) -> io::Result<Option<Self>> {
        match Self::at(run_dir.join(instance.to_string())) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            answer => answer.map(Some),
        }
    }

    /// A new one, locked by us.
    pub(super) fn make(run_dir: &Path, instance: InstanceId) -> io::Result<Self> {
        use std::os::unix::fs::DirBuilderExt as _;
        let path = run_dir.join(instance.to_string());
        fs::DirBuilder::new().mode(0o700).create(&path)?;
        let directory = Self::at(path)?;
        if !directory.lock()? {
            return Err(io::Error::from(io::ErrorKind::WouldBlock));
        }
        Ok(directory)
    }

    /// Whether no shim holds it: then we do, until this value is dropped.
    pub(super) fn lock(&self) -> io::Result<bool> {
        match flock(&self.fd, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(true),
            Err(rustix::io::Errno::WOULDBLOCK) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Where the shim may leave last words.
    pub(super) fn log(&self) -> io::Result<OwnedFd> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::APPEND | OFlags::CLOEXEC;
        Ok(openat(&self.fd, record::LOG, flags | OFlags::NOFOLLOW, Mode::RUSR | Mode::WUSR)?)
    }

    /// Removes it with its records.
    pub(super) fn remove(&self) -> io::Result<()> {
        match fs::remove_dir_all(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            answer => answer,
        }
    }

    /// The instances that have a directory.
    pub(super) fn all(run_dir: &Path) -> io::Result<Vec<InstanceId>> {
        let mut instances = Vec::new();
        for entry in fs::read_dir(run_dir)? {
            let name = entry?.file_name();
            instances.extend(name.to_str().and_then(|name| name.parse::<InstanceId>().ok()));
        }
        Ok(instances)
    }
}
