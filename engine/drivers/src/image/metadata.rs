//! `metadata.yaml`: what an image says of itself. A stranger wrote it, so it is read into this type
//! by a YAML reader with budgets, and every string is checked before anybody pastes or prints it.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::{limits::Limits, refusal::Refusal};

const PROPERTIES_MAX: usize = 256;
const STRING_BYTES_MAX: usize = 4096;
/// Values nested deeper, or more of them, have no place in this file.
const DEPTH_MAX: usize = 16;
const NODES_MAX: usize = 20_000;

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Metadata {
    pub architecture: String,
    /// Seconds since 1970.
    pub creation_date: i64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expiry_date: Option<i64>,
    #[serde(default)]
    pub properties: BTreeMap<String, String>,
    /// By the path inside the guest that each makes.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub templates: BTreeMap<String, Template>,
}

/// A file that is written into the guest when something happens to it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Template {
    #[serde(default)]
    pub when: Vec<String>,
    /// Only where no file is yet.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub create_only: bool,
    /// The file below `templates/`.
    pub template: String,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub properties: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uid: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gid: Option<u32>,
    /// Octal digits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<String>,
}

impl Metadata {
    /// # Errors
    /// When the text is too long, not YAML, a bomb, or not what the field must hold.
    pub fn parse(text: &str, limits: &Limits) -> Result<Self, Refusal> {
        if text.len() as u64 > limits.metadata_bytes {
            return Err(Refusal::MetadataTooLarge { limit: limits.metadata_bytes });
        }
        let budget = serde_saphyr::budget! {
            max_depth: DEPTH_MAX,
            max_nodes: NODES_MAX,
            max_events: 4 * NODES_MAX,
            max_anchors: 0,
            max_aliases: 0,
            max_documents: 1,
        };
        let options = serde_saphyr::options! { budget: budget, no_schema: false };
        let metadata: Self =
            serde_saphyr::from_str_with_options(text, options).map_err(|error| {
                let why = error.to_string();
                Refusal::BadMetadata { why: why.lines().next().unwrap_or_default().to_owned() }
            })?;
        metadata.check()?;
        Ok(metadata)
    }

    #[must_use]
    pub fn to_yaml(&self) -> String {
        serde_saphyr::to_string(self).unwrap_or_default()
    }

    #[must_use]
    pub fn created_at(&self) -> Option<DateTime<Utc>> {
        DateTime::from_timestamp(self.creation_date, 0)
    }

    #[must_use]
    pub fn expires_at(&self) -> Option<DateTime<Utc>> {
        // Images in the field write 0 for "never".
        self.expiry_date.filter(|date| *date > 0).and_then(|date| DateTime::from_timestamp(date, 0))
    }

    fn check(&self) -> Result<(), Refusal> {
        let bad = |why: String| Err(Refusal::BadMetadata { why });
        if !is_architecture(&self.architecture) {
            return bad(format!(
                "architecture is {:?}, want a name such as x86_64 or aarch64",
                self.architecture
            ));
        }
        if self.creation_date <= 0 || self.created_at().is_none() {
            return bad(format!(
                "creation_date is {}, want seconds since 1970",
                self.creation_date
            ));
        }
        let all = self.templates.values().map(|template| &template.properties);
        for properties in std::iter::once(&self.properties).chain(all) {
            if properties.len() > PROPERTIES_MAX {
                return bad(format!("it has more than {PROPERTIES_MAX} properties"));
            }
            for (key, value) in properties {
                if !is_plain(key) || !is_plain(value) {
                    return bad(format!(
                        "the property {key:?} has a control character or is too long"
                    ));
                }
            }
        }
        self.templates.iter().try_for_each(|(path, template)| template.check(path))
    }
}

impl Template {
    fn check(&self, path: &str) -> Result<(), Refusal> {
        let bad = |why: &str| {
            let why = format!("the template for {path:?} {why}");
            Err(Refusal::BadMetadata { why })
        };
        if !path.starts_with('/') || !is_plain(path) || path.split('/').any(|part| part == "..") {
            return bad("is not at an absolute path without ..");
        }
        if !is_template_name(&self.template) {
            return bad("is not a plain file name below templates/");
        }
        if self.mode.as_ref().is_some_and(|mode| mode_of(mode).is_none()) {
            return bad("has a mode that is not up to four octal digits");
        }
        Ok(())
    }

    /// The mode of the file, when one is given.
    #[must_use]
    pub fn mode_bits(&self) -> Option<u32> {
        self.mode.as_deref().and_then(mode_of)
    }
}

fn mode_of(text: &str) -> Option<u32> {
    u32::from_str_radix(text, 8).ok().filter(|mode| *mode <= 0o7777)
}

fn is_architecture(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= 32
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-')
}

fn is_plain(text: &str) -> bool {
    text.len() <= STRING_BYTES_MAX && !text.chars().any(char::is_control)
}

pub(super) fn is_template_name(name: &str) -> bool {
    is_plain(name)
        && !name.is_empty()
        && name.len() <= 255
        && !name.contains('/')
        && name != "."
        && name != ".."
}
