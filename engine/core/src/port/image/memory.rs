//! The image store in memory: the simulator's. It reads no archive: what an upload says of itself
//! is given when it is staged. Fingerprints are the real thing, so a wrong claim is caught here too.

use std::{
    collections::{BTreeMap, VecDeque},
    path::PathBuf,
    sync::{Mutex, MutexGuard},
};

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use sha2::{Digest, Sha256};

use super::{DriverError, ImageFacts, ImageFiles, ImageKind, Images, Upload};
use crate::{
    ids::Fingerprint,
    template::{RenderedFile, TemplateContext},
};

/// What the archive that is staged would say of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Says {
    pub kind: ImageKind,
    pub architecture: String,
    pub created_at: DateTime<Utc>,
    pub properties: BTreeMap<String, String>,
}

impl Says {
    /// A container for `architecture`, made at the epoch, without properties.
    #[must_use]
    pub fn container(architecture: &str) -> Self {
        Self {
            kind: ImageKind::Container,
            architecture: architecture.to_owned(),
            created_at: DateTime::UNIX_EPOCH,
            properties: BTreeMap::new(),
        }
    }
}

#[derive(Debug, Default)]
pub struct MemoryImages {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// A file without [`Says`] is no archive.
    staged: BTreeMap<PathBuf, (Vec<u8>, Option<Says>)>,
    kept: BTreeMap<Fingerprint, ImageFacts>,
    faults: VecDeque<DriverError>,
}

impl MemoryImages {
    /// Puts a file into the staging directory; without `says` it is not an archive that could be
    /// read (as the root of a split image need not be).
    pub fn stage(&self, name: &str, bytes: &[u8], says: Option<Says>) -> PathBuf {
        let path = self.staging().join(name);
        self.state().staged.insert(path.clone(), (bytes.to_vec(), says));
        path
    }

    /// The next request that may fail does so, and changes nothing.
    pub fn fail_next(&self, error: DriverError) {
        self.state().faults.push_back(error);
    }

    /// The images that are kept.
    #[must_use]
    pub fn fingerprints(&self) -> Vec<Fingerprint> {
        self.state().kept.keys().cloned().collect()
    }

    /// The names of files that wait in the staging directory.
    #[must_use]
    pub fn staged(&self) -> Vec<PathBuf> {
        self.state().staged.keys().cloned().collect()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no holder panics")
    }
}

impl State {
    fn fault(&mut self) -> Result<(), DriverError> {
        self.faults.pop_front().map_or(Ok(()), Err)
    }

    /// Takes the upload out of the staging directory, as success and refusal both do.
    fn take(&mut self, upload: &Upload) -> Result<(Vec<u8>, Option<Says>), DriverError> {
        let mut file = |path: &PathBuf| {
            let missing = || DriverError::NotFound(format!("upload {}", path.display()));
            self.staged.remove(path).ok_or_else(missing)
        };
        match upload {
            Upload::Unified { file: unified, .. } => file(unified),
            Upload::Split { metadata, root, .. } => {
                let (mut bytes, says) = file(metadata)?;
                bytes.extend(file(root)?.0);
                Ok((bytes, says))
            }
        }
    }

    fn ingest(
        &mut self,
        upload: &Upload,
        expected: Option<&Fingerprint>,
    ) -> Result<ImageFacts, DriverError> {
        let (bytes, says) = self.take(upload)?;
        let fingerprint = sha256(&bytes);
        if let Some(expected) = expected.filter(|expected| **expected != fingerprint) {
            return Err(DriverError::Refused(format!(
                "the image is {fingerprint}, not {expected} as claimed; nothing was kept; send it again"
            )));
        }
        let Some(says) = says else {
            return Err(DriverError::Refused("the upload is no image; nothing was kept".into()));
        };
        let (split, kind, filename) = match upload {
            Upload::Unified { filename, .. } => (false, says.kind, filename),
            Upload::Split { root_is_vm: true, filename, .. } => {
                (true, ImageKind::VirtualMachine, filename)
            }
            Upload::Split { filename, .. } => (true, ImageKind::Container, filename),
        };
        let facts = ImageFacts {
            size_bytes: bytes.len() as u64,
            kind,
            architecture: says.architecture,
            created_at: says.created_at,
            expires_at: None,
            properties: says.properties,
            split,
            filename: filename.clone().unwrap_or_else(|| format!("{fingerprint}.tar")),
            fingerprint: fingerprint.clone(),
        };
        Ok(self.kept.entry(fingerprint).or_insert(facts).clone())
    }
}

#[async_trait]
impl Images for MemoryImages {
    fn staging(&self) -> PathBuf {
        PathBuf::from("/memory/images/staging")
    }

    async fn ingest(
        &self,
        upload: Upload,
        expected: Option<&Fingerprint>,
    ) -> Result<ImageFacts, DriverError> {
        let mut state = self.state();
        state.fault()?;
        state.ingest(&upload, expected)
    }

    async fn files(&self, image: &Fingerprint) -> Result<ImageFiles, DriverError> {
        let state = self.state();
        let missing = || DriverError::NotFound(format!("image {image}"));
        let facts = state.kept.get(image).ok_or_else(missing)?;
        let blob = PathBuf::from("/memory/images/blobs").join(image.as_str());
        Ok(ImageFiles { root: facts.split.then(|| blob.with_extension("root")), metadata: blob })
    }

    async fn remove(&self, image: &Fingerprint) -> Result<(), DriverError> {
        let mut state = self.state();
        state.fault()?;
        state.kept.remove(image);
        Ok(())
    }

    /// What is staged here has no templates.
    async fn render(
        &self,
        _image: &Fingerprint,
        _context: &TemplateContext,
    ) -> Result<Vec<RenderedFile>, DriverError> {
        Ok(Vec::new())
    }

    async fn publish(
        &self,
        root: PathBuf,
        properties: BTreeMap<String, String>,
    ) -> Result<ImageFacts, DriverError> {
        let says = Says { properties, ..Says::container("x86_64") };
        let bytes = format!("{}{:?}", root.display(), says.properties).into_bytes();
        self.state().fault()?;
        let file = self.stage(&sha256(&bytes).to_string(), &bytes, Some(says));
        let mut state = self.state();
        state.ingest(&Upload::Unified { file, filename: None }, None)
    }
}

fn sha256(bytes: &[u8]) -> Fingerprint {
    let digits = Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    Fingerprint::new(digits).expect("a digest is 64 digits")
}

#[cfg(test)]
mod tests {
    use futures::executor::block_on;

    use super::{super::laws, *};

    #[test]
    fn keeps_the_laws() {
        let images = MemoryImages::default();
        let container = || Some(Says::container("x86_64"));
        let unified = || Upload::Unified {
            file: images.stage("a", b"unified", container()),
            filename: Some("a.tar".into()),
        };
        let split = || Upload::Split {
            metadata: images.stage("b", b"metadata", container()),
            root: images.stage("c", b"root", None),
            root_is_vm: false,
            filename: None,
        };
        let garbage = || Upload::Unified { file: images.stage("g", b"no", None), filename: None };
        block_on(laws::all(
            &images,
            laws::Uploads { unified: &unified, split: &split, garbage: &garbage },
        ));
        assert!(images.staged().is_empty());
    }

    #[test]
    fn a_fault_changes_nothing() {
        let images = MemoryImages::default();
        let file = images.stage("a", b"unified", Some(Says::container("x86_64")));
        images.fail_next(DriverError::Failed("disk".into()));
        let upload = Upload::Unified { file, filename: None };
        assert!(block_on(images.ingest(upload.clone(), None)).is_err());
        assert!(images.fingerprints().is_empty());
        assert!(block_on(images.ingest(upload, None)).is_ok());
    }
}
