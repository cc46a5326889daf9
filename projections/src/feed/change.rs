//! From what to what.

use std::{collections::BTreeMap, fmt};

use serde::{Deserialize, Serialize};
use stapes_core::config::{Changes, Config, Device, Devices, is_secret};

/// What is shown instead of a secret.
pub const HIDDEN: &str = "(hidden)";

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// e.g. `limits.memory`, `description`, `devices.eth0.network`.
    pub what: String,
    /// `None`: it was unset.
    pub from: Option<String>,
    /// `None`: it is unset.
    pub to: Option<String>,
}

impl Change {
    pub(super) fn new(
        what: impl Into<String>,
        from: Option<impl Into<String>>,
        to: Option<impl Into<String>>,
    ) -> Self {
        Self { what: what.into(), from: from.map(Into::into), to: to.map(Into::into) }
    }

    /// A value of a configuration; that of a secret key is not shown.
    pub(super) fn of_key(key: &str, from: Option<&String>, to: Option<&String>) -> Self {
        let shown = |value: Option<&String>| {
            value.map(|value| if is_secret(key) { HIDDEN.to_owned() } else { value.clone() })
        };
        Self { what: key.to_owned(), from: shown(from), to: shown(to) }
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { what, from, to } = self;
        match (from, to) {
            (Some(from), Some(to)) => write!(f, "{what} {} → {}", Shown(from), Shown(to)),
            (None, Some(to)) => write!(f, "{what} unset → {}", Shown(to)),
            (Some(from), None) => write!(f, "{what} {} → unset", Shown(from)),
            (None, None) => write!(f, "{what} unset"),
        }
    }
}

/// Characters of a value in a summary at most.
const SHOWN_MAX: usize = 60;

/// A value on one line.
struct Shown<'a>(&'a str);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plain = !self.0.is_empty() && !self.0.contains(|c: char| c.is_control());
        if plain && self.0.len() <= SHOWN_MAX {
            return f.write_str(self.0);
        }
        let start: String = self.0.chars().take(SHOWN_MAX).collect();
        write!(f, "{start:?}{}", if start.len() < self.0.len() { "…" } else { "" })
    }
}

pub(super) fn config(before: Option<&Config>, changes: &Changes) -> Vec<Change> {
    let from = |key: &String| before.and_then(|before| before.get(key));
    changes.iter().map(|(key, to)| Change::of_key(key, from(key), to.as_ref())).collect()
}

/// From one whole configuration to another.
pub(super) fn replaced(before: &Config, after: &Config) -> Vec<Change> {
    config(Some(before), &stapes_core::config::diff(before, after))
}

pub(super) fn devices(
    before: Option<&Devices>,
    changes: &BTreeMap<String, Option<Device>>,
) -> Vec<Change> {
    let mut all = Vec::new();
    for (name, to) in changes {
        let from = before.and_then(|before| before.get(name));
        match (from, to) {
            (Some(from), Some(to)) => {
                let keys = from.keys().chain(to.keys().filter(|key| !from.contains_key(*key)));
                let changed = keys.filter(|key| from.get(*key) != to.get(*key));
                all.extend(changed.map(|key| {
                    Change::new(format!("devices.{name}.{key}"), from.get(key), to.get(key))
                }));
            }
            (from, to) => {
                let what = format!("devices.{name}");
                all.push(Change::new(what, from.map(device), to.as_ref().map(device)));
            }
        }
    }
    all
}

/// A device on one line, as `nic network=br0`.
fn device(device: &Device) -> String {
    let kind = device.get("type").map_or("device", String::as_str).to_owned();
    let rest = device.iter().filter(|(key, _)| *key != "type");
    rest.fold(kind, |line, (key, value)| format!("{line} {key}={value}"))
}

pub(super) fn description(before: Option<&String>, to: Option<&String>) -> Option<Change> {
    to.map(|to| Change::new("description", before.filter(|text| !text.is_empty()), Some(to)))
}

pub(super) fn list(what: &str, before: Option<&Vec<String>>, to: &[String]) -> Change {
    Change::new(what, before.map(|list| list.join(",")), Some(to.join(",")))
}
