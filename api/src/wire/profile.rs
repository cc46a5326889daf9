//! Profiles, and the body that renames anything that has only a name.

use serde::{Deserialize, Serialize};

use super::{ConfigMap, DevicesMap, lenient, or_default};

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Profile {
    #[serde(deserialize_with = "lenient::config")]
    pub config: ConfigMap,
    pub description: String,
    #[serde(deserialize_with = "lenient::devices")]
    pub devices: DevicesMap,
    pub name: String,
    #[serde(deserialize_with = "or_default")]
    pub used_by: Vec<String>,
    pub project: String,
}

/// `POST /1.0/profiles`, and `PUT` and `PATCH` of one. What is `None` was not given.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ProfilePut {
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    #[serde(
        skip_serializing_if = "Option::is_none",
        deserialize_with = "lenient::config_if_given"
    )]
    pub config: Option<ConfigMap>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    #[serde(
        skip_serializing_if = "Option::is_none",
        deserialize_with = "lenient::devices_if_given"
    )]
    pub devices: Option<DevicesMap>,
}

/// The new name of a profile, network, project, alias or snapshot.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Rename {
    pub name: String,
}
