//! The columns of `list`: Incus's letters, words for the common ones, and configuration keys.

use stapes_api::wire::{
    instance::InstanceFull,
    instance_state::{DiskState, InstanceState},
};

use crate::{
    failure::{Failure, Result},
    units::size,
};

pub(crate) const DEFAULT: &str = "ns46tS";
/// In a cluster.
pub(crate) const DEFAULT_CLUSTERED: &str = "ns46tSL";
pub(crate) const FAST: &str = "nsacPt";

/// Letter, word (if it has one), title.
const COLUMNS: [(char, &str, &str); 25] = [
    ('4', "ipv4", "IPv4"),
    ('6', "ipv6", "IPv6"),
    ('a', "architecture", "Architecture"),
    ('b', "pool", "Storage pool"),
    ('c', "created", "Created at"),
    ('d', "description", "Description"),
    ('D', "disk", "Disk usage"),
    ('e', "project", "Project"),
    ('f', "image", "Base image"),
    ('F', "", "Base image"),
    ('l', "used", "Last used at"),
    ('L', "node", "Location"),
    ('m', "memory", "Memory usage"),
    ('M', "", "Memory usage%"),
    ('n', "name", "Name"),
    ('N', "processes", "Processes"),
    ('p', "pid", "PID"),
    ('P', "profiles", "Profiles"),
    ('s', "state", "State"),
    ('S', "snapshots", "Snapshots"),
    ('t', "type", "Type"),
    ('u', "cpu", "CPU usage"),
    ('U', "started", "Started at"),
    ('L', "location", "Location"),
    ('I', "id", "Id"),
];

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Column {
    Letter(char),
    /// A configuration key (or `devices:NAME.KEY`), and at most so many characters of it.
    Key {
        key: String,
        title: String,
        width: Option<usize>,
    },
}

/// Reads `ns4`, `name,state,ipv4` and `n,limits.memory:LIMIT:8`.
pub(crate) fn parse(text: &str) -> Result<Vec<Column>> {
    let mut columns = Vec::new();
    for part in text.split(',').filter(|part| !part.is_empty()) {
        if let Some((letter, _, _)) =
            COLUMNS.iter().find(|(_, word, _)| word.eq_ignore_ascii_case(part) && !part.is_empty())
        {
            columns.push(Column::Letter(*letter));
        } else if part.contains('.') || part.contains(':') {
            columns.push(key(part)?);
        } else {
            for letter in part.chars() {
                if !COLUMNS.iter().any(|(known, _, _)| *known == letter) {
                    return Err(Failure::usage(format!(
                        "there is no column `{letter}` in `{text}`"
                    ))
                    .hint("stapes list --help"));
                }
                columns.push(Column::Letter(letter));
            }
        }
    }
    if columns.is_empty() {
        return Err(Failure::usage("no columns are named").hint("stapes list --help"));
    }
    Ok(columns)
}

fn key(part: &str) -> Result<Column> {
    let (prefix, rest) = match part.strip_prefix("devices:") {
        Some(rest) => ("devices:", rest),
        None => ("", part.strip_prefix("config:").unwrap_or(part)),
    };
    let mut fields = rest.split(':');
    let key = fields.next().unwrap_or_default();
    let title = fields.next().filter(|title| !title.is_empty()).unwrap_or(key);
    let width = fields.next().map(str::parse).transpose().map_err(|_| {
        Failure::usage(format!("the width in `{part}` is no number")).hint("stapes list --help")
    })?;
    Ok(Column::Key { key: format!("{prefix}{key}"), title: title.to_owned(), width })
}

impl Column {
    pub(crate) fn title(&self) -> &str {
        match self {
            Self::Key { title, .. } => title,
            Self::Letter(letter) => COLUMNS
                .iter()
                .find(|(known, _, _)| known == letter)
                .map_or("", |(_, _, title)| title),
        }
    }

    /// Whether it needs more than the configuration: the live state, or the snapshots.
    pub(crate) const fn slow(&self) -> bool {
        matches!(self, Self::Letter('4' | '6' | 'D' | 'm' | 'M' | 'N' | 'p' | 'S' | 'u' | 'U'))
    }

    pub(crate) fn cell(&self, full: &InstanceFull) -> String {
        match self {
            Self::Key { key, width, .. } => {
                let value = key_value(full, key);
                value.chars().take(width.unwrap_or(usize::MAX)).collect()
            }
            Self::Letter(letter) => letter_cell(*letter, full),
        }
    }
}

fn key_value(full: &InstanceFull, key: &str) -> String {
    let instance = &full.instance;
    if let Some(device_key) = key.strip_prefix("devices:") {
        let found = device_key
            .split_once('.')
            .and_then(|(device, key)| instance.expanded_devices.get(device)?.get(key));
        return found.cloned().unwrap_or_default();
    }
    instance
        .expanded_config
        .get(key)
        .or_else(|| instance.config.get(key))
        .cloned()
        .unwrap_or_default()
}

fn letter_cell(letter: char, full: &InstanceFull) -> String {
    let instance = &full.instance;
    let state = full.state.as_ref().filter(|state| state.pid > 0);
    let config = |key: &str| instance.config.get(key).cloned().unwrap_or_default();
    let of_state = |cell: fn(&InstanceState) -> String| state.map(cell).unwrap_or_default();
    match letter {
        '4' => of_state(|state| lines(&addresses(state, "inet"))),
        '6' => of_state(|state| lines(&addresses(state, "inet6"))),
        'a' => instance.architecture.clone(),
        'b' => root_pool(full),
        'c' => when(instance.created_at),
        'd' => instance.description.clone(),
        'D' => full
            .state
            .as_ref()
            .and_then(|state| state.disk.get("root"))
            .map_or_else(String::new, |DiskState { usage, .. }| size::show(*usage)),
        'e' => instance.project.clone(),
        'f' => config("volatile.base_image").chars().take(12).collect(),
        'F' => config("volatile.base_image"),
        'I' => config("volatile.uuid"),
        'l' => when(instance.last_used_at),
        'L' => instance.location.clone(),
        'm' => of_state(|state| size::show(state.memory.usage)),
        'M' => of_state(memory_share),
        'n' => instance.name.clone(),
        'N' => of_state(|state| state.processes.to_string()),
        'p' => of_state(|state| state.pid.to_string()),
        'P' => instance.profiles.join("\n"),
        's' => instance.status.to_uppercase(),
        'S' => full.snapshots.as_ref().map_or(0, Vec::len).to_string(),
        't' => kind(full),
        'u' => of_state(|state| format!("{}s", state.cpu.usage / 1_000_000_000)),
        'U' => of_state(|state| when(state.started_at)),
        _ => String::new(),
    }
}

fn kind(full: &InstanceFull) -> String {
    let kind = full.instance.kind.to_uppercase();
    if full.instance.ephemeral { format!("{kind} (EPHEMERAL)") } else { kind }
}

fn when(time: stapes_api::wire::Time) -> String {
    time.moment().map_or_else(String::new, |at| at.format("%Y/%m/%d %H:%M UTC").to_string())
}

fn memory_share(state: &InstanceState) -> String {
    match state.memory.total {
        0 => String::new(),
        total => {
            let tenths = u128::from(state.memory.usage) * 1000 / u128::from(total);
            format!("{}.{}%", tenths / 10, tenths % 10)
        }
    }
}

fn root_pool(full: &InstanceFull) -> String {
    let disks = full.instance.expanded_devices.values();
    disks
        .filter(|device| device.get("path").is_some_and(|path| path == "/"))
        .find_map(|device| device.get("pool").cloned())
        .unwrap_or_default()
}

/// The addresses that others reach it by, with their interface.
pub(crate) fn addresses(state: &InstanceState, family: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for (interface, network) in state.network.iter().flatten() {
        if network.kind == "loopback" {
            continue;
        }
        for address in &network.addresses {
            if address.family == family && address.scope != "link" && address.scope != "local" {
                found.push((address.address.clone(), interface.clone()));
            }
        }
    }
    found.sort_by(|a, b| b.0.cmp(&a.0));
    found
}

fn lines(addresses: &[(String, String)]) -> String {
    let lines: Vec<String> =
        addresses.iter().map(|(address, interface)| format!("{address} ({interface})")).collect();
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters_words_and_keys_mix() {
        let columns = parse("ns4,limits.memory:LIMIT:3,ipv6,devices:eth0.network").unwrap();
        let titles: Vec<&str> = columns.iter().map(Column::title).collect();
        assert_eq!(titles, ["Name", "State", "IPv4", "LIMIT", "IPv6", "eth0.network"]);
        let mut full = InstanceFull::default();
        full.instance.config.insert("limits.memory".into(), "512MiB".into());
        assert_eq!(columns[3].cell(&full), "512");
        for bad in ["", "nZ", "n,a.b:T:wide"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_stopped_instance_has_no_live_cells() {
        let full = InstanceFull { state: Some(InstanceState::default()), ..Default::default() };
        for letter in "46mMNpu".chars() {
            assert_eq!(Column::Letter(letter).cell(&full), "", "{letter}");
        }
    }
}
