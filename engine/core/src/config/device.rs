//! Devices: what an instance or a profile attaches to a guest.

use std::{collections::BTreeMap, path::Path};

use super::value;
use crate::{rejection::Rejection, spec::MacAddress};

/// Keys and values of one device; `type` says what it is.
pub type Device = BTreeMap<String, String>;
pub type Devices = BTreeMap<String, Device>;

const NIC_KEYS: &[&str] =
    &["type", "network", "nictype", "parent", "name", "hwaddr", "ipv4.address", "mtu"];
const DISK_KEYS: &[&str] = &["type", "path", "pool", "source", "size", "readonly", "required"];

/// Devices of one instance or profile at most, and bytes of one value.
const DEVICES_MAX: usize = 100;
const VALUE_BYTES_MAX: usize = 4096;

/// Devices of profiles, then the instance's own; later ones replace earlier ones of their name.
#[must_use]
pub fn merge_devices<'a>(layers: impl IntoIterator<Item = &'a Devices>) -> Devices {
    layers.into_iter().flatten().map(|(name, device)| (name.clone(), device.clone())).collect()
}

/// What must change for `current` to become `wanted`; `None` is removed.
#[must_use]
pub fn device_changes(current: &Devices, wanted: &Devices) -> BTreeMap<String, Option<Device>> {
    let names = current.keys().chain(wanted.keys());
    let changed = names.filter(|name| current.get(*name) != wanted.get(*name));
    changed.map(|name| (name.clone(), wanted.get(name).cloned())).collect()
}

/// Makes the changes.
pub fn apply_devices(devices: &mut Devices, changes: &BTreeMap<String, Option<Device>>) {
    for (name, device) in changes {
        match device {
            Some(device) => devices.insert(name.clone(), device.clone()),
            None => devices.remove(name),
        };
    }
}

/// Checks each device's type, keys and values.
///
/// # Errors
/// Names the first device that is wrong, and why.
pub fn check_devices(devices: &Devices) -> Result<(), Rejection> {
    if devices.len() > DEVICES_MAX {
        return Err(Rejection::Invalid(format!("Invalid devices: more than {DEVICES_MAX}")));
    }
    for (name, device) in devices {
        check_device(name, device).map_err(|why| {
            Rejection::Invalid(format!(
                "Invalid devices: Device validation failed for {name:?}: {why}"
            ))
        })?;
    }
    Ok(())
}

fn check_device(name: &str, device: &Device) -> Result<(), String> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    if name.is_empty() || name.len() > 64 || !name.bytes().all(plain) {
        return Err("a device's name is 1 to 64 letters, digits, '-', '_' and '.'".to_owned());
    }
    let readable =
        |text: &str| text.len() <= VALUE_BYTES_MAX && !text.chars().any(char::is_control);
    if let Some((key, _)) = device.iter().find(|(key, value)| !readable(key) || !readable(value)) {
        let rule = format!("at most {VALUE_BYTES_MAX} bytes without control characters");
        return Err(format!("the value of {key:?} has {rule}"));
    }
    match device.get("type").map(String::as_str) {
        Some("none") => Ok(()),
        Some("nic") => known(device, NIC_KEYS).and_then(|()| check_nic(device)),
        Some("disk") => known(device, DISK_KEYS).and_then(|()| check_disk(device)),
        Some(other) => {
            Err(format!("Unsupported device type {other:?}; supported are nic, disk and none"))
        }
        None => Err("Missing device type".to_owned()),
    }
}

fn known(device: &Device, keys: &[&str]) -> Result<(), String> {
    let user = |key: &str| key.starts_with("user.");
    match device.keys().find(|key| !keys.contains(&key.as_str()) && !user(key)) {
        Some(key) => Err(format!("Unknown device option {key:?}; known are {}", keys.join(", "))),
        None => Ok(()),
    }
}

fn check_nic(device: &Device) -> Result<(), String> {
    let set = |key: &str| device.get(key).filter(|value| !value.is_empty());
    if set("network").is_none()
        && !(set("nictype").is_some_and(|kind| kind == "bridged") && set("parent").is_some())
    {
        return Err("a nic has a network=NAME, or nictype=bridged and parent=NAME".to_owned());
    }
    if let Some(mac) = set("hwaddr") {
        mac.parse::<MacAddress>().map_err(|error| error.to_string())?;
    }
    if let Some(name) = set("name") {
        let plain = |byte: u8| byte.is_ascii_graphic() && byte != b'/' && byte != b':';
        if name.len() > 15 || !name.bytes().all(plain) {
            return Err(format!("{name:?} cannot name an interface"));
        }
    }
    if let Some(address) = set("ipv4.address") {
        address
            .parse::<std::net::Ipv4Addr>()
            .map_err(|_| format!("{address:?} is not an IPv4 address"))?;
    }
    Ok(())
}

fn check_disk(device: &Device) -> Result<(), String> {
    let set = |key: &str| device.get(key).filter(|value| !value.is_empty());
    let path = set("path").ok_or("a disk has a path inside the instance")?;
    if !Path::new(path).is_absolute()
        || path.contains('\0')
        || path.split('/').any(|part| part == "..")
    {
        return Err(format!("path {path:?} is not absolute, or climbs with .."));
    }
    if let Some(size) = set("size") {
        value::bytes(size)?;
    }
    if path == "/" {
        return match (set("pool"), set("source")) {
            (Some(_), None) => Ok(()),
            _ => Err("the root disk has a pool and no source".to_owned()),
        };
    }
    match (set("pool"), set("source")) {
        (_, None) => {
            Err("a disk has a source: a path of the host, or a volume of its pool".to_owned())
        }
        (None, Some(source)) if !Path::new(source).is_absolute() => {
            Err(format!("source {source:?} is neither an absolute path nor has a pool"))
        }
        (Some(_) | None, Some(_)) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device(pairs: &[(&str, &str)]) -> Device {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn devices_say_what_is_wrong_with_them() {
        for (pairs, word) in [
            (&[("path", "/")][..], "Missing device type"),
            (&[("type", "gpu")], "Unsupported device type"),
            (&[("type", "nic")], "network="),
            (&[("type", "nic"), ("network", "n"), ("colour", "red")], "colour"),
            (&[("type", "nic"), ("network", "n"), ("hwaddr", "nope")], "MAC"),
            (&[("type", "disk"), ("path", "srv"), ("source", "/srv")], "absolute"),
            (&[("type", "disk"), ("path", "/srv/../etc"), ("source", "/srv")], ".."),
            (&[("type", "disk"), ("path", "/"), ("source", "/srv")], "root disk"),
        ] {
            let error = check_device("d", &device(pairs)).unwrap_err();
            assert!(error.contains(word), "{pairs:?}: {error}");
        }
        check_device("root", &device(&[("type", "disk"), ("path", "/"), ("pool", "default")]))
            .unwrap();
        check_device("eth0", &device(&[("type", "nic"), ("network", "br0")])).unwrap();
    }

    #[test]
    fn later_layers_replace_devices_by_name() {
        let profile = Devices::from([
            ("a".into(), device(&[("type", "nic")])),
            ("b".into(), device(&[("type", "disk")])),
        ]);
        let own = Devices::from([("a".into(), device(&[("type", "none")]))]);
        let merged = merge_devices([&profile, &own]);
        assert_eq!(merged["a"]["type"], "none");
        assert_eq!(merged["b"]["type"], "disk");
    }
}
