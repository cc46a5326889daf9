//! Where the parts of a managed server lie, and how small files of it are written.

use std::{
    fs::{self, DirBuilder, OpenOptions},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use super::ManagedError;

#[derive(Clone, Debug)]
pub(super) struct Paths {
    pub dir: PathBuf,
    /// One that was checked, and is or was in use.
    pub config: PathBuf,
    pub store: PathBuf,
    pub log: PathBuf,
    /// Which process is ours.
    pub record: PathBuf,
    /// Says that the store is part of a cluster, and of which.
    pub began: PathBuf,
    pub companion: PathBuf,
    /// The key of whoever makes and changes streams, on this node's server alone.
    pub keeper_seed: PathBuf,
    /// The key of whoever asks and tells this node's server itself.
    pub system_seed: PathBuf,
}

impl Paths {
    pub(super) fn new(dir: &Path) -> Self {
        Self {
            config: dir.join("nats.conf"),
            store: dir.join("store"),
            log: dir.join("nats.log"),
            record: dir.join("process.json"),
            began: dir.join("began"),
            companion: dir.join("companion"),
            keeper_seed: dir.join("keeper.nk"),
            system_seed: dir.join("system.nk"),
            dir: dir.to_owned(),
        }
    }

    pub(super) fn create(&self) -> Result<(), ManagedError> {
        create_dir(&self.dir)
    }
}

pub(super) fn create_dir(path: &Path) -> Result<(), ManagedError> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(failed("cannot make the directory", path))
}

pub(super) fn remove_dir(path: &Path) -> Result<(), ManagedError> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(failed("cannot remove", path)(error))
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

pub(super) fn remove_file(path: &Path) -> Result<(), ManagedError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(failed("cannot remove", path)(error))
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

/// What the file says; `None` when it is not there.
pub(super) fn find(path: &Path) -> Result<Option<String>, ManagedError> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(failed("cannot read", path)(error)),
    }
}

/// Replaces the file whole; nobody but its owner reads it.
pub(super) fn write(path: &Path, text: &str) -> Result<(), ManagedError> {
    let partial = path.with_extension("partial");
    remove_file(&partial)?;
    let written = || -> io::Result<()> {
        let mut file =
            OpenOptions::new().write(true).create_new(true).mode(0o600).open(&partial)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&partial, path)
    };
    written().map_err(failed("cannot write", path))
}

pub(super) fn failed(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> ManagedError {
    let path = path.to_owned();
    move |source| ManagedError::Io { what, path, source }
}
