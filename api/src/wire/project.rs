//! Projects and how much of their limits they use.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{ConfigMap, lenient, or_default};

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Project {
    #[serde(deserialize_with = "lenient::config")]
    pub config: ConfigMap,
    pub description: String,
    pub name: String,
    #[serde(deserialize_with = "or_default")]
    pub used_by: Vec<String>,
}

/// `POST /1.0/projects`, and `PUT` and `PATCH` of one. What is `None` was not given.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ProjectPut {
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    #[serde(
        skip_serializing_if = "Option::is_none",
        deserialize_with = "lenient::config_if_given"
    )]
    pub config: Option<ConfigMap>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
}

/// `GET /1.0/projects/x/state`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ProjectState {
    pub resources: BTreeMap<String, ProjectResource>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct ProjectResource {
    /// -1 when there is none.
    pub limit: i64,
    pub usage: i64,
}
