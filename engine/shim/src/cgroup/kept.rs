//! The guest's own tree of cgroups, written down and made again elsewhere.
//!
//! CRIU makes the groups that hold processes, and no others; but systemd watches empty ones, too. So
//! all are there before CRIU comes, and CRIU only moves processes into them.

use std::{
    fs, io,
    os::unix::fs::{MetadataExt as _, chown},
    path::Path,
};

use serde::{Deserialize, Serialize};

use super::{Group, group::DEPTH_MAX, make};
use crate::sys;

/// A guest has no more, or it cannot be moved.
const GROUPS_MAX: usize = 4096;
/// What a guest sets on its own groups, where cgroup2 has the controllers. The first decides which
/// of the others are there, further down.
const SETTINGS: [&str; 11] = [
    "cgroup.subtree_control",
    "cgroup.type",
    "pids.max",
    "memory.min",
    "memory.low",
    "memory.high",
    "memory.max",
    "memory.swap.max",
    "cpu.weight",
    "cpu.max",
    "cpuset.cpus",
];
/// What belongs to whom a group is delegated to.
const DELEGATED: [&str; 4] = ["", "cgroup.procs", "cgroup.threads", "cgroup.subtree_control"];

/// One group below the guest's own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kept {
    pub path: String,
    /// As the guest counts.
    pub uid: u32,
    pub gid: u32,
    pub settings: Vec<(String, String)>,
}

impl Group<'_> {
    /// All groups in the guest's own, parents first, that one included (its path is empty).
    ///
    /// # Errors
    /// The kernel's, or when there are too many.
    pub(crate) fn kept(&self, base: u32) -> io::Result<Vec<Kept>> {
        let mut kept = Vec::new();
        collect(&self.guest(), "", base, 0, &mut kept)?;
        Ok(kept)
    }

    /// Makes them.
    ///
    /// # Errors
    /// The kernel's.
    pub(crate) fn make_kept(&self, base: u32, kept: &[Kept]) -> io::Result<()> {
        let guest = self.guest();
        for group in kept {
            if group.path.split('/').any(|part| part == "..") || group.path.starts_with('/') {
                return Err(io::Error::from(io::ErrorKind::InvalidData));
            }
            let directory = guest.join(&group.path);
            if !group.path.is_empty() {
                // By the guest's root: every file in it is the guest's, as if it had made it.
                sys::acting_as(base, || make(&directory))?;
            }
            if (group.uid, group.gid) != (0, 0) {
                for file in DELEGATED {
                    let (uid, gid) = (base + group.uid, base + group.gid);
                    chown(directory.join(file), Some(uid), Some(gid))?;
                }
            }
        }
        for group in kept {
            for (name, value) in &group.settings {
                if SETTINGS.contains(&name.as_str()) && !value.is_empty() {
                    // A controller that this host has not limits nothing here.
                    let _ = fs::write(guest.join(&group.path).join(name), value);
                }
            }
        }
        Ok(())
    }
}

fn collect(
    directory: &Path,
    path: &str,
    base: u32,
    depth: usize,
    kept: &mut Vec<Kept>,
) -> io::Result<()> {
    if depth > DEPTH_MAX || kept.len() >= GROUPS_MAX {
        return Err(io::Error::other("the guest has too many cgroups"));
    }
    let owner = fs::metadata(directory)?;
    let settings = SETTINGS.iter().filter_map(|name| {
        let value = fs::read_to_string(directory.join(name)).ok()?;
        (!is_usual(name, value.trim())).then(|| ((*name).to_owned(), written(name, value.trim())))
    });
    kept.push(Kept {
        path: path.to_owned(),
        uid: owner.uid().saturating_sub(base),
        gid: owner.gid().saturating_sub(base),
        settings: settings.collect(),
    });
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let Ok(name) = entry.file_name().into_string() else { continue };
        if entry.file_type()?.is_dir() {
            let path = if path.is_empty() { name } else { format!("{path}/{name}") };
            collect(&entry.path(), &path, base, depth + 1, kept)?;
        }
    }
    Ok(())
}

/// What a new group says anyway.
fn is_usual(name: &str, value: &str) -> bool {
    match name {
        "cgroup.subtree_control" | "cpuset.cpus" => value.is_empty(),
        "cgroup.type" => value != "threaded",
        "memory.min" | "memory.low" => value == "0",
        "cpu.weight" => value == "100",
        "cpu.max" => value == "max 100000",
        _ => value == "max",
    }
}

/// Controllers are read as a list, and written as changes.
fn written(name: &str, value: &str) -> String {
    if name == "cgroup.subtree_control" {
        let controllers: Vec<String> = value.split(' ').map(|one| format!("+{one}")).collect();
        return controllers.join(" ");
    }
    value.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_written_as_the_kernel_takes_them() {
        assert_eq!(written("cgroup.subtree_control", "memory pids"), "+memory +pids");
        assert_eq!(written("pids.max", "100"), "100");
        assert!(is_usual("pids.max", "max") && !is_usual("pids.max", "100"));
        assert!(is_usual("cgroup.type", "domain") && !is_usual("cgroup.type", "threaded"));
    }
}
