//! What this machine and the daemon need: looked at from here, and by the daemon where it does so.

use std::path::Path;

use serde_json::{Value, json};
use stapes_api::wire::server::Server;

use crate::{
    args::server::DoctorArgs,
    commands::{image::build::is_root, items, text},
    exit::ExitStatus,
    failure::Result,
    output::Listing,
    session::Session,
};

/// A program that a feature needs, and the package that has it.
const PROGRAMS: [(&str, &str, &str); 4] = [
    ("mkfs.btrfs", "btrfs-progs", "btrfs pools"),
    ("mmdebstrap", "mmdebstrap", "stapes image build debian/13"),
    ("unsquashfs", "squashfs-tools", "split images"),
    ("qemu-system-x86_64", "qemu-system-x86", "virtual machines"),
];

/// Fails when a check does; a warning only takes something away.
pub(crate) async fn run(session: &Session, args: DoctorArgs) -> Result<ExitStatus> {
    let mut checks = here();
    checks.push(daemon(session).await);
    if let Ok(answer) = session.client.get::<Value>("/1.0/doctor").await {
        checks.extend(items(answer.get("checks").cloned().unwrap_or(answer)));
    }
    let mut listing = Listing::new(&["Check", "Result", "Found", "Fix"]);
    let mut failed = false;
    for check in checks {
        let result = text(&check, "status");
        failed |= result == "fail";
        let row = vec![text(&check, "name"), result, text(&check, "detail"), text(&check, "fix")];
        listing.push(row, check);
    }
    session.printer.listing(args.format.format, &listing)?;
    Ok(if failed { ExitStatus::Failed } else { ExitStatus::Done })
}

fn check(name: &str, ok: bool, otherwise: &str, detail: &str, fix: &str) -> Value {
    let (status, fix) = if ok { ("ok", "") } else { (otherwise, fix) };
    json!({ "name": name, "status": status, "detail": detail, "fix": fix })
}

async fn daemon(session: &Session) -> Value {
    let socket = session.settings.socket().display().to_string();
    match session.client.get::<Server>("/1.0").await {
        Ok(server) => {
            let detail = format!("version {} at {socket}", server.environment.server_version);
            check("daemon", true, "fail", &detail, "")
        }
        Err(_) => check("daemon", false, "fail", &format!("nobody at {socket}"), "stapes daemon"),
    }
}

fn here() -> Vec<Value> {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let release = read("/proc/sys/kernel/osrelease");
    let mut checks = vec![
        check("kernel", recent(&release), "fail", release.trim(), "Linux 6.6 or newer"),
        check("root", is_root(), "warn", "the daemon needs it", "sudo stapes daemon"),
        there(
            "cgroup v2",
            "/sys/fs/cgroup/cgroup.controllers",
            "systemd.unified_cgroup_hierarchy=1",
        ),
        there("user namespaces", "/proc/self/ns/user", "CONFIG_USER_NS=y"),
        there("kvm", "/dev/kvm", "virtualisation in the firmware; without it VMs are slow"),
    ];
    let path = std::env::var_os("PATH").unwrap_or_default();
    for (program, package, use_of) in PROGRAMS {
        let found = std::env::split_paths(&path).any(|dir| dir.join(program).is_file());
        let fix = format!("apt-get install {package}");
        checks.push(check(program, found, "warn", &format!("for {use_of}"), &fix));
    }
    checks
}

fn there(name: &str, path: &str, fix: &str) -> Value {
    check(name, Path::new(path).exists(), "warn", path, fix)
}

/// Idmapped overlay layers and all that the runtime stands on.
fn recent(release: &str) -> bool {
    let mut numbers = release.split(['.', '-']).map_while(|part| part.trim().parse::<u32>().ok());
    (numbers.next(), numbers.next()) >= (Some(6), Some(6))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernels_are_told_apart() {
        assert!(recent("6.18.0-generic\n") && recent("6.6.1") && recent("7.0-rc1"));
        assert!(!recent("5.15.0") && !recent("6.5.9") && !recent(""));
    }
}
