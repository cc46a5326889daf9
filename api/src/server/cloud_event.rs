//! Our log on the outside: CloudEvents 1.0 in JSON, one an event.
//!
//! A contract: keys are added, never changed. Values that must not leave the log in clear are
//! masked here, wherever in an event they are.

use serde_json::{Map, Value, json};
use stapes_core::{config, record::Body};

use crate::backend::Told;

/// What stands in place of a secret.
const MASK: &str = "(secret)";

/// The record's events. A task is its node's affair and is not told.
pub(super) fn cloud_events(told: &Told, server: &str) -> Vec<Value> {
    let recorded = &told.recorded;
    let Body::Events(events) = &recorded.record.body else { return Vec::new() };
    let subject = match &told.subject.project {
        Some(project) => format!("{project}/{}", told.subject.name),
        None => told.subject.name.clone(),
    };
    let one = |(ordinal, event): (usize, &stapes_core::event::Event)| {
        // `{noun: {what: data}}`: the type says the first two.
        let data = serde_json::to_value(event).unwrap_or_default();
        let mut data = inner(inner(data));
        mask(&mut data);
        let mut line = json!({
            "specversion": "1.0",
            "type": format!("io.stapes.{}.v1", type_of(event)),
            "id": format!("{}-{ordinal}", recorded.record.id),
            "source": format!("/server/{server}"),
            "subject": subject,
            "time": recorded.record.time,
            "sequence": recorded.sequence.to_string(),
            "correlationid": recorded.record.operation,
            "resource": format!("{}/{}", recorded.stream.kind.as_str(), told.subject.name),
            "revision": recorded.revision,
            "actor": {
                "kind": recorded.record.actor.protocol.as_str(),
                "name": recorded.record.actor.name,
            },
            "datacontenttype": "application/json",
            "data": data,
        });
        let mut add = |key: &str, value: Option<Value>| {
            if let (Some(map), Some(value)) = (line.as_object_mut(), value) {
                map.insert(key.to_owned(), value);
            }
        };
        let entry = told.entries.iter().find(|entry| usize::from(entry.index) == ordinal);
        add("summary", entry.map(|entry| json!(entry.summary)));
        let changes = entry.map(|entry| &entry.changes).filter(|changes| !changes.is_empty());
        add("changes", changes.map(|changes| json!(changes)));
        add("causationid", recorded.record.caused_by.map(|id| json!(id)));
        add("reason", recorded.record.reason.as_ref().map(|reason| json!(reason)));
        line
    };
    events.iter().enumerate().map(one).collect()
}

/// `instance.created` from `instance-created`.
fn type_of(event: &stapes_core::event::Event) -> String {
    let noun = event.noun();
    let name = event.type_name();
    let verb = name.strip_prefix(noun).unwrap_or(&name).trim_start_matches('-').to_owned();
    format!("{noun}.{verb}")
}

/// What the only key of an object holds; a unit variant holds nothing.
fn inner(value: Value) -> Value {
    match value {
        Value::Object(map) if map.len() == 1 => {
            map.into_iter().next().map_or_else(|| json!({}), |(_, value)| value)
        }
        Value::String(_) | Value::Null => json!({}),
        Value::Object(_) | Value::Array(_) | Value::Bool(_) | Value::Number(_) => value,
    }
}

fn mask(value: &mut Value) {
    match value {
        Value::Object(map) => mask_keys(map),
        Value::Array(items) => items.iter_mut().for_each(mask),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn mask_keys(map: &mut Map<String, Value>) {
    for (key, value) in map.iter_mut() {
        if config::is_secret(key) && value.is_string() {
            *value = json!(MASK);
        } else {
            mask(value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_masked_at_any_depth() {
        let mut value = json!({"config": {"environment.TOKEN": "x", "limits.cpu": "2"}});
        mask(&mut value);
        assert_eq!(value["config"]["environment.TOKEN"], MASK);
        assert_eq!(value["config"]["limits.cpu"], "2");
    }
}
