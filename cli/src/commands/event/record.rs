//! One line of the log as it comes: a CloudEvent, or a word about the stream itself.

use std::fmt::Write as _;

use chrono::{DateTime, Utc};
use serde_json::Value;

use crate::{
    commands::{plain, text},
    exit::ExitStatus,
    failure::{Failure, Result},
};

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Line {
    Event(Box<Record>),
    /// Everything up to here was sent; what follows is live.
    CaughtUp {
        sequence: u64,
        raw: Value,
    },
    Gap {
        from: u64,
        to: u64,
        why: String,
        raw: Value,
    },
    /// The daemon cannot go on reading.
    Broken {
        why: String,
    },
    /// A heartbeat, or something newer than this client.
    Other(Value),
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Record {
    pub(crate) sequence: u64,
    /// `instance.created`: without the prefix and the version.
    pub(crate) kind: String,
    /// `instance/web`.
    pub(crate) resource: String,
    pub(crate) subject: String,
    pub(crate) revision: u64,
    pub(crate) time: Option<DateTime<Utc>>,
    /// Empty when no operation asked for it.
    pub(crate) operation: String,
    pub(crate) actor: String,
    pub(crate) reason: String,
    pub(crate) raw: Value,
}

pub(crate) fn line(value: Value) -> Result<Line> {
    match text(&value, "control").as_str() {
        "" => record(value).map(|record| Line::Event(Box::new(record))),
        "caught-up" => Ok(Line::CaughtUp { sequence: number(&value, "sequence"), raw: value }),
        "gap" => Ok(Line::Gap {
            from: number(&value, "from"),
            to: number(&value, "to"),
            why: text(&value, "why"),
            raw: value,
        }),
        "broken" => Ok(Line::Broken { why: text(&value, "why") }),
        _ => Ok(Line::Other(value)),
    }
}

pub(crate) fn broken(why: &str) -> Failure {
    Failure::new(ExitStatus::Unreachable, "log-broken", "the daemon cannot read on in its log")
        .fact(why.to_owned())
        .hint("stapes log verify")
}

fn record(value: Value) -> Result<Record> {
    let sequence = number(&value, "sequence");
    if sequence == 0 {
        return Err(Failure::protocol("a line of the log has no sequence").fact(value.to_string()));
    }
    let kind = text(&value, "type");
    let kind = kind.strip_prefix("io.stapes.").unwrap_or(&kind);
    let kind = match kind.rsplit_once(".v") {
        Some((name, version)) if version.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => kind,
    };
    Ok(Record {
        sequence,
        kind: kind.to_owned(),
        resource: text(&value, "resource"),
        subject: text(&value, "subject"),
        revision: number(&value, "revision"),
        time: text(&value, "time").parse().ok(),
        operation: text(&value, "correlationid"),
        actor: value.get("actor").map(|actor| text(actor, "name")).unwrap_or_default(),
        reason: text(&value, "reason"),
        raw: value,
    })
}

/// CloudEvents wants strings; a number is understood too.
fn number(value: &Value, field: &str) -> u64 {
    text(value, field).parse().unwrap_or(0)
}

impl Record {
    pub(crate) fn data(&self) -> &Value {
        self.raw.get("data").unwrap_or(&Value::Null)
    }

    /// What it says, in the space of a line: in the daemon's words, else `limits.memory=4GiB
    /// status=running`.
    pub(crate) fn summary(&self, most: usize) -> String {
        let mut text = self.raw["summary"].as_str().unwrap_or_default().to_owned();
        if text.is_empty() {
            flatten(&mut text, "", self.data());
        }
        if text.chars().count() > most {
            text = text.chars().take(most.saturating_sub(1)).collect::<String>() + "…";
        }
        text
    }

    /// A line for people.
    pub(crate) fn pretty(&self) -> String {
        let time = self.time.map_or_else(String::new, |time| time.format("%H:%M:%SZ").to_string());
        let mut line =
            format!("{} {time} {} {} {}", self.sequence, self.actor, self.resource, self.kind);
        let summary = self.summary(160);
        if !summary.is_empty() {
            let _ = write!(line, "  {summary}");
        }
        if !self.operation.is_empty() {
            let _ = write!(line, "  op {}", self.operation);
        }
        if !self.reason.is_empty() {
            let _ = write!(line, "  \"{}\"", self.reason);
        }
        line
    }

    /// The newest value that this event gives a key, at any depth.
    pub(crate) fn sets<'a>(&'a self, key: &str) -> Option<&'a Value> {
        find(self.data(), key)
    }
}

fn find<'a>(value: &'a Value, key: &str) -> Option<&'a Value> {
    match value {
        Value::Object(map) => {
            map.get(key).or_else(|| map.values().find_map(|value| find(value, key)))
        }
        Value::Array(items) => items.iter().find_map(|item| find(item, key)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => None,
    }
}

fn flatten(text: &mut String, prefix: &str, value: &Value) {
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                let name = if prefix.is_empty() { key.clone() } else { format!("{prefix}.{key}") };
                flatten(text, &name, value);
            }
        }
        Value::Null => {}
        Value::Array(items) if items.is_empty() => {}
        Value::Array(_) | Value::Bool(_) | Value::Number(_) | Value::String(_) => {
            let shown = plain(value);
            let gap = if text.is_empty() { "" } else { " " };
            let _ = if prefix.is_empty() {
                write!(text, "{gap}{shown}")
            } else {
                write!(text, "{gap}{prefix}={shown}")
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_line_is_an_event_or_a_word_about_the_stream() {
        let event = json!({
            "type": "io.stapes.instance.config-changed.v1", "sequence": "19120",
            "resource": "instance/web", "actor": { "name": "alice" }, "time": "2026-11-21T10:41:03Z",
            "correlationid": "01JD", "data": { "config": { "limits.memory": "4GiB" } },
        });
        let Line::Event(record) = line(event).unwrap() else { panic!("no event") };
        assert_eq!(record.kind, "instance.config-changed");
        assert_eq!(record.sets("limits.memory"), Some(&json!("4GiB")));
        assert_eq!(
            record.pretty(),
            "19120 10:41:03Z alice instance/web instance.config-changed  \
             config.limits.memory=4GiB  op 01JD"
        );
        let caught_up = line(json!({ "control": "caught-up", "sequence": 7 })).unwrap();
        assert!(matches!(caught_up, Line::CaughtUp { sequence: 7, .. }));
        assert!(line(json!({ "type": "x" })).is_err());
        assert!(matches!(line(json!({ "control": "new" })).unwrap(), Line::Other(_)));
    }
}
