//! Sets and unsets keys of any object.

use serde_json::{Map, Value};
use stapes_api::wire::ConfigMap;

use super::Object;
use crate::{
    exit::ExitStatus,
    failure::{Failure, Result},
    session::Session,
};

/// Sets keys of the configuration, or properties of the thing itself.
pub(crate) async fn set(
    session: &Session,
    object: &Object,
    pairs: ConfigMap,
    property: bool,
) -> Result<ExitStatus> {
    object
        .alter(session, |body| {
            if property {
                return pairs
                    .into_iter()
                    .try_for_each(|(key, value)| set_property(object, body, &key, &value));
            }
            let keys = keys_of(object, body)?;
            for (key, value) in pairs {
                // An empty value unsets, as in Incus.
                if value.is_empty() {
                    keys.remove(&key);
                } else {
                    keys.insert(key, Value::String(value));
                }
            }
            Ok(())
        })
        .await?;
    Ok(ExitStatus::Done)
}

/// Takes one key away. One that is not set is a mistake: it says so.
pub(crate) async fn unset(
    session: &Session,
    object: &Object,
    key: &str,
    property: bool,
) -> Result<ExitStatus> {
    object
        .alter(session, |body| {
            if property {
                return set_property(object, body, key, "");
            }
            match keys_of(object, body)?.remove(key) {
                Some(_) => Ok(()),
                None => Err(Failure::usage(format!("`{key}` is not set on {}", object.title()))),
            }
        })
        .await?;
    Ok(ExitStatus::Done)
}

fn keys_of<'a>(
    object: &Object,
    body: &'a mut Map<String, Value>,
) -> Result<&'a mut Map<String, Value>> {
    let keys = body.entry(object.noun.keys()).or_insert_with(|| Value::Object(Map::new()));
    if keys.is_null() {
        *keys = Value::Object(Map::new());
    }
    keys.as_object_mut()
        .ok_or_else(|| Failure::protocol(format!("{} has no configuration", object.title())))
}

/// The new value takes the type that the old one has.
fn set_property(
    object: &Object,
    body: &mut Map<String, Value>,
    key: &str,
    text: &str,
) -> Result<()> {
    let Some(old) = body.get_mut(key) else {
        let fields: Vec<&str> = body.keys().map(String::as_str).collect();
        return Err(Failure::usage(format!("`{key}` of a {} cannot be set", object.noun.as_str()))
            .fact(format!("These can: {}.", fields.join(", "))));
    };
    *old = match (&*old, text) {
        (Value::Bool(_), "" | "false") => Value::Bool(false),
        (Value::Bool(_), "true") => Value::Bool(true),
        (Value::String(_) | Value::Null, text) => Value::String(text.to_owned()),
        _ => return Err(Failure::usage(format!("`{key}` cannot be `{text}`"))),
    };
    Ok(())
}
