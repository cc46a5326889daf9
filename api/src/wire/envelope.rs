//! The envelope around every JSON answer: seven keys, always all of them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{StatusCode, or_default};

/// What every JSON answer is wrapped in.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, bound(deserialize = "T: Default + Deserialize<'de>"))]
pub struct Envelope<T = Value> {
    #[serde(rename = "type")]
    pub kind: Kind,
    pub status: String,
    pub status_code: u16,
    /// The operation's URL, of an asynchronous answer.
    pub operation: String,
    pub error_code: u16,
    pub error: String,
    #[serde(deserialize_with = "or_default")]
    pub metadata: T,
    /// What stapes adds to an error; see [`Advice`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty", deserialize_with = "or_default")]
    pub facts: BTreeMap<String, String>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    #[default]
    Sync,
    Async,
    Error,
}

/// Why something was refused and what to do about it. No part of Incus' dialect: keys that are
/// there only when there is something to say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Advice {
    /// Stable, e.g. `instance-running`.
    pub code: Option<String>,
    /// What to type next.
    pub hint: Option<String>,
    pub facts: BTreeMap<String, String>,
}

impl<T> Envelope<T> {
    #[must_use]
    pub fn sync(metadata: T) -> Self {
        Self {
            kind: Kind::Sync,
            status: StatusCode::SUCCESS.name().into(),
            status_code: StatusCode::SUCCESS.0,
            operation: String::new(),
            error_code: 0,
            error: String::new(),
            metadata,
            code: None,
            hint: None,
            facts: BTreeMap::new(),
        }
    }

    /// For an operation that was begun.
    #[must_use]
    pub fn asynchronous(operation: String, metadata: T) -> Self {
        Self {
            kind: Kind::Async,
            status: StatusCode::OPERATION_CREATED.name().into(),
            status_code: StatusCode::OPERATION_CREATED.0,
            operation,
            ..Self::sync(metadata)
        }
    }
}

impl Envelope {
    #[must_use]
    pub fn error(error_code: u16, error: String, advice: Advice) -> Self {
        Self {
            kind: Kind::Error,
            status: String::new(),
            status_code: 0,
            operation: String::new(),
            error_code,
            error,
            metadata: Value::Null,
            code: advice.code,
            hint: advice.hint,
            facts: advice.facts,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn all_seven_keys_are_always_there() {
        assert_eq!(
            serde_json::to_string(&Envelope::sync(json!({}))).unwrap(),
            r#"{"type":"sync","status":"Success","status_code":200,"operation":"","error_code":0,"error":"","metadata":{}}"#
        );
        let error = Envelope::error(404, "Instance not found".into(), Advice::default());
        assert_eq!(
            serde_json::to_string(&error).unwrap(),
            r#"{"type":"error","status":"","status_code":0,"operation":"","error_code":404,"error":"Instance not found","metadata":null}"#
        );
    }
}
