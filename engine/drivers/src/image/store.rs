//! The store: uploads come in by their hash, and go out by it.

use std::{
    collections::BTreeMap,
    io::{self, Read, Write},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use async_trait::async_trait;
use sha2::{Digest, Sha256};
use stapes_core::{
    ids::Fingerprint,
    port::{
        DriverError,
        image::{ImageFacts, ImageFiles, ImageKind, Images, Upload},
    },
    template::{RenderedFile, TemplateContext},
};

use super::{
    ImageConfig, Metadata, Refusal,
    compression::{Compression, MAGIC_BYTES},
    helper,
    job::{Job, Progress, Unpacked},
    publish,
    templates::Templates,
};
use crate::storage::Unpacker;

const NOTHING_KEPT: &str = "nothing was kept";
const NOTHING_UNPACKED: &str = "nothing was unpacked";
const HASH_BYTES: usize = 1024 * 1024;
const FILENAME_BYTES_MAX: usize = 255;

/// Images whose templates are held in memory at most.
const TEMPLATES_MAX: usize = 256;

#[derive(Debug)]
pub struct ImageStore {
    config: ImageConfig,
    templates: Mutex<BTreeMap<Fingerprint, Arc<Templates>>>,
}

/// What is known of an upload before it is kept.
struct Checked {
    fingerprint: Fingerprint,
    size_bytes: u64,
    unpacked: Unpacked,
    metadata: Metadata,
}

impl ImageStore {
    /// # Errors
    /// When the store's directories can neither be found nor made.
    pub fn new(config: ImageConfig) -> Result<Self, DriverError> {
        let store = Self { config, templates: Mutex::default() };
        for directory in [store.staging(), store.blobs()] {
            std::fs::create_dir_all(&directory)
                .map_err(|error| failed("make", &directory, &error))?;
            // Images may hold setuid programs; nobody but us walks in here.
            use std::os::unix::fs::PermissionsExt;
            std::fs::set_permissions(&directory, std::fs::Permissions::from_mode(0o700))
                .map_err(|error| failed("protect", &directory, &error))?;
        }
        Ok(store)
    }

    #[must_use]
    pub fn config(&self) -> &ImageConfig {
        &self.config
    }

    /// Every image that is kept.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn list(&self) -> Result<Vec<Fingerprint>, DriverError> {
        let blobs = self.blobs();
        let entries = std::fs::read_dir(&blobs).map_err(|error| failed("list", &blobs, &error))?;
        let mut found: Vec<_> = entries
            .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
            .filter_map(|name| Fingerprint::new(name.strip_suffix(".json")?).ok())
            .collect();
        found.sort();
        Ok(found)
    }

    /// What was found when the image came in.
    ///
    /// # Errors
    /// `NotFound` when it is not here.
    pub fn facts(&self, image: &Fingerprint) -> Result<ImageFacts, DriverError> {
        let path = self.facts_path(image);
        match std::fs::read(&path) {
            Ok(text) => serde_json::from_slice(&text)
                .map_err(|error| failed("read", &path, &io::Error::other(error))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Err(DriverError::NotFound(format!("image {image}")))
            }
            Err(error) => Err(failed("read", &path, &error)),
        }
    }

    /// Unpacks the image into `target`, an empty directory: `rootfs/` (or `rootfs.img`),
    /// `metadata.yaml`, `templates/`. When it fails, `target` is empty again.
    ///
    /// # Errors
    /// When the image is not here, is damaged or hostile, or the host gives out.
    pub async fn unpack_with(
        &self,
        image: &Fingerprint,
        target: &Path,
        progress: &(dyn Fn(Progress) + Send + Sync),
    ) -> Result<Unpacked, DriverError> {
        let files = self.files(image).await?;
        let facts = self.facts(image)?;
        empty(target).map_err(|error| failed("empty", target, &error))?;
        let mut job = self.job(&files, facts.kind == ImageKind::VirtualMachine);
        job.target = Some(target.to_path_buf());
        job.expected = Some(image.clone());
        match helper::read(&self.config, job, progress).await {
            Ok(unpacked) => Ok(unpacked),
            Err(refusal) => {
                empty(target).map_err(|error| failed("empty", target, &error))?;
                Err(refusal.into_error(NOTHING_UNPACKED))
            }
        }
    }

    fn job(&self, files: &ImageFiles, root_is_vm: bool) -> Job {
        Job {
            metadata: files.metadata.clone(),
            root: files.root.clone(),
            root_is_vm: root_is_vm && files.root.is_some(),
            target: None,
            expected: None,
            owners: self.config.owners,
            limits: self.config.limits.clone(),
        }
    }

    fn blobs(&self) -> PathBuf {
        self.config.dir.join("blobs")
    }

    fn blob(&self, image: &Fingerprint) -> PathBuf {
        self.blobs().join(image.as_str())
    }

    fn root_blob(&self, image: &Fingerprint) -> PathBuf {
        self.blobs().join(format!("{image}.root"))
    }

    fn templates_path(&self, image: &Fingerprint) -> PathBuf {
        self.blobs().join(format!("{image}.templates"))
    }

    /// Those of an image that is here, or was.
    fn templates(&self, image: &Fingerprint) -> Result<Arc<Templates>, DriverError> {
        let mut held = self.templates.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(templates) = held.get(image) {
            return Ok(Arc::clone(templates));
        }
        let path = self.templates_path(image);
        let templates = match std::fs::read(&path) {
            Ok(text) => serde_json::from_slice(&text)
                .map_err(|error| failed("read", &path, &io::Error::other(error)))?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Templates::default(),
            Err(error) => return Err(failed("read", &path, &error)),
        };
        if held.len() >= TEMPLATES_MAX {
            held.clear();
        }
        let templates = Arc::new(templates);
        held.insert(image.clone(), Arc::clone(&templates));
        Ok(templates)
    }

    fn facts_path(&self, image: &Fingerprint) -> PathBuf {
        self.blobs().join(format!("{image}.json"))
    }

    /// Hashes the files here and has the helper read them, both at once.
    async fn check(
        &self,
        files: &ImageFiles,
        root_is_vm: bool,
        expected: Option<&Fingerprint>,
    ) -> Result<Checked, Refusal> {
        let limit = self.config.limits.upload_bytes;
        let hashed = files.clone();
        let hashing = tokio::task::spawn_blocking(move || hash(&hashed, limit));
        let job = self.job(files, root_is_vm);
        let reading = helper::read(&self.config, job, &|_| {});
        let (hashed, read) = tokio::join!(hashing, reading);
        let (fingerprint, size_bytes) =
            hashed.map_err(|error| Refusal::Host { what: error.to_string() })??;
        // A wrong hash explains anything that is wrong inside.
        if let Some(expected) = expected.filter(|expected| **expected != fingerprint) {
            return Err(Refusal::WrongHash {
                expected: expected.to_string(),
                actual: fingerprint.to_string(),
            });
        }
        let unpacked = read?;
        let metadata = Metadata::parse(&unpacked.metadata, &self.config.limits)?;
        Ok(Checked { fingerprint, size_bytes, unpacked, metadata })
    }

    /// Moves the files in and writes down what they are; that makes them an image.
    fn keep(&self, files: &ImageFiles, facts: &ImageFacts, templates: Templates) -> io::Result<()> {
        let image = &facts.fingerprint;
        let moves = [
            (Some(&files.metadata), self.blob(image)),
            (files.root.as_ref(), self.root_blob(image)),
        ];
        for (from, to) in moves {
            let Some(from) = from else { continue };
            std::fs::File::open(from)?.sync_all()?;
            std::fs::rename(from, to)?;
        }
        let blobs = std::fs::File::open(self.blobs())?;
        blobs.sync_all()?;
        if !templates.is_empty() {
            self.write_down(&templates, &self.templates_path(image))?;
        }
        let mut held = self.templates.lock().unwrap_or_else(PoisonError::into_inner);
        held.remove(image);
        drop(held);
        self.write_down(facts, &self.facts_path(image))?;
        blobs.sync_all()
    }

    /// Whole or not at all.
    fn write_down(&self, what: &impl serde::Serialize, path: &Path) -> io::Result<()> {
        let mut file = tempfile::NamedTempFile::new_in(self.staging())?;
        serde_json::to_writer(file.as_file_mut(), what)?;
        file.as_file_mut().flush()?;
        file.as_file().sync_all()?;
        file.persist(path)?;
        Ok(())
    }

    async fn take_in(
        &self,
        files: &ImageFiles,
        root_is_vm: bool,
        filename: Option<&str>,
        expected: Option<&Fingerprint>,
    ) -> Result<ImageFacts, DriverError> {
        let checked = self.check(files, root_is_vm, expected).await;
        let checked = checked.map_err(|refusal| refusal.into_error(NOTHING_KEPT))?;
        if let Ok(known) = self.facts(&checked.fingerprint) {
            return Ok(known);
        }
        let (facts, templates) = facts(checked, files, filename)?;
        self.keep(files, &facts, templates)
            .map_err(|error| failed("keep the image in", &self.blobs(), &error))?;
        tracing::info!(image = %facts.fingerprint, bytes = facts.size_bytes, "keeps an image");
        Ok(facts)
    }
}

#[async_trait]
impl Unpacker for ImageStore {
    async fn unpack(&self, image: &Fingerprint, target: &Path) -> Result<(), DriverError> {
        let unpacked = self.unpack_with(image, target, &|_| {}).await?;
        tracing::info!(%image, tally = ?unpacked.tally, "unpacked an image");
        Ok(())
    }
}

#[async_trait]
impl Images for ImageStore {
    fn staging(&self) -> PathBuf {
        self.config.dir.join("staging")
    }

    async fn ingest(
        &self,
        upload: Upload,
        expected: Option<&Fingerprint>,
    ) -> Result<ImageFacts, DriverError> {
        let (files, root_is_vm, filename) = match upload {
            Upload::Unified { file, filename } => {
                (ImageFiles { metadata: file, root: None }, false, filename)
            }
            Upload::Split { metadata, root, root_is_vm, filename } => {
                (ImageFiles { metadata, root: Some(root) }, root_is_vm, filename)
            }
        };
        let answer = self.take_in(&files, root_is_vm, filename.as_deref(), expected).await;
        // Kept files have moved; what is still there was refused or is here already. A failure of
        // the host is repeated by sending again, so nothing waits in staging for it.
        for file in std::iter::once(&files.metadata).chain(&files.root) {
            if let Err(error) = std::fs::remove_file(file)
                && error.kind() != io::ErrorKind::NotFound
            {
                tracing::warn!(file = %file.display(), %error, "could not remove an upload");
            }
        }
        answer
    }

    async fn files(&self, image: &Fingerprint) -> Result<ImageFiles, DriverError> {
        let facts = self.facts(image)?;
        let root = facts.split.then(|| self.root_blob(image));
        Ok(ImageFiles { metadata: self.blob(image), root })
    }

    async fn remove(&self, image: &Fingerprint) -> Result<(), DriverError> {
        for path in [self.facts_path(image), self.blob(image), self.root_blob(image)] {
            match std::fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(failed("remove", &path, &error));
                }
                Ok(()) | Err(_) => {}
            }
        }
        Ok(())
    }

    async fn render(
        &self,
        image: &Fingerprint,
        context: &TemplateContext,
    ) -> Result<Vec<RenderedFile>, DriverError> {
        let templates = self.templates(image)?;
        Ok(templates.render(&self.config, image, context).await)
    }

    async fn publish(
        &self,
        root: PathBuf,
        properties: BTreeMap<String, String>,
    ) -> Result<ImageFacts, DriverError> {
        let staging = self.staging();
        let packing = move || publish::pack(&root, properties, &staging);
        let packed = tokio::task::spawn_blocking(packing).await;
        let file =
            packed.map_err(|error| DriverError::Failed(error.to_string()))?.map_err(|error| {
                DriverError::Failed(format!("could not pack the image: {error}; {NOTHING_KEPT}"))
            })?;
        self.ingest(Upload::Unified { file, filename: None }, None).await
    }
}

fn facts(
    checked: Checked,
    files: &ImageFiles,
    filename: Option<&str>,
) -> Result<(ImageFacts, Templates), DriverError> {
    let Checked { fingerprint, size_bytes, unpacked, metadata } = checked;
    let created_at = metadata.created_at().ok_or_else(|| {
        DriverError::Refused(format!("metadata.yaml has no creation_date; {NOTHING_KEPT}"))
    })?;
    let default = || default_filename(&fingerprint, files);
    let templates = Templates::of(&metadata, unpacked.templates);
    let facts = ImageFacts {
        size_bytes,
        kind: unpacked.kind,
        created_at,
        expires_at: metadata.expires_at(),
        architecture: metadata.architecture,
        properties: metadata.properties,
        split: files.root.is_some(),
        filename: filename.and_then(clean_filename).unwrap_or_else(default),
        fingerprint,
    };
    Ok((facts, templates))
}

/// `<fingerprint>.tar.gz`, by what the file is; the root of a split image goes under the same name
/// with its own ending.
fn default_filename(fingerprint: &Fingerprint, files: &ImageFiles) -> String {
    let mut magic = [0; MAGIC_BYTES];
    let compression =
        match std::fs::File::open(&files.metadata).and_then(|mut file| file.read(&mut magic)) {
            Ok(count) => Compression::detect(&magic[..count]),
            Err(_) => Compression::None,
        };
    format!("{fingerprint}.{}", compression.extension())
}

/// A name that came with an upload is a name, not a path, and goes into a header one day.
fn clean_filename(name: &str) -> Option<String> {
    let name = name.rsplit('/').next().unwrap_or_default();
    let plain = |c: char| c.is_ascii_alphanumeric() || "._-+~@".contains(c);
    let good = !name.is_empty()
        && name.len() <= FILENAME_BYTES_MAX
        && !name.starts_with('.')
        && name.chars().all(plain);
    good.then(|| name.to_owned())
}

fn hash(files: &ImageFiles, limit: u64) -> Result<(Fingerprint, u64), Refusal> {
    let mut digest = Sha256::new();
    let mut size = 0;
    let mut buffer = vec![0; HASH_BYTES];
    for path in std::iter::once(&files.metadata).chain(&files.root) {
        let host = |error: io::Error| Refusal::host(&format!("read {}", path.display()), &error);
        let mut file = std::fs::File::open(path).map_err(host)?;
        loop {
            let count = file.read(&mut buffer).map_err(host)?;
            if count == 0 {
                break;
            }
            digest.update(&buffer[..count]);
            size += count as u64;
            if size > limit {
                return Err(Refusal::TooMuch { what: "bytes as uploaded".into(), limit });
            }
        }
    }
    let fingerprint = Fingerprint::new(super::hex(&digest.finalize()));
    Ok((fingerprint.expect("a digest is 64 hexadecimal digits"), size))
}

/// Removes what is in a directory, not the directory. Follows no link.
fn empty(directory: &Path) -> io::Result<()> {
    for entry in std::fs::read_dir(directory)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            std::fs::remove_dir_all(entry.path())?;
        } else {
            std::fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

fn failed(doing: &str, path: &Path, error: &io::Error) -> DriverError {
    let text = format!("could not {doing} {}: {error}", path.display());
    if error.kind() == io::ErrorKind::StorageFull {
        DriverError::Full(text)
    } else {
        DriverError::Failed(text)
    }
}
