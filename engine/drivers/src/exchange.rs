//! What this node gives to others and takes from them: the pipe's two ends on top of storage, images
//! and the directory of checkpoints.
//!
//! Everything travels in [`envelope`]s and lands under another name until it is whole.

use std::{
    io::{Read as _, Write as _},
    os::{fd::OwnedFd, unix::fs::DirBuilderExt},
    path::{Path, PathBuf},
    sync::{Arc, atomic::AtomicBool, atomic::Ordering},
};

use async_trait::async_trait;
use stapes_core::{
    ids::{Fingerprint, OperationId, ProjectId},
    port::{
        DriverError,
        image::{ImageFiles, Images, Upload},
        peer::{Arrivals, Sources, Wanted, checkpoint_dir},
        secret::KEY_BYTES,
        storage::Storage,
    },
};

use crate::{
    image::baggage,
    secret::{KeyName, ProjectKeys},
    storage::{
        Abandoned, blocking,
        envelope::{self, Inlet, Label, Outlet, sending},
        error::Context,
        transfer,
    },
};

const FILES_FORMAT: &str = "files-1";
const CHECKPOINT_FORMAT: &str = "checkpoint-1";
const KEY_FORMAT: &str = "key-1";
/// In an archive of an image's files.
const METADATA: &str = "metadata";
const ROOT: &str = "root";
/// A virtual machine's disk begins so.
const QCOW2: &[u8; 4] = b"QFI\xfb";

/// Begins the names of what is half.
const ARRIVING: &str = ".arriving-";

#[derive(Debug)]
pub struct Exchange {
    storage: Arc<dyn Storage>,
    images: Arc<dyn Images>,
    keys: Arc<ProjectKeys>,
    checkpoints: PathBuf,
}

impl Exchange {
    /// `checkpoints` holds a directory for each operation ([`checkpoint_dir`]); it is made when it is
    /// needed. What a killed predecessor left half there and among the uploads is removed.
    #[must_use]
    pub fn new(
        storage: Arc<dyn Storage>,
        images: Arc<dyn Images>,
        keys: Arc<ProjectKeys>,
        checkpoints: impl Into<PathBuf>,
    ) -> Self {
        let exchange = Self { storage, images, keys, checkpoints: checkpoints.into() };
        for directory in [&exchange.checkpoints, &exchange.images.staging()] {
            sweep(directory);
        }
        exchange
    }
}

#[async_trait]
impl Sources for Exchange {
    async fn send(&self, wanted: &Wanted, into: OwnedFd) -> Result<u64, DriverError> {
        match wanted {
            Wanted::Root { pool, volume, snapshot, parent, make } => {
                if *make {
                    self.storage.create_snapshot(*pool, *volume, *snapshot).await?;
                }
                self.storage.send(*pool, *volume, *snapshot, *parent, into).await
            }
            Wanted::Image { pool, fingerprint } => {
                self.storage.send_image(*pool, fingerprint, into).await
            }
            Wanted::ImageFiles { fingerprint } => {
                let (image, files) = (fingerprint.clone(), self.images.files(fingerprint).await?);
                blocking(move || send_files(&image, &files, into)).await
            }
            Wanted::Checkpoint { instance: _, operation } => {
                let (operation, from) = (*operation, checkpoint_dir(&self.checkpoints, *operation));
                blocking(move || send_checkpoint(operation, &from, into)).await
            }
            Wanted::Key { project, name } => {
                let (keys, project, name) = (self.keys.clone(), *project, *name);
                blocking(move || send_key(&keys, project, name, into)).await
            }
        }
    }
}

#[async_trait]
impl Arrivals for Exchange {
    async fn land(&self, wanted: &Wanted, from: OwnedFd) -> Result<u64, DriverError> {
        match wanted {
            Wanted::Root { pool, volume, snapshot, parent, make: _ } => {
                self.storage.receive(*pool, *volume, *snapshot, *parent, from).await
            }
            Wanted::Image { pool, fingerprint } => {
                self.storage.receive_image(*pool, fingerprint, from).await
            }
            Wanted::ImageFiles { fingerprint } => self.land_files(fingerprint, from).await,
            Wanted::Checkpoint { instance: _, operation } => {
                let (operation, checkpoints) = (*operation, self.checkpoints.clone());
                landing(move |flag| land_checkpoint(operation, &checkpoints, from, flag)).await
            }
            Wanted::Key { project, name } => {
                let (keys, project, name) = (self.keys.clone(), *project, *name);
                landing(move |flag| land_key(&keys, project, name, from, flag)).await
            }
        }
    }
}

impl Exchange {
    /// Checked like any upload, by the hash that is its name.
    async fn land_files(&self, image: &Fingerprint, from: OwnedFd) -> Result<u64, DriverError> {
        if self.images.files(image).await.is_ok() {
            return Ok(0);
        }
        let staging = Staging::new(&self.images.staging())?;
        let (subject, at) = (image.to_string(), staging.0.clone());
        let bytes = landing(move |flag| {
            let mut inlet = Inlet::new(from, flag, None);
            inlet.open(FILES_FORMAT, &subject)?;
            transfer::unpack_into(&at, &mut inlet)?;
            inlet.close()
        });
        let bytes = bytes.await?;
        let (metadata, root) = (staging.0.join(METADATA), staging.0.join(ROOT));
        let upload = if root.try_exists().context(|| format!("reading {}", root.display()))? {
            let root_is_vm = begins_with(&root, QCOW2)?;
            Upload::Split { metadata, root, root_is_vm, filename: None }
        } else {
            Upload::Unified { file: metadata, filename: None }
        };
        self.images.ingest(upload, Some(image)).await?;
        Ok(bytes)
    }
}

/// As [`blocking`]; the work is told when nobody waits for it any more.
async fn landing(
    work: impl FnOnce(&AtomicBool) -> Result<u64, DriverError> + Send + 'static,
) -> Result<u64, DriverError> {
    let abandoned = Abandoned::default();
    let flag = abandoned.flag();
    blocking(move || work(&flag)).await
}

fn send_files(image: &Fingerprint, files: &ImageFiles, into: OwnedFd) -> Result<u64, DriverError> {
    let label = Label { format: FILES_FORMAT.into(), subject: image.to_string(), parent: None };
    let mut outlet = Outlet::open(into, &label)?;
    let mut named = vec![(METADATA, files.metadata.as_path())];
    named.extend(files.root.as_deref().map(|root| (ROOT, root)));
    baggage::pack_files(&named, &mut outlet).map_err(|error| sending(&error))?;
    outlet.close()
}

fn send_checkpoint(operation: OperationId, from: &Path, into: OwnedFd) -> Result<u64, DriverError> {
    if !from.is_dir() {
        return Err(DriverError::NotFound(format!("a checkpoint for operation {operation}")));
    }
    let subject = operation.to_string();
    let label = Label { format: CHECKPOINT_FORMAT.into(), subject, parent: None };
    let mut outlet = Outlet::open(into, &label)?;
    transfer::pack(from, &mut outlet)?;
    outlet.close()
}

fn land_checkpoint(
    operation: OperationId,
    checkpoints: &Path,
    from: OwnedFd,
    abandoned: &AtomicBool,
) -> Result<u64, DriverError> {
    let at = checkpoint_dir(checkpoints, operation);
    if at.is_dir() {
        return Ok(0);
    }
    // It holds the memory of a guest.
    let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(checkpoints);
    made.context(|| format!("making {}", checkpoints.display()))?;
    let staging = Staging::new(checkpoints)?;
    let mut inlet = Inlet::new(from, abandoned, None);
    inlet.open(CHECKPOINT_FORMAT, &operation.to_string())?;
    transfer::unpack_into(&staging.0, &mut inlet)?;
    let bytes = inlet.close()?;
    if abandoned.load(Ordering::Relaxed) {
        return Err(envelope::given_up());
    }
    match std::fs::rename(&staging.0, &at) {
        // Somebody else was whole first.
        Err(error) if error.kind() == std::io::ErrorKind::DirectoryNotEmpty => Ok(bytes),
        named => named.context(|| format!("naming {}", at.display())).map(|()| bytes),
    }
}

fn send_key(
    keys: &ProjectKeys,
    project: ProjectId,
    name: Option<KeyName>,
    into: OwnedFd,
) -> Result<u64, DriverError> {
    let key = keys.give(project, name.as_ref())?;
    let label = Label { format: KEY_FORMAT.into(), subject: project.to_string(), parent: None };
    let mut outlet = Outlet::open(into, &label)?;
    outlet.write_all(&key).map_err(|error| sending(&error))?;
    outlet.close()
}

fn land_key(
    keys: &ProjectKeys,
    project: ProjectId,
    name: Option<KeyName>,
    from: OwnedFd,
    abandoned: &AtomicBool,
) -> Result<u64, DriverError> {
    let mut inlet = Inlet::new(from, abandoned, None);
    inlet.open(KEY_FORMAT, &project.to_string())?;
    let mut key = [0; KEY_BYTES];
    inlet.read_exact(&mut key).context(|| format!("reading a key of project {project}"))?;
    let bytes = inlet.close()?;
    keys.keep(project, name.as_ref(), &key)?;
    Ok(bytes)
}

fn begins_with(file: &Path, magic: &[u8; 4]) -> Result<bool, DriverError> {
    let mut begin = Vec::new();
    let read = std::fs::File::open(file).and_then(|file| file.take(4).read_to_end(&mut begin));
    read.context(|| format!("reading {}", file.display()))?;
    Ok(begin == magic)
}

fn sweep(directory: &Path) {
    let Ok(entries) = std::fs::read_dir(directory) else { return };
    for entry in entries.flatten() {
        if entry.file_name().as_encoded_bytes().starts_with(ARRIVING.as_bytes()) {
            drop(Staging(entry.path()));
        }
    }
}

/// A directory that is gone with this unless it got another name.
struct Staging(PathBuf);

impl Staging {
    fn new(beside: &Path) -> Result<Self, DriverError> {
        let path = beside.join(format!("{ARRIVING}{}", uuid::Uuid::new_v4()));
        let made = std::fs::DirBuilder::new().mode(0o700).create(&path);
        made.context(|| format!("making {}", path.display()))?;
        Ok(Self(path))
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.0)
            && error.kind() != std::io::ErrorKind::NotFound
        {
            tracing::warn!(path = %self.0.display(), %error, "what arrived stays half");
        }
    }
}
