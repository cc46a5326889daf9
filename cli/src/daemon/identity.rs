//! What the daemon knows of its own machine.

use std::{fs, path::Path};

use stapes_api::backend::Facts;
use stapes_core::{ids::NodeId, node::Start};
use uuid::Uuid;

use super::directory::Directory;

/// What the log is told when the daemon starts.
pub(crate) fn start(node: NodeId) -> Start {
    Start {
        node,
        name: hostname(),
        architecture: std::env::consts::ARCH.to_owned(),
        cpus: std::thread::available_parallelism()
            .map_or(1, |count| u32::try_from(count.get()).unwrap_or(u32::MAX)),
        memory_bytes: memory_bytes(),
        boot: boot_id(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
    }
}

/// What the API says of the server.
pub(crate) fn facts(directory: &Directory, server_name: String) -> Facts {
    Facts {
        server_name,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        directory: directory.path().to_owned(),
        storage_drivers: ["btrfs", "dir"].map(|name| (name.to_owned(), "1".to_owned())).to_vec(),
        firewall: "nftables".to_owned(),
    }
}

fn trimmed(path: &str) -> Option<String> {
    let text = fs::read_to_string(Path::new(path)).ok()?;
    Some(text.trim().to_owned()).filter(|text| !text.is_empty())
}

fn hostname() -> String {
    trimmed("/proc/sys/kernel/hostname").unwrap_or_else(|| "localhost".to_owned())
}

/// Changes when the machine is rebooted.
fn boot_id() -> Uuid {
    trimmed("/proc/sys/kernel/random/boot_id")
        .and_then(|text| text.parse().ok())
        .unwrap_or_default()
}

fn memory_bytes() -> u64 {
    let meminfo = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let total = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    let kib = total.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok());
    kib.unwrap_or_default() * 1024
}
