//! Images and their aliases.

use serde::{Deserialize, Serialize};

use super::{ConfigMap, Time, lenient, or_default};

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Image {
    #[serde(flatten)]
    pub writable: ImagePut,
    #[serde(deserialize_with = "or_default")]
    pub aliases: Vec<ImageAlias>,
    pub architecture: String,
    pub cached: bool,
    pub filename: String,
    pub fingerprint: String,
    pub size: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub update_source: Option<ImageSource>,
    /// `container` or `virtual-machine`.
    #[serde(rename = "type")]
    pub kind: String,
    pub created_at: Time,
    pub last_used_at: Time,
    pub uploaded_at: Time,
    pub project: String,
}

/// `PUT` and `PATCH` of `/1.0/images/x`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ImagePut {
    pub auto_update: bool,
    #[serde(deserialize_with = "lenient::config")]
    pub properties: ConfigMap,
    pub public: bool,
    pub expires_at: Time,
    #[serde(deserialize_with = "or_default")]
    pub profiles: Vec<String>,
}

/// An alias, as it is shown with its image and given when one is made.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ImageAlias {
    pub name: String,
    pub description: String,
}

/// Where an image came from and can be refreshed from.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ImageSource {
    pub alias: String,
    pub certificate: String,
    pub protocol: String,
    pub server: String,
    pub image_type: String,
}

/// `POST /1.0/images` as JSON.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ImagesPost {
    #[serde(flatten)]
    pub writable: ImagePut,
    pub filename: String,
    pub source: Option<ImagesPostSource>,
    pub compression_algorithm: String,
    #[serde(deserialize_with = "or_default")]
    pub aliases: Vec<ImageAlias>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ImagesPostSource {
    #[serde(flatten)]
    pub source: ImageSource,
    /// `pull` or `push`.
    pub mode: String,
    /// `image`, `instance`, `snapshot` or `url`.
    #[serde(rename = "type")]
    pub kind: String,
    pub url: String,
    /// The instance, or `instance/snapshot`, to publish.
    pub name: String,
    pub fingerprint: String,
    pub secret: String,
    pub project: String,
}

/// `GET /1.0/images/aliases/x`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ImageAliasesEntry {
    pub description: String,
    /// A fingerprint.
    pub target: String,
    pub name: String,
    #[serde(rename = "type")]
    pub kind: String,
}

/// `PUT` of an alias; what is `None` was not given, which `PATCH` may do.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ImageAliasPut {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
}
