//! Reading what clients send as leniently as Go's decoder reads it.
//!
//! Go matches keys without regard to case (`InstancePost` even has `Config`, `Devices` and
//! `Profiles` with capitals), takes `null` for "not given", and Incus turns numbers, booleans and
//! nulls in configuration into strings. Callers in Go and Python rely on all three.

use serde::{Deserialize, Deserializer, de::DeserializeOwned};
use serde_json::{Map, Value};

use super::{ConfigMap, DevicesMap};

/// Objects whose keys are data: neither their case nor their nulls may be touched.
const DATA: [&str; 6] =
    ["config", "devices", "properties", "environment", "expanded_config", "expanded_devices"];

/// Reads a request's body.
///
/// # Errors
/// When it is not JSON, or a key has a value of the wrong type.
pub fn decode<T: DeserializeOwned>(body: &[u8]) -> Result<T, serde_json::Error> {
    T::deserialize(normal(serde_json::from_slice(body)?))
}

/// The same body with lower-case keys and without nulls.
#[must_use]
pub fn normal(value: Value) -> Value {
    match value {
        Value::Object(map) => Value::Object(map.into_iter().filter_map(normal_entry).collect()),
        Value::Array(items) => Value::Array(items.into_iter().map(normal).collect()),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => value,
    }
}

fn normal_entry((key, value): (String, Value)) -> Option<(String, Value)> {
    let key = key.to_ascii_lowercase();
    if value.is_null() {
        return None;
    }
    let value = if DATA.contains(&key.as_str()) { value } else { normal(value) };
    Some((key, value))
}

/// A field's default in place of `null`.
///
/// # Errors
/// When the value is neither `null` nor a `T`.
pub fn or_default<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(
    deserializer: D,
) -> Result<T, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// A configuration whose values may be strings, numbers, booleans or null.
///
/// # Errors
/// When a value is a list or an object.
pub fn config<'de, D: Deserializer<'de>>(deserializer: D) -> Result<ConfigMap, D::Error> {
    let map: Map<String, Value> = or_default(deserializer)?;
    texts(map).map_err(serde::de::Error::custom)
}

/// As [`config`], and `None` when it is not given.
///
/// # Errors
/// When a value is a list or an object.
pub fn config_if_given<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<ConfigMap>, D::Error> {
    let map: Option<Map<String, Value>> = Option::deserialize(deserializer)?;
    map.map(texts).transpose().map_err(serde::de::Error::custom)
}

/// Devices, with values as in [`config`].
///
/// # Errors
/// When a device is not an object, or one of its values a list or an object.
pub fn devices<'de, D: Deserializer<'de>>(deserializer: D) -> Result<DevicesMap, D::Error> {
    devices_if_given(deserializer).map(Option::unwrap_or_default)
}

/// As [`devices`], and `None` when they are not given.
///
/// # Errors
/// When a device is not an object, or one of its values a list or an object.
pub fn devices_if_given<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<DevicesMap>, D::Error> {
    let map: Option<std::collections::BTreeMap<String, Map<String, Value>>> =
        Option::deserialize(deserializer)?;
    map.map(|map| map.into_iter().map(|(name, keys)| Ok((name, texts(keys)?))).collect())
        .transpose()
        .map_err(|problem: String| serde::de::Error::custom(problem))
}

fn texts(map: Map<String, Value>) -> Result<ConfigMap, String> {
    map.into_iter().map(|(key, value)| text(&key, value).map(|text| (key, text))).collect()
}

fn text(key: &str, value: Value) -> Result<String, String> {
    match value {
        Value::Null => Ok(String::new()),
        Value::Bool(value) => Ok(value.to_string()),
        Value::Number(value) => Ok(value.to_string()),
        Value::String(value) => Ok(value),
        Value::Array(_) | Value::Object(_) => Err(format!("Invalid value for key {key:?}")),
    }
}

#[cfg(test)]
mod tests {
    use crate::wire::instance::{InstancePost, InstancesPost};

    #[test]
    fn keys_of_any_case_and_values_of_any_type() {
        let body = br#"{"Name":"b","Migration":true,"Config":{"limits.cpu":2,"a.B":true,"n":null},
            "Devices":{"eth0":{"type":"nic","mtu":1400}},"Profiles":["p"],"target":null}"#;
        let post: InstancePost = super::decode(body).unwrap();
        assert_eq!(post.name, "b");
        let config = post.config.unwrap();
        assert_eq!(config["limits.cpu"], "2");
        assert_eq!(config["a.B"], "true");
        assert_eq!(config["n"], "");
        assert_eq!(post.devices.unwrap()["eth0"]["mtu"], "1400");
        assert_eq!(post.profiles.unwrap(), ["p"]);
    }

    #[test]
    fn no_profiles_is_not_an_empty_list_of_them() {
        let none: InstancesPost = super::decode(br#"{"name":"a","profiles":null}"#).unwrap();
        assert_eq!(none.instance.profiles, None);
        let empty: InstancesPost = super::decode(br#"{"name":"a","profiles":[]}"#).unwrap();
        assert_eq!(empty.instance.profiles, Some(vec![]));
    }

    #[test]
    fn a_list_is_no_value_of_a_key() {
        let wrong = super::decode::<InstancesPost>(br#"{"name":"a","config":{"k":[1]}}"#);
        assert!(wrong.unwrap_err().to_string().contains("Invalid value for key \"k\""));
    }
}
