//! Whether this host can run containers, and what to do when it cannot.

use std::{fs, path::Path};

use stapes_shim::cgroup::Layout;

/// One thing that containers need of the host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    pub name: &'static str,
    pub ok: bool,
    /// Without it no container starts; otherwise something of less weight is missing.
    pub required: bool,
    pub detail: String,
    pub hint: &'static str,
}

/// Overlays over layers with mapped ids came with Linux 5.19; Debian's 6.1 is the oldest that is
/// meant.
const KERNEL: (u32, u32) = (6, 1);

/// Looks at everything.
#[must_use]
pub fn preflight() -> Vec<Check> {
    vec![
        root(),
        kernel(),
        cgroup2(),
        controllers(),
        namespaces(),
        overlay(),
        layers(),
        tun(),
        inotify(),
        criu(),
    ]
}

/// The first thing without which nothing starts.
pub(super) fn missing() -> Option<Check> {
    [root(), kernel(), cgroup2(), namespaces()].into_iter().find(|check| !check.ok)
}

fn check(name: &'static str, ok: bool, detail: String, hint: &'static str) -> Check {
    Check { name, ok, required: true, detail, hint }
}

fn root() -> Check {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let effective = effective.and_then(|text| u64::from_str_radix(text.trim(), 16).ok());
    const SYS_ADMIN: u32 = 21;
    let ok = effective.is_some_and(|mask| mask >> SYS_ADMIN & 1 == 1)
        && rustix::process::geteuid().is_root();
    let detail = if ok { "runs as root" } else { "does not run as root with CAP_SYS_ADMIN" };
    check("root", ok, detail.to_owned(), "Start the daemon as root of the host.")
}

fn kernel() -> Check {
    let release = rustix::system::uname().release().to_string_lossy().into_owned();
    let ok = version(&release).is_some_and(|version| version >= KERNEL);
    let hint = "Boot Linux 6.1 or newer: older ones are not meant to stack layers with mapped ids.";
    check("kernel", ok, format!("Linux {release}"), hint)
}

fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|character: char| !character.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

fn cgroup2() -> Check {
    let hint = "Mount it: mount -t cgroup2 none /sys/fs/cgroup";
    let (ok, detail) = match Layout::discover("stapes") {
        Ok(layout) => (true, format!("cgroup2 at {}", layout.unified.display())),
        Err(error) => (false, error.to_string()),
    };
    check("cgroup2", ok, detail, hint)
}

/// Limits need controllers; a guest runs without, but cannot be limited.
fn controllers() -> Check {
    let layout = Layout::discover("stapes").ok();
    let has = |name: &str| {
        layout.as_ref().is_some_and(|layout| {
            let legacy = layout.legacy.iter().flat_map(|hierarchy| &hierarchy.controllers);
            legacy.chain(&layout.unified_controllers).any(|one| one == name)
        })
    };
    let missing: Vec<&str> =
        ["memory", "cpu", "pids"].into_iter().filter(|name| !has(name)).collect();
    let detail = if missing.is_empty() {
        "memory, cpu and pids can be limited".to_owned()
    } else {
        format!("no controller for {}", missing.join(", "))
    };
    let hint = "Boot with cgroup_enable=memory, or a kernel with these controllers.";
    Check { required: false, ..check("controllers", missing.is_empty(), detail, hint) }
}

fn namespaces() -> Check {
    let missing: Vec<&str> = ["user", "mnt", "pid", "net", "ipc", "uts", "cgroup"]
        .into_iter()
        .filter(|name| !Path::new("/proc/self/ns").join(name).exists())
        .collect();
    let most = fs::read_to_string("/proc/sys/user/max_user_namespaces").unwrap_or_default();
    let none = most.trim() == "0";
    let detail = if none {
        "user namespaces are switched off".to_owned()
    } else if missing.is_empty() {
        "all namespaces".to_owned()
    } else {
        format!("no namespaces for {}", missing.join(", "))
    };
    let hint = "Allow them: sysctl user.max_user_namespaces=10000, or another kernel.";
    check("namespaces", missing.is_empty() && !none, detail, hint)
}

fn overlay() -> Check {
    let known = fs::read_to_string("/proc/filesystems").unwrap_or_default();
    let ok = known.lines().any(|line| line.trim_start_matches("nodev").trim() == "overlay");
    let detail = if ok { "overlayfs" } else { "overlayfs is not there (yet)" };
    let hint = "Load it: modprobe overlay. Without it pools of the plain kind work.";
    Check { required: false, ..check("overlay", ok, detail.to_owned(), hint) }
}

/// Both ways work; this one costs a mount namespace for a moment at each start.
fn layers() -> Check {
    let ok = stapes_shim::takes_descriptors();
    let detail = if ok {
        "overlays take their layers by descriptor"
    } else {
        "overlays are given their layers by path, which makes each start a little slower"
    };
    let hint = "Boot Linux 6.13 or newer for faster starts.";
    Check { required: false, ..check("layers", ok, detail.to_owned(), hint) }
}

fn tun() -> Check {
    let ok = Path::new("/dev/net/tun").exists();
    let detail = if ok { "/dev/net/tun" } else { "no /dev/net/tun: no VPN inside guests" };
    let hint = "Load it: modprobe tun";
    Check { required: false, ..check("tun", ok, detail.to_owned(), hint) }
}

/// Each systemd guest takes about five; guests have an account of their own, programs of the
/// host's root share this one.
fn inotify() -> Check {
    const ENOUGH: u64 = 128;
    let most = fs::read_to_string("/proc/sys/fs/inotify/max_user_instances").unwrap_or_default();
    let ok = most.trim().parse::<u64>().is_ok_and(|most| most >= ENOUGH);
    let detail = format!("{} inotify instances for each guest", most.trim());
    let hint = "Raise it: sysctl fs.inotify.max_user_instances=1024";
    Check { required: false, ..check("inotify", ok, detail, hint) }
}

/// Only that it is there: whether it knows this kernel is tried when a guest is to move.
fn criu() -> Check {
    let found = super::live::find_criu();
    let detail = match &found {
        Some(path) => format!("CRIU at {}", path.display()),
        None => "no CRIU: guests cannot move while they run".to_owned(),
    };
    let hint = "Install criu 4.2 or newer, or name one in STAPES_CRIU.";
    Check { required: false, ..check("criu", found.is_some(), detail, hint) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_of_kernels_are_compared_by_number() {
        assert_eq!(version("6.18.44-fc-v595"), Some((6, 18)));
        assert!(version("6.9.1") < version("6.13.0-rc1"));
        assert_eq!(version("unknown"), None);
    }

    #[test]
    fn every_check_says_something() {
        for check in preflight() {
            assert!(!check.detail.is_empty() && !check.hint.is_empty(), "{check:?}");
        }
    }
}
