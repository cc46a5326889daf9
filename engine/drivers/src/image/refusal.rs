//! Why an image is not taken or not unpacked, typed, because it crosses from the helper to the store.

use serde::{Deserialize, Serialize};
use stapes_core::port::DriverError;

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Refusal {
    #[error(
        "the archive names {path}, which is outside of the image; get it from a source you trust"
    )]
    Outside { path: String },
    #[error("the archive writes {path} through a symbolic link; get it from a source you trust")]
    ThroughLink { path: String },
    #[error("the archive's hard link {path} leads to {to}, which is not a file of the image")]
    BadHardLink { path: String, to: String },
    #[error("the archive has {path} twice, as a directory and as something else")]
    Clash { path: String },
    #[error(
        "the archive unpacks to more than {limit} bytes from {packed}, which is what a bomb does; \
         if it is yours, raise the store's limits"
    )]
    Bomb { packed: u64, limit: u64 },
    #[error("the image has more than {limit} {what}; if it is yours, raise the store's limits")]
    TooMuch { what: String, limit: u64 },
    #[error("the file ends in the middle of the archive; send it again")]
    Truncated,
    #[error("the archive is damaged ({what}); send it again")]
    Corrupt { what: String },
    #[error("the image is {actual}, not {expected} as claimed; get it from its source again")]
    WrongHash { expected: String, actual: String },
    #[error(
        "the archive has no metadata.yaml at its top; an image is metadata.yaml beside rootfs/, or \
         send metadata and root as two files"
    )]
    NoMetadata,
    #[error("metadata.yaml is larger than {limit} bytes")]
    MetadataTooLarge { limit: u64 },
    #[error("metadata.yaml cannot be used: {why}; correct it and pack the image again")]
    BadMetadata { why: String },
    #[error("the archive has neither rootfs/ nor rootfs.img")]
    NoRoot,
    #[error("the disk image cannot be used: {why}")]
    BadDisk { why: String },
    #[error(
        "{what} is not supported; pack the image as tar (plain, gz, xz, zst, bz2, lzma) or squashfs"
    )]
    Unsupported { what: String },
    #[error("the template for {path} cannot be used: {why}; correct the image")]
    BadTemplate { path: String, why: String },
    #[error("no room is left for the image; free some and try again")]
    Full,
    #[error("the unpacking helper could not be confined: {why}")]
    Unconfined { why: String },
    #[error(
        "the unpacking helper died ({how}); the image needs more than its limits, or is hostile"
    )]
    Died { how: String },
    #[error("{what}")]
    Host { what: String },
}

impl Refusal {
    /// A path from an archive, fit to be shown: escaped and short.
    pub(super) fn shown(path: &[u8]) -> String {
        let text = path.escape_ascii().to_string();
        if text.len() <= 256 { text } else { format!("{}...", &text[..256]) }
    }

    pub(super) fn host(doing: &str, error: &std::io::Error) -> Self {
        use std::io::ErrorKind::{QuotaExceeded, StorageFull};
        if matches!(error.kind(), StorageFull | QuotaExceeded) {
            Self::Full
        } else {
            Self::Host { what: format!("{doing}: {error}") }
        }
    }

    /// An error of reading an archive: what a decompressor or our own limits say.
    pub(super) fn reading(error: std::io::Error) -> Self {
        if error.kind() == std::io::ErrorKind::UnexpectedEof {
            return Self::Truncated;
        }
        error.downcast().unwrap_or_else(|error| Self::Corrupt { what: error.to_string() })
    }

    /// For a user: what happened to their request, too.
    #[must_use]
    pub fn into_error(self, outcome: &str) -> DriverError {
        let text = format!("{self}; {outcome}");
        match self {
            Self::Full => DriverError::Full(text),
            Self::Host { .. } | Self::Unconfined { .. } => DriverError::Failed(text),
            Self::Outside { .. }
            | Self::ThroughLink { .. }
            | Self::BadHardLink { .. }
            | Self::Clash { .. }
            | Self::Bomb { .. }
            | Self::TooMuch { .. }
            | Self::Truncated
            | Self::Corrupt { .. }
            | Self::WrongHash { .. }
            | Self::NoMetadata
            | Self::MetadataTooLarge { .. }
            | Self::BadMetadata { .. }
            | Self::NoRoot
            | Self::BadDisk { .. }
            | Self::BadTemplate { .. }
            | Self::Unsupported { .. }
            | Self::Died { .. } => DriverError::Refused(text),
        }
    }
}
