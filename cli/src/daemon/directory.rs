//! `STAPES_DIR`: where everything is, and who may look.

use std::{
    fs, io,
    os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
};

use stapes_node::files;
use uuid::Uuid;

/// Where Incus users would look for it, under our own name.
const DEFAULT: &str = "/var/lib/stapes";

#[derive(Clone, Debug)]
pub(crate) struct Directory(PathBuf);

#[derive(Debug, thiserror::Error)]
pub(crate) enum DirectoryError {
    #[error("{path} cannot be used")]
    Unusable { path: PathBuf, source: io::Error },
    #[error("{path} belongs to user {owner}: run the daemon as that user, or set STAPES_DIR")]
    Foreign { path: PathBuf, owner: u32 },
    #[error("{path} may be written by others (mode {mode:o}): chmod go-w {path}", path = path.display())]
    Open { path: PathBuf, mode: u32 },
    #[error(
        "{path} holds no node id: it was changed by hand; restore it, or remove it for a new node"
    )]
    NodeId { path: PathBuf },
}

impl Directory {
    /// Makes it if it is not there, and refuses one that others could change.
    ///
    /// # Errors
    /// When it cannot be made, or is not ours alone.
    pub(crate) fn prepare(path: &Path) -> Result<Self, DirectoryError> {
        let unusable = |source| DirectoryError::Unusable { path: path.to_owned(), source };
        // Guests' roots are walked through by their mapped users, so it may be entered, not listed.
        fs::DirBuilder::new().recursive(true).mode(0o711).create(path).map_err(unusable)?;
        let path = path.canonicalize().map_err(unusable)?;
        let metadata = fs::metadata(&path).map_err(unusable)?;
        let me = fs::metadata("/proc/self").map_err(unusable)?.uid();
        if metadata.uid() != me {
            return Err(DirectoryError::Foreign { path, owner: metadata.uid() });
        }
        let mode = metadata.permissions().mode() & 0o7777;
        if mode & 0o022 != 0 {
            return Err(DirectoryError::Open { path, mode });
        }
        for part in ["log", "views", "node", "images", "networks"] {
            fs::DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(path.join(part))
                .map_err(unusable)?;
        }
        for part in ["pools", "run"] {
            fs::DirBuilder::new()
                .recursive(true)
                .mode(0o711)
                .create(path.join(part))
                .map_err(unusable)?;
        }
        Ok(Self(path))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    pub(crate) fn log(&self) -> PathBuf {
        self.0.join("log")
    }

    pub(crate) fn views(&self) -> PathBuf {
        self.0.join("views")
    }

    pub(crate) fn node(&self) -> PathBuf {
        self.0.join("node")
    }

    pub(crate) fn images(&self) -> PathBuf {
        self.0.join("images")
    }

    /// Of secrets. A backup of the log without it is a backup without secrets.
    pub(crate) fn keys(&self) -> PathBuf {
        self.0.join("keys")
    }

    /// Who this node is in its cluster.
    pub(crate) fn cluster(&self) -> PathBuf {
        self.0.join("cluster")
    }

    pub(crate) fn cluster_config(&self) -> PathBuf {
        self.cluster().join("config")
    }

    /// All that a managed nats-server has.
    pub(crate) fn nats(&self) -> PathBuf {
        self.0.join("nats")
    }

    pub(crate) fn pools(&self) -> PathBuf {
        self.0.join("pools")
    }

    pub(crate) fn networks(&self) -> PathBuf {
        self.0.join("networks")
    }

    /// Of guests that are on their way to another node or come from one.
    pub(crate) fn checkpoints(&self) -> PathBuf {
        self.0.join("checkpoints")
    }

    /// Of the guests that run.
    pub(crate) fn run(&self) -> PathBuf {
        self.0.join("run")
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.0.join("unix.socket")
    }

    /// Tells several daemons on one host apart; empty for the usual one.
    pub(crate) fn tag(&self) -> String {
        if self.0 == Path::new(DEFAULT) {
            return String::new();
        }
        let id = Uuid::new_v5(&Uuid::NAMESPACE_URL, self.0.as_os_str().as_encoded_bytes());
        id.simple().to_string()[..8].to_owned()
    }

    /// Drawn once, then kept.
    ///
    /// # Errors
    /// When it cannot be kept, or what is kept is no id.
    pub(crate) fn node_id(&self) -> Result<Uuid, DirectoryError> {
        let path = self.0.join("node-id");
        let unusable = |source| DirectoryError::Unusable { path: path.clone(), source };
        match fs::read_to_string(&path) {
            Ok(text) => {
                text.trim().parse().map_err(|_| DirectoryError::NodeId { path: path.clone() })
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let id = Uuid::new_v4();
                files::replace(&path, format!("{id}\n").as_bytes()).map_err(unusable)?;
                Ok(id)
            }
            Err(error) => Err(unusable(error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_keeps_its_id() {
        let dir = tempfile::tempdir().unwrap();
        let first = Directory::prepare(dir.path()).unwrap().node_id().unwrap();
        assert_eq!(Directory::prepare(dir.path()).unwrap().node_id().unwrap(), first);
        fs::write(dir.path().join("node-id"), "nonsense").unwrap();
        let directory = Directory::prepare(dir.path()).unwrap();
        assert!(matches!(directory.node_id(), Err(DirectoryError::NodeId { .. })));
    }

    #[test]
    fn a_directory_that_others_write_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o777)).unwrap();
        assert!(matches!(Directory::prepare(dir.path()), Err(DirectoryError::Open { .. })));
    }

    #[test]
    fn two_directories_have_two_tags() {
        let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let tag = |dir: &tempfile::TempDir| Directory::prepare(dir.path()).unwrap().tag();
        assert_eq!(tag(&one).len(), 8);
        assert_ne!(tag(&one), tag(&two));
    }
}
