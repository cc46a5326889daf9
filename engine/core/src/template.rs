//! Templates: files that an image wants written into its guests (`/etc/hostname` ...), and when.
//!
//! An instance remembers which trigger is due; its next start pays for it together with
//! [`Trigger::Start`], which is due at every start. What is due is cleared by the guest's running
//! and by nothing else, so that a start that fails, or is done twice, writes the files again.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::config;

/// What happened to the instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Trigger {
    Create,
    Copy,
    Rename,
    Start,
}

impl Trigger {
    /// As images write it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Copy => "copy",
            Self::Rename => "rename",
            Self::Start => "start",
        }
    }
}

/// What a template may see: all of it is the instance's own, and none of it is secret, for it lies
/// on the log with the task to start.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TemplateContext {
    /// Besides [`Trigger::Start`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub due: Option<Trigger>,
    /// `name`, `architecture`, `type`, `ephemeral`, `privileged`.
    pub instance: BTreeMap<String, String>,
    pub config: config::Config,
    pub devices: config::Devices,
}

/// A file to write into a guest before its init begins.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RenderedFile {
    /// Inside the guest, absolute.
    pub path: String,
    pub content: String,
    /// Of a file that is there: kept; of a new one: 0644.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<u32>,
    /// The guest's ids. Of a file that is there: kept; of a new one: root's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uid: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gid: Option<u32>,
    /// Only where nothing is yet.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub create_only: bool,
}

#[cfg(test)]
mod tests;
