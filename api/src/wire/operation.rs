//! Operations: what a client asked for and how far it got.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{StatusCode, Time, or_default};

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Operation {
    pub id: String,
    /// `task`, `websocket` or `token`.
    pub class: String,
    pub description: String,
    pub created_at: Time,
    pub updated_at: Time,
    pub status: String,
    pub status_code: StatusCode,
    /// Kinds of things to their URLs.
    #[serde(deserialize_with = "or_default")]
    pub resources: BTreeMap<String, Vec<String>>,
    /// Null when there is none; values of keys that end in `_progress` are always strings.
    pub metadata: Option<Map<String, Value>>,
    pub may_cancel: bool,
    pub err: String,
    pub location: String,
}

impl Operation {
    #[must_use]
    pub fn is_final(&self) -> bool {
        self.status_code.is_final()
    }

    /// The names of the things of this kind that it is about, without their paths.
    pub fn names<'a>(&'a self, kind: &str) -> impl Iterator<Item = &'a str> {
        let urls = self.resources.get(kind).map(Vec::as_slice).unwrap_or_default();
        urls.iter().filter_map(|url| url.split('?').next()?.rsplit('/').next())
    }
}
