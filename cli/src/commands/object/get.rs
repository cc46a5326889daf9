//! Prints one key of any object.

use serde_json::Value;

use super::Object;
use crate::{
    commands::text,
    exit::ExitStatus,
    failure::{Failure, Result},
    session::Session,
};

/// Prints one value; an unset key is an empty line, as in Incus.
pub(crate) async fn get(
    session: &Session,
    object: &Object,
    key: &str,
    property: bool,
) -> Result<ExitStatus> {
    let value = object.read(session).await?;
    if property && value.get(key).is_none() {
        let fields: Vec<&str> =
            value.as_object().into_iter().flatten().map(|(field, _)| field.as_str()).collect();
        return Err(Failure::usage(format!("a {} has no property `{key}`", object.noun.as_str()))
            .fact(format!("It has {}.", fields.join(", "))));
    }
    let found = if property { text(&value, key) } else { text(&keys(object, &value), key) };
    session.printer.line(&found)?;
    Ok(ExitStatus::Done)
}

fn keys(object: &Object, value: &Value) -> Value {
    value.get(object.noun.keys()).cloned().unwrap_or_default()
}
