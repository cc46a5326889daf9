//! Certificates of trusted clients.

use serde::{Deserialize, Serialize};

use super::or_default;

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Certificate {
    pub name: String,
    /// `client`, `server` or `metrics`.
    #[serde(rename = "type")]
    pub kind: String,
    pub restricted: bool,
    #[serde(deserialize_with = "or_default")]
    pub projects: Vec<String>,
    pub certificate: String,
    pub description: String,
    pub fingerprint: String,
}
