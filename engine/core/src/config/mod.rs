//! Configuration: keys and values as users write them, checked against one table of known keys.
//!
//! Keys and their meaning are the dialect's (`reference: Incus 6.0, configuration.json`). A key that
//! stapes does not honour is refused, not ignored.

use std::collections::BTreeMap;

use crate::{port::secret, rejection::Rejection};

mod device;
mod keys;
mod value;

pub use device::{Device, Devices, apply_devices, check_devices, device_changes, merge_devices};
pub use keys::known;
pub use value::{bytes, cpu, memory, span};

pub type Config = BTreeMap<String, String>;
/// What became of each key that changed; `None` is unset.
pub type Changes = BTreeMap<String, Option<String>>;

/// Whose configuration it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    Server,
    Instance,
    Profile,
    Project,
    Network,
    Pool,
    Volume,
    Node,
}

/// Bytes in one value at most.
const VALUE_BYTES_MAX: usize = 64 * 1024;
/// The same of a value that is sealed: base64, and what sealing adds.
const SEALED_BYTES_MAX: usize = VALUE_BYTES_MAX / 3 * 4 + 256;
/// Keys in one configuration at most.
const KEYS_MAX: usize = 1000;

/// Checks every key and value.
///
/// # Errors
/// Names the first key that is unknown or whose value is wrong, with what it takes.
pub fn check(scope: Scope, config: &Config) -> Result<(), Rejection> {
    if config.len() > KEYS_MAX {
        return Err(Rejection::Invalid(format!("Invalid config: more than {KEYS_MAX} keys")));
    }
    for (key, value) in config {
        check_key(scope, key, value)
            .map_err(|why| Rejection::Invalid(format!("Invalid config: {why}")))?;
    }
    Ok(())
}

fn check_key(scope: Scope, key: &str, value: &str) -> Result<(), String> {
    if key.is_empty() || key.len() > 255 || !key.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(format!("Invalid configuration key: {key:?}"));
    }
    let is_sealed = is_secret(key) && secret::looks_sealed(value);
    if value.len() > if is_sealed { SEALED_BYTES_MAX } else { VALUE_BYTES_MAX } {
        return Err(format!("Value of {key:?} is longer than {VALUE_BYTES_MAX} bytes"));
    }
    let check =
        keys::find(scope, key).ok_or_else(|| format!("Unknown configuration key: {key:?}"))?;
    if value.is_empty() {
        return Ok(());
    }
    check.check(value).map_err(|why| {
        // A refusal may be written down somewhere.
        let value = if is_secret(key) { "(secret)" } else { value };
        format!("Invalid value {value:?} for key {key:?}: {why}")
    })
}

/// Whether a value must never lie on the log in clear.
#[must_use]
pub fn is_secret(key: &str) -> bool {
    key.starts_with("environment.")
        || matches!(
            key,
            "cloud-init.user-data"
                | "cloud-init.vendor-data"
                | "cloud-init.network-config"
                | "user.user-data"
                | "user.vendor-data"
                | "user.network-config"
        )
}

/// What must change for `current` to become `wanted`. An empty value is an unset one.
#[must_use]
pub fn diff(current: &Config, wanted: &Config) -> Changes {
    let set =
        |config: &Config, key: &str| config.get(key).filter(|value| !value.is_empty()).cloned();
    let keys = current.keys().chain(wanted.keys());
    keys.filter(|key| set(current, key) != set(wanted, key))
        .map(|key| (key.clone(), set(wanted, key)))
        .collect()
}

/// Makes the changes.
pub fn apply(config: &mut Config, changes: &Changes) {
    for (key, value) in changes {
        match value {
            Some(value) => config.insert(key.clone(), value.clone()),
            None => config.remove(key),
        };
    }
}

/// What a boolean key says; unset is false.
#[must_use]
pub fn is_true(config: &Config, key: &str) -> bool {
    config.get(key).is_some_and(|value| value::truth(value) == Some(true))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(pairs: &[(&str, &str)]) -> Config {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn diff_then_apply_gives_what_was_wanted() {
        let current = config(&[("a", "1"), ("b", "2"), ("c", "3")]);
        let wanted = config(&[("a", "1"), ("b", "5"), ("c", ""), ("d", "4")]);
        let mut result = current.clone();
        apply(&mut result, &diff(&current, &wanted));
        assert_eq!(result, config(&[("a", "1"), ("b", "5"), ("d", "4")]));
    }

    #[test]
    fn unknown_and_wrong_values_are_refused_by_name() {
        for (key, value, word) in [
            ("limits.memroy", "1GiB", "limits.memroy"),
            ("limits.memory", "lots", "limits.memory"),
            ("limits.cpu", "-1", "limits.cpu"),
            ("limits.processes", "many", "limits.processes"),
            ("security.nesting", "maybe", "security.nesting"),
            ("environment.A\nB", "x", "environment.A"),
            ("environment.A", "x\0y", "environment.A"),
            ("volatile.nonsense", "1", "volatile.nonsense"),
        ] {
            let error = check(Scope::Instance, &config(&[(key, value)])).unwrap_err().to_string();
            assert!(error.contains(word), "{key}={value}: {error}");
        }
    }

    #[test]
    fn what_users_write_is_taken() {
        for (key, value) in [
            ("limits.memory", "512MiB"),
            ("limits.memory", "1.5GiB"),
            ("limits.cpu", "2"),
            ("limits.cpu.allowance", "25ms/100ms"),
            ("user.anything.at-all", "x\ny"),
            ("environment.PATH", "/bin"),
            ("boot.autostart", "true"),
            ("volatile.eth0.hwaddr", "10:66:6a:00:00:01"),
            ("image.os", "Debian"),
        ] {
            check(Scope::Instance, &config(&[(key, value)])).unwrap();
        }
    }
}
