//! The identity's directory: readable by its owner only, durable, and whole or absent.

use std::{
    fs::{self, DirBuilder},
    io,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
};

use super::IdentityError;
use crate::files;

/// Where the parts of an identity are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdentityFiles {
    pub dir: PathBuf,
    /// The authority's certificate.
    pub authority: PathBuf,
    /// The authority's key; absent where the node cannot sign.
    pub authority_key: PathBuf,
    pub certificate: PathBuf,
    pub key: PathBuf,
}

impl IdentityFiles {
    pub(super) const AUTHORITY: &str = "ca.crt";
    pub(super) const AUTHORITY_KEY: &str = "ca.key";
    pub(super) const CERTIFICATE: &str = "node.crt";
    pub(super) const KEY: &str = "node.key";
}

#[derive(Debug)]
pub(super) struct Directory {
    path: PathBuf,
}

impl Directory {
    pub(super) fn new(dir: &Path) -> Self {
        Self { path: dir.join("cluster") }
    }

    pub(super) fn files(&self) -> IdentityFiles {
        IdentityFiles {
            authority: self.path.join(IdentityFiles::AUTHORITY),
            authority_key: self.path.join(IdentityFiles::AUTHORITY_KEY),
            certificate: self.path.join(IdentityFiles::CERTIFICATE),
            key: self.path.join(IdentityFiles::KEY),
            dir: self.path.clone(),
        }
    }

    pub(super) fn exists(&self) -> bool {
        self.path.exists()
    }

    /// A place to put a new identity together; what an earlier attempt left is in it.
    pub(super) fn begin(&self) -> Result<Fresh, IdentityError> {
        if self.exists() {
            return Err(IdentityError::AlreadyMember(self.path.clone()));
        }
        let path = self.path.with_extension("new");
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&path)
            .map_err(failed("cannot make the directory", &path))?;
        Ok(Fresh { path, last: self.path.clone() })
    }

    pub(super) fn read(&self, path: &Path) -> Result<String, IdentityError> {
        fs::read_to_string(path).map_err(failed("cannot read", path))
    }

    pub(super) fn find(&self, path: &Path) -> Result<Option<String>, IdentityError> {
        find(path)
    }

    pub(super) fn replace(&self, path: &Path, text: &str) -> Result<(), IdentityError> {
        write(path, text)
    }
}

/// An identity that is being put together beside its place.
#[derive(Debug)]
pub(super) struct Fresh {
    path: PathBuf,
    last: PathBuf,
}

impl Fresh {
    pub(super) fn read(&self, name: &str) -> Result<Option<String>, IdentityError> {
        find(&self.path.join(name))
    }

    pub(super) fn write(&self, name: &str, text: &str) -> Result<(), IdentityError> {
        write(&self.path.join(name), text)
    }

    /// From here on the node has an identity.
    pub(super) fn finish(self) -> Result<(), IdentityError> {
        fs::rename(&self.path, &self.last).map_err(failed("cannot move", &self.path))?;
        files::sync_parent(&self.last).map_err(failed("cannot write out", &self.last))
    }
}

fn find(path: &Path) -> Result<Option<String>, IdentityError> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(failed("cannot read", path)(error)),
    }
}

fn write(path: &Path, text: &str) -> Result<(), IdentityError> {
    files::replace(path, text.as_bytes()).map_err(failed("cannot write", path))
}

fn failed(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> IdentityError {
    let path = path.to_owned();
    move |source| IdentityError::Io { what, path, source }
}
