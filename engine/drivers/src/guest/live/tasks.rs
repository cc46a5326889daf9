//! The processes of a guest, as the host's `/proc` shows them.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
};

use stapes_shim::live::processes::{self, PROCESSES_MAX};

/// The namespaces that all processes of a guest must share to move.
pub(super) const SHARED: [&str; 6] = ["uts", "ipc", "pid", "user", "time", "cgroup"];

/// One process.
#[derive(Clone, Debug)]
pub(super) struct Task {
    /// On the host.
    pub(super) pid: i32,
    /// In the guest.
    pub(super) inside: i32,
    pub(super) name: String,
    pub(super) state: char,
    pub(super) is_traced: bool,
}

impl Task {
    fn read(pid: i32) -> io::Result<Self> {
        let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
        let field = |key: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(key))?;
            Some(line.trim().to_owned())
        };
        let inside = field("NSpid:").and_then(|pids| pids.split_whitespace().last()?.parse().ok());
        Ok(Self {
            pid,
            inside: inside.unwrap_or(pid),
            name: field("Name:").unwrap_or_default(),
            state: field("State:").and_then(|state| state.chars().next()).unwrap_or('?'),
            is_traced: field("TracerPid:").is_some_and(|pid| pid != "0"),
        })
    }

    /// As its user knows it.
    pub(super) fn named(&self) -> String {
        format!("{} (process {})", self.name, self.inside)
    }

    pub(super) fn namespace(&self, name: &str) -> Option<String> {
        let link = fs::read_link(format!("/proc/{}/ns/{name}", self.pid)).ok()?;
        Some(link.to_string_lossy().into_owned())
    }

    /// Its open files: number and what the link says.
    pub(super) fn files(&self) -> Vec<(String, String)> {
        let Ok(entries) = fs::read_dir(format!("/proc/{}/fd", self.pid)) else {
            return Vec::new();
        };
        let number = |entry: fs::DirEntry| entry.file_name().to_string_lossy().into_owned();
        let numbers = entries.flatten().map(number);
        numbers
            .filter_map(|number| {
                let link = fs::read_link(self.file(&number)).ok()?;
                Some((number, link.to_string_lossy().into_owned()))
            })
            .collect()
    }

    pub(super) fn file(&self, number: &str) -> String {
        format!("/proc/{}/fd/{number}", self.pid)
    }

    /// What the kernel tells of an open file under this key.
    pub(super) fn file_info(&self, number: &str, key: &str) -> Option<String> {
        let text = fs::read_to_string(format!("/proc/{}/fdinfo/{number}", self.pid)).ok()?;
        let line = text.lines().find_map(|line| line.strip_prefix(key))?;
        Some(line.trim_start_matches(':').trim().to_owned())
    }

    /// Its mounts: number, place and kind.
    pub(super) fn mounts(&self) -> Vec<(String, String, String)> {
        let text = fs::read_to_string(format!("/proc/{}/mountinfo", self.pid)).unwrap_or_default();
        text.lines().filter_map(parse_mount).collect()
    }
}

fn parse_mount(line: &str) -> Option<(String, String, String)> {
    let (first, second) = line.split_once(" - ")?;
    let mut first = first.split(' ');
    let number = first.next()?.to_owned();
    let place = first.nth(3)?.to_owned();
    Some((number, place, second.split(' ').next()?.to_owned()))
}

/// The tree below init, init first; processes that come and go meanwhile may be missing.
pub(super) fn tree(init: i32) -> io::Result<Vec<Task>> {
    let pids = processes::below(init);
    if pids.len() > PROCESSES_MAX {
        return Err(io::Error::other(format!("it has more than {PROCESSES_MAX} processes")));
    }
    Ok(pids.into_iter().filter_map(|pid| Task::read(pid).ok()).collect())
}

/// Processes in these cgroups that are not of the tree.
pub(super) fn strangers(group: &std::path::Path, tree: &[Task]) -> Vec<Task> {
    let known: BTreeSet<i32> = tree.iter().map(|task| task.pid).collect();
    let mut found = BTreeMap::new();
    let mut directories = vec![group.to_owned()];
    while let Some(directory) = directories.pop() {
        let procs = fs::read_to_string(directory.join("cgroup.procs")).unwrap_or_default();
        for pid in procs.lines().filter_map(|pid| pid.parse::<i32>().ok()) {
            if !known.contains(&pid)
                && let Ok(task) = Task::read(pid)
            {
                found.insert(pid, task);
            }
        }
        let Ok(entries) = fs::read_dir(&directory) else { continue };
        let below = entries.flatten().filter(|one| one.file_type().is_ok_and(|kind| kind.is_dir()));
        directories.extend(below.map(|entry| entry.path()));
    }
    found.into_values().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_own_process_is_found_with_its_files_and_mounts() {
        let ours = i32::try_from(std::process::id()).unwrap();
        let tree = tree(ours).unwrap();
        assert_eq!((tree[0].pid, tree[0].is_traced), (ours, false));
        assert!(!tree[0].files().is_empty());
        assert!(tree[0].mounts().iter().any(|(_, place, kind)| place == "/proc" && kind == "proc"));
        assert!(tree[0].namespace("pid").unwrap().starts_with("pid:["));
        assert!(tree[0].file_info("0", "mnt_id").is_some());
    }
}
