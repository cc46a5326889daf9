//! The image port: the files of the images that a node holds, by fingerprint.

use std::{collections::BTreeMap, path::PathBuf};

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::DriverError;
use crate::{
    ids::Fingerprint,
    template::{RenderedFile, TemplateContext},
};

pub mod laws;
mod memory;
pub use memory::{MemoryImages, Says};

/// What an image says of itself, checked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageFacts {
    pub fingerprint: Fingerprint,
    /// Of the files as uploaded.
    pub size_bytes: u64,
    pub kind: ImageKind,
    /// e.g. `x86_64`.
    pub architecture: String,
    pub created_at: DateTime<Utc>,
    pub expires_at: Option<DateTime<Utc>>,
    /// `os`, `release`, `description` ...
    pub properties: BTreeMap<String, String>,
    /// Metadata and root in two files.
    pub split: bool,
    /// The name to export it under.
    pub filename: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ImageKind {
    Container,
    VirtualMachine,
}

/// Files that an upload left in the staging directory. They are moved, or removed on refusal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Upload {
    Unified { file: PathBuf, filename: Option<String> },
    Split { metadata: PathBuf, root: PathBuf, root_is_vm: bool, filename: Option<String> },
}

/// The files of one image, as uploaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageFiles {
    /// The unified file, or the metadata file of a split image.
    pub metadata: PathBuf,
    /// The root of a split image.
    pub root: Option<PathBuf>,
}

#[async_trait]
pub trait Images: Send + Sync + std::fmt::Debug + 'static {
    /// A directory on the store's file system where uploads may be written.
    fn staging(&self) -> PathBuf;
    /// Checks the upload (hash, metadata, kind) and keeps it. When it is there already, says so by
    /// answering the same. `expected` is the fingerprint that the sender claimed.
    async fn ingest(
        &self,
        upload: Upload,
        expected: Option<&Fingerprint>,
    ) -> Result<ImageFacts, DriverError>;
    async fn files(&self, image: &Fingerprint) -> Result<ImageFiles, DriverError>;
    /// Fine when there is none.
    async fn remove(&self, image: &Fingerprint) -> Result<(), DriverError>;
    /// The files that the image wants in a guest that starts now. A template that is wrong is told
    /// and left out: a guest starts without its file rather than not at all. What was made from an
    /// image that was removed since is still served.
    async fn render(
        &self,
        image: &Fingerprint,
        context: &TemplateContext,
    ) -> Result<Vec<RenderedFile>, DriverError>;
    /// Packs a directory tree as a unified image and keeps it.
    async fn publish(
        &self,
        root: PathBuf,
        properties: BTreeMap<String, String>,
    ) -> Result<ImageFacts, DriverError>;
}
