//! Which hierarchies are mounted where, from `/proc/self/mountinfo`.

use std::path::PathBuf;

use super::{CONTROLLERS, Hierarchy};

/// The mount of cgroup2, and the v1 hierarchies that have a controller we use.
pub(super) fn parse(mountinfo: &str) -> (Option<PathBuf>, Vec<Hierarchy>) {
    let mut unified = None;
    let mut legacy: Vec<Hierarchy> = Vec::new();
    for line in mountinfo.lines() {
        let Some((left, right)) = line.split_once(" - ") else { continue };
        let mut right = right.split(' ');
        let (kind, options) = (right.next(), right.nth(1).unwrap_or_default());
        let Some(mount) = left.split(' ').nth(4).map(PathBuf::from) else { continue };
        match kind {
            // A shorter path is the host's own; others are copies made for guests.
            Some("cgroup2") => {
                let nearer = |old: &PathBuf| old.as_os_str().len() <= mount.as_os_str().len();
                if !unified.as_ref().is_some_and(nearer) {
                    unified = Some(mount);
                }
            }
            Some("cgroup") => {
                let controllers: Vec<String> = options
                    .split(',')
                    .filter(|option| CONTROLLERS.contains(option))
                    .map(str::to_owned)
                    .collect();
                let known = legacy.iter().any(|one| one.controllers == controllers);
                if !controllers.is_empty() && !known {
                    legacy.push(Hierarchy { controllers, mount });
                }
            }
            _ => {}
        }
    }
    (unified, legacy)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_with_cgroup2_alone() {
        let (unified, legacy) =
            parse("30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate");
        assert_eq!(unified, Some("/sys/fs/cgroup".into()));
        assert!(legacy.is_empty());
    }

    #[test]
    fn a_hybrid_host_with_controllers_mounted_together() {
        let (unified, legacy) = parse(
            "31 30 0:27 / /sys/fs/cgroup/unified rw shared:10 - cgroup2 cgroup2 rw\n\
             32 30 0:28 / /sys/fs/cgroup/systemd rw - cgroup systemd rw,xattr,name=systemd\n\
             33 30 0:29 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n\
             34 30 0:30 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n\
             35 30 0:27 / /run/other/guest/sys/fs/cgroup rw - cgroup2 cgroup2 rw",
        );
        assert_eq!(unified, Some("/sys/fs/cgroup/unified".into()));
        let mounts: Vec<_> = legacy.iter().map(|one| one.mount.to_str().unwrap()).collect();
        assert_eq!(mounts, ["/sys/fs/cgroup/cpu,cpuacct", "/sys/fs/cgroup/memory"]);
        assert_eq!(legacy[0].controllers, ["cpu", "cpuacct"]);
    }
}
