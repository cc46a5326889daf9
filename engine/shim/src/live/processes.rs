//! The processes of a guest, as the host's `/proc` shows them.

use std::fs;

/// A guest with more is not looked at further: it would take too long to freeze anyway.
pub const PROCESSES_MAX: usize = 4096;

/// Init and all below it, init first; those that come and go meanwhile may be missing. More than
/// [`PROCESSES_MAX`] are not all.
#[must_use]
pub fn below(init: i32) -> Vec<i32> {
    let mut found = vec![init];
    let mut looked_at = 0;
    while let Some(pid) = found.get(looked_at)
        && found.len() <= PROCESSES_MAX
    {
        let threads = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
        let children = threads.filter_map(|it| fs::read_to_string(it.path().join("children")).ok());
        let children: Vec<String> = children.collect();
        let pids = children.iter().flat_map(|pids| pids.split_whitespace());
        found.extend(pids.filter_map(|pid| pid.parse::<i32>().ok()));
        looked_at += 1;
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processes_are_all_below_init() {
        let mut child =
            std::process::Command::new("cat").stdin(std::process::Stdio::piped()).spawn().unwrap();
        let pids = [std::process::id(), child.id()].map(|pid| i32::try_from(pid).unwrap());
        let found = below(pids[0]);
        drop(child.stdin.take());
        child.wait().unwrap();
        assert!(pids.iter().all(|pid| found.contains(pid)), "{found:?}");
    }
}
