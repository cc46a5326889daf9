//! What an image may cost. An archive is a program for the unpacker that a stranger wrote: every
//! number in it has a ceiling here.

use serde::{Deserialize, Serialize};

const KIB: u64 = 1024;
const MIB: u64 = 1024 * KIB;
const GIB: u64 = 1024 * MIB;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Of the files as uploaded.
    pub upload_bytes: u64,
    /// Of everything in it, holes included.
    pub unpacked_bytes: u64,
    /// Unpacked bytes for each byte uploaded; counts only beyond `ratio_free_bytes`.
    pub ratio: u64,
    pub ratio_free_bytes: u64,
    pub files: u64,
    pub path_bytes: usize,
    pub path_depth: usize,
    /// Of one file, names and values.
    pub xattr_bytes: usize,
    /// Of `metadata.yaml`.
    pub metadata_bytes: u64,
    pub templates: u64,
    pub template_bytes: u64,
    /// Address space of the helper.
    pub memory_bytes: u64,
    pub cpu_seconds: u64,
    pub wall_seconds: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            upload_bytes: 32 * GIB,
            unpacked_bytes: 64 * GIB,
            ratio: 200,
            ratio_free_bytes: 64 * MIB,
            files: 2_000_000,
            path_bytes: 4096,
            path_depth: 256,
            xattr_bytes: 64 * 1024,
            metadata_bytes: MIB,
            templates: 256,
            template_bytes: MIB,
            memory_bytes: 4 * GIB,
            cpu_seconds: 900,
            wall_seconds: 1800,
        }
    }
}

impl Limits {
    /// How much may come out of files of `packed_bytes`.
    #[must_use]
    pub fn unpacked_bytes_of(&self, packed_bytes: u64) -> u64 {
        let by_ratio = packed_bytes.saturating_mul(self.ratio).max(self.ratio_free_bytes);
        by_ratio.min(self.unpacked_bytes)
    }
}
