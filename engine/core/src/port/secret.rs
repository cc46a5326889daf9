//! Secrets: values that lie on the log only sealed, with a key of their project that lies elsewhere.
//!
//! ```text
//! client ─► control: seal ─► THE LOG ─► tasks, world, views (all sealed)
//!                                          │
//!                node: open, just before the guest starts; API: open, for whoever may see it
//! ```
//!
//! The log is never rewritten, so erasing a secret means deleting the key that sealed it: then no
//! copy, archive or replay of the log gives it back.
//!
//! A sealed text says itself whose key opens it, so whoever opens one needs to know nothing else:
//! the environment of one guest may hold secrets of its own project and, from its profiles, of the
//! default project. That saying is authenticated, and sealing for a project refuses a sealed text of
//! another: nobody reads another project's secret by pasting its sealed text.
//!
//! The same text in the same project always gives the same sealed text. A client that sends back
//! what it was shown therefore changes nothing, and decisions stay pure. What this gives away is that
//! two values of a project are equal, and how long they are.
//!
//! The nodes of a cluster share keys: whoever misses one asks the others ([`Sealer::prepare`]), and asks
//! before it draws one. Two that draw at the same time have a key each, and open what either sealed.

use std::{fmt, str::FromStr};

use async_trait::async_trait;
use base64::{Engine as _, engine::general_purpose::STANDARD_NO_PAD as BASE64};
use uuid::Uuid;

use crate::{ids::ProjectId, port::DriverError};

pub mod laws;
mod pretend;

pub use pretend::PretendSealer;

/// How every sealed text begins.
pub const PREFIX: &str = "sealed:v1:";
/// What is shown in place of a secret whose key was deleted.
pub const ERASED: &str = "(erased)";
/// What is shown in place of a secret whose key cannot be read just now.
pub const UNREADABLE: &str = "(unreadable)";

/// Bytes of a project's key, of the name of a key, and of the nonce.
pub const KEY_BYTES: usize = 32;
pub const KEY_NAME_BYTES: usize = 8;
pub const NONCE_BYTES: usize = 24;
const PROJECT_BYTES: usize = 16;

/// Seals and opens the secrets of all projects.
#[async_trait]
pub trait Sealer: Send + Sync + fmt::Debug {
    /// Seals a text for the project. What its key has sealed already comes back as it is.
    ///
    /// # Errors
    /// [`SecretError::NotSealed`] for a text that only looks sealed, or is another project's.
    fn seal(&self, project: ProjectId, plain: &str) -> Result<String, SecretError>;

    /// Opens a sealed text.
    ///
    /// # Errors
    /// [`SecretError::Erased`] for good, once its key is deleted.
    fn open(&self, sealed: &str) -> Result<String, SecretError>;

    /// Gets hold of the keys that open these texts, and of the one to seal for the project with, where
    /// other nodes have them. What is not to be had shows when it is used.
    async fn prepare(&self, _seals_for: Option<ProjectId>, _opens: Vec<String>) {}
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SecretError {
    #[error(
        "the secret was erased: the key of project {0} that sealed it is deleted; set the value anew"
    )]
    Erased(ProjectId),
    #[error(
        "a value that begins with \"{PREFIX}\" must be a secret that this project's key has sealed, and this one is not; write the value in clear"
    )]
    NotSealed,
    /// The same request may succeed later.
    #[error("{0}")]
    Failed(String),
}

impl From<SecretError> for DriverError {
    fn from(error: SecretError) -> Self {
        match error {
            SecretError::Erased(_) | SecretError::NotSealed => Self::Refused(error.to_string()),
            SecretError::Failed(why) => Self::Failed(why),
        }
    }
}

/// Whether a text claims to be sealed.
#[must_use]
pub fn looks_sealed(text: &str) -> bool {
    text.starts_with(PREFIX)
}

/// A value as it is to be used: opened if it is sealed.
///
/// # Errors
/// Why it cannot be opened.
pub fn reveal(sealer: &dyn Sealer, value: &str) -> Result<String, SecretError> {
    if looks_sealed(value) { sealer.open(value) } else { Ok(value.to_owned()) }
}

/// A configuration as it is shown: its secrets opened, or a word in place of those that are lost.
pub fn show(sealer: &dyn Sealer, config: &mut crate::config::Config) {
    for (_, value) in config.iter_mut().filter(|(key, _)| crate::config::is_secret(key)) {
        *value = reveal(sealer, value).unwrap_or_else(|error| {
            let word = match error {
                SecretError::Erased(_) => ERASED,
                SecretError::NotSealed | SecretError::Failed(_) => UNREADABLE,
            };
            word.to_owned()
        });
    }
}

/// A sealed text in its parts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sealed {
    /// Whose key opens it.
    pub project: ProjectId,
    /// Which of its keys: after one was erased there may be another.
    pub key: [u8; KEY_NAME_BYTES],
    pub nonce: [u8; NONCE_BYTES],
    pub ciphertext: Vec<u8>,
}

impl fmt::Display for Sealed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts = [self.project.0.as_bytes(), &self.key[..], &self.nonce, &self.ciphertext];
        write!(f, "{PREFIX}{}", BASE64.encode(parts.concat()))
    }
}

impl FromStr for Sealed {
    type Err = SecretError;

    fn from_str(text: &str) -> Result<Self, SecretError> {
        Self::parse(text).ok_or(SecretError::NotSealed)
    }
}

impl Sealed {
    fn parse(text: &str) -> Option<Self> {
        let bytes = BASE64.decode(text.strip_prefix(PREFIX)?).ok()?;
        let (project, rest) = bytes.split_first_chunk::<PROJECT_BYTES>()?;
        let (key, rest) = rest.split_first_chunk()?;
        let (nonce, ciphertext) = rest.split_first_chunk()?;
        Some(Self {
            project: ProjectId(Uuid::from_bytes(*project)),
            key: *key,
            nonce: *nonce,
            ciphertext: ciphertext.to_vec(),
        })
    }
}
