//! What the verbs do, one file a verb: plain functions that know neither clap nor stdout.

pub(crate) mod cluster;
pub(crate) mod config;
pub(crate) mod device;
pub(crate) mod event;
pub(crate) mod file;
pub(crate) mod image;
pub(crate) mod instance;
pub(crate) mod network;
pub(crate) mod object;
pub(crate) mod operation;
pub(crate) mod profile;
pub(crate) mod project;
pub(crate) mod server;
pub(crate) mod session;
pub(crate) mod snapshot;
pub(crate) mod storage;
pub(crate) mod volume;

use serde_json::Value;

/// A text field of an object; empty when it is not there.
pub(crate) fn text(object: &Value, field: &str) -> String {
    object.get(field).map(plain).unwrap_or_default()
}

/// A value without quotes; nothing for null.
pub(crate) fn plain(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => value.to_string(),
    }
}

/// The items of a list; none when it is no list.
pub(crate) fn items(value: Value) -> Vec<Value> {
    if let Value::Array(items) = value { items } else { Vec::new() }
}

/// How many entries a list or map field has.
pub(crate) fn count(object: &Value, field: &str) -> usize {
    let value = object.get(field);
    let list = value.and_then(Value::as_array).map(Vec::len);
    list.or_else(|| value.and_then(Value::as_object).map(serde_json::Map::len)).unwrap_or(0)
}
