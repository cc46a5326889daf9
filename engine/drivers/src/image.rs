//! Images: where their files are kept, how they are checked, unpacked, made and published.
//!
//! ```text
//! upload ─► staging/ ─► hash + check in the helper ─► blobs/<fingerprint>[.root] + .templates + .json
//! pool   ─► Unpacker: blobs ─► helper behind walls ─► target/{rootfs, metadata.yaml, templates}
//! ```
//!
//! A stranger made the archive. Whatever interprets it runs in `stapes-unpack` ([`unpack`]), a
//! process behind namespaces, Landlock, seccomp and ceilings; the daemon hashes bytes (so that no
//! bug in a decompressor can lie about a fingerprint) and reads `metadata.yaml` ([`metadata`]).
//!
//! Architecture Invariant: an image is there when its `.json` is, which is written last and removed
//! first. Everything else in `blobs/` is a leftover and may be overwritten.

use std::path::PathBuf;

pub(crate) mod baggage;
pub mod build;
mod compression;
mod helper;
mod job;
mod limits;
pub mod metadata;
mod publish;
mod refusal;
mod store;
mod templates;
pub mod unpack;

pub use self::{
    job::{Confinement, Owners, Progress, Tally, Unpacked},
    limits::Limits,
    metadata::{Metadata, Template},
    refusal::Refusal,
    store::ImageStore,
};

#[derive(Clone, Debug)]
pub struct ImageConfig {
    /// Holds `staging/` and `blobs/`, on one file system.
    pub dir: PathBuf,
    /// The program `stapes-unpack`.
    pub unpack_helper: PathBuf,
    pub owners: Owners,
    pub limits: Limits,
}

impl ImageConfig {
    #[must_use]
    pub fn new(dir: impl Into<PathBuf>, unpack_helper: impl Into<PathBuf>) -> Self {
        Self {
            dir: dir.into(),
            unpack_helper: unpack_helper.into(),
            owners: Owners::default(),
            limits: Limits::default(),
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        write!(text, "{byte:02x}").expect("a string takes everything");
        text
    })
}
