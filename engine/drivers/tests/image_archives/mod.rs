//! Archives made by the test, good ones and hostile ones, and a store to give them to.

#![allow(dead_code, reason = "each test file uses a part")]

use std::{io::Write, path::Path};

use stapes_core::port::{
    DriverError,
    image::{ImageFacts, Images, Upload},
};
use stapes_drivers::image::{ImageConfig, ImageStore, Limits, Owners};
use tar::{Builder, EntryType, Header};

pub(crate) const METADATA: &str = "architecture: x86_64\ncreation_date: 1700000000\nproperties:\n  os: Test\n  \
     release: 12\n  description: \"A test\"\ntemplates:\n  /etc/hostname:\n    when: [create, copy]\n    \
     template: hostname.tpl\n";

/// A tar archive in memory.
pub(crate) struct Archive(Builder<Vec<u8>>);

impl Archive {
    pub(crate) fn empty() -> Self {
        Self(Builder::new(Vec::new()))
    }

    /// With what every image has.
    pub(crate) fn image() -> Self {
        Self::empty()
            .file("metadata.yaml", METADATA.as_bytes())
            .directory("templates", 0o755)
            .file("templates/hostname.tpl", b"{{ instance.name }}\n")
            .directory("rootfs", 0o755)
            .directory("rootfs/etc", 0o755)
            .file("rootfs/etc/os-release", b"ID=test\n")
    }

    /// The name is put as it is, whatever it says.
    pub(crate) fn entry(
        mut self,
        kind: EntryType,
        path: &[u8],
        link: &[u8],
        mode: u32,
        content: &[u8],
    ) -> Self {
        let mut header = Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_mtime(1_600_000_000);
        header.set_size(content.len() as u64);
        header.set_uid(0);
        header.set_gid(0);
        let old = header.as_old_mut();
        old.name[..path.len()].copy_from_slice(path);
        old.linkname[..link.len()].copy_from_slice(link);
        header.set_cksum();
        self.0.append(&header, content).expect("memory");
        self
    }

    pub(crate) fn file(self, path: &str, content: &[u8]) -> Self {
        self.entry(EntryType::Regular, path.as_bytes(), b"", 0o644, content)
    }

    pub(crate) fn directory(self, path: &str, mode: u32) -> Self {
        self.entry(EntryType::Directory, path.as_bytes(), b"", mode, b"")
    }

    pub(crate) fn symlink(self, path: &str, to: &str) -> Self {
        self.entry(EntryType::Symlink, path.as_bytes(), to.as_bytes(), 0o777, b"")
    }

    pub(crate) fn hard_link(self, path: &str, to: &str) -> Self {
        self.entry(EntryType::Link, path.as_bytes(), to.as_bytes(), 0o644, b"")
    }

    pub(crate) fn pax(mut self, records: &[(&str, &[u8])]) -> Self {
        self.0.append_pax_extensions(records.iter().copied()).expect("memory");
        self
    }

    pub(crate) fn bytes(self) -> Vec<u8> {
        self.0.into_inner().expect("memory")
    }

    /// Without the end mark, so that something can follow.
    pub(crate) fn open_bytes(self) -> Vec<u8> {
        let mut bytes = self.bytes();
        bytes.truncate(bytes.len() - 1024);
        bytes
    }
}

pub(crate) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).expect("memory");
    encoder.finish().expect("memory")
}

pub(crate) fn xz(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = liblzma::write::XzEncoder::new(Vec::new(), 1);
    encoder.write_all(bytes).expect("memory");
    encoder.finish().expect("memory")
}

pub(crate) fn lzma(bytes: &[u8]) -> Vec<u8> {
    let options = liblzma::stream::LzmaOptions::new_preset(1).expect("a preset");
    let stream = liblzma::stream::Stream::new_lzma_encoder(&options).expect("an encoder");
    let mut encoder = liblzma::write::XzEncoder::new_stream(Vec::new(), stream);
    encoder.write_all(bytes).expect("memory");
    encoder.finish().expect("memory")
}

pub(crate) fn zst(bytes: &[u8]) -> Vec<u8> {
    zstd::encode_all(bytes, 1).expect("memory")
}

pub(crate) fn bz2(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::fast());
    encoder.write_all(bytes).expect("memory");
    encoder.finish().expect("memory")
}

/// A store in a temporary directory that works without root.
pub(crate) struct Bench {
    pub(crate) store: ImageStore,
    dir: tempfile::TempDir,
}

impl Bench {
    pub(crate) fn new() -> Self {
        Self::with(Limits::default(), Owners::Mine)
    }

    pub(crate) fn with(limits: Limits, owners: Owners) -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let helper = env!("CARGO_BIN_EXE_stapes-unpack");
        let config =
            ImageConfig { owners, limits, ..ImageConfig::new(dir.path().join("images"), helper) };
        let store = ImageStore::new(config).expect("a store");
        Self { store, dir }
    }

    pub(crate) fn path(&self) -> &Path {
        self.dir.path()
    }

    pub(crate) fn stage(&self, name: &str, bytes: &[u8]) -> std::path::PathBuf {
        let path = self.store.staging().join(name);
        std::fs::write(&path, bytes).expect("staging");
        path
    }

    pub(crate) fn unified(&self, bytes: &[u8]) -> Upload {
        Upload::Unified { file: self.stage("upload", bytes), filename: None }
    }

    pub(crate) async fn ingest(&self, bytes: &[u8]) -> Result<ImageFacts, DriverError> {
        let answer = self.store.ingest(self.unified(bytes), None).await;
        let left = std::fs::read_dir(self.store.staging()).expect("staging").count();
        assert_eq!(left, 0, "nothing stays in staging");
        answer
    }

    /// An empty directory to unpack into.
    pub(crate) fn target(&self, name: &str) -> std::path::PathBuf {
        let target = self.path().join(name);
        std::fs::create_dir(&target).expect("a target");
        target
    }

    /// Ingests, unpacks, and answers with the target.
    pub(crate) async fn unpacked(
        &self,
        bytes: &[u8],
    ) -> (std::path::PathBuf, stapes_drivers::image::Unpacked) {
        let facts = self.ingest(bytes).await.expect("a good image");
        let target = self.target(&facts.fingerprint.as_str()[..12]);
        let unpacked = self.store.unpack_with(&facts.fingerprint, &target, &|_| {}).await;
        (target, unpacked.expect("a good image"))
    }

    /// Neither kept when it comes in, nor unpacked when it was there before its check.
    pub(crate) async fn refused(&self, bytes: &[u8]) -> String {
        let error = self.ingest(bytes).await.expect_err("a bad image");
        assert!(matches!(error, DriverError::Refused(_)), "{error:?}");
        assert_eq!(self.store.list().expect("a list"), [], "{error}");
        error.to_string()
    }
}
