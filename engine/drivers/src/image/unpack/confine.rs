//! The walls around the helper, put up in this order, each of which would do alone:
//!
//! 1. own mount, network, pid, ipc and uts namespaces, and a root that is an empty tmpfs;
//! 2. no capabilities but the five that giving files their owners takes, and none to gain;
//! 3. ceilings on memory, CPU time, file size and open files;
//! 4. Landlock: nothing may be opened but what is below the target;
//! 5. seccomp: a list of allowed system calls; no sockets, no mounts, no devices.
//!
//! Without root the namespaces come from a user namespace; where that is forbidden the others remain.

use std::{
    os::fd::{BorrowedFd, OwnedFd},
    path::{Path, PathBuf},
};

use rustix::{
    fs::{CWD, Mode},
    mount::{MountFlags, MountPropagationFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags},
    process::{Resource, Rlimit, setrlimit},
    thread::{CapabilitySet, CapabilitySets, UnshareFlags},
};

use super::super::{
    job::{Confinement, Owners},
    limits::Limits,
    refusal::Refusal,
};

/// Where the new root is put together: any directory that every host has.
const STAGE: &str = "/usr";
const OPEN_FILES_MAX: u64 = 512;
/// Programs and their libraries, for `unsquashfs`.
const PROGRAM_DIRS: [&str; 5] = ["/usr", "/bin", "/sbin", "/lib", "/lib64"];
pub(super) const TARGET: &str = "/target";
pub(super) const BLOB: &str = "/blob";

/// What a program that runs inside needs to see; the tar path needs nothing.
#[derive(Debug)]
pub(super) struct Visible {
    pub(super) target: Option<PathBuf>,
    pub(super) blob: PathBuf,
}

fn unconfined(doing: &str) -> impl FnOnce(rustix::io::Errno) -> Refusal {
    move |error| Refusal::Unconfined { why: format!("{doing}: {error}") }
}

/// Leaves the host's namespaces. The caller forks afterwards to be in the new pid namespace.
/// `false` where an unprivileged user may not.
pub(super) fn leave_namespaces() -> Result<bool, Refusal> {
    let flags = UnshareFlags::NEWNS
        | UnshareFlags::NEWNET
        | UnshareFlags::NEWPID
        | UnshareFlags::NEWIPC
        | UnshareFlags::NEWUTS;
    // SAFETY: no CLONE_FILES and no other thread yet, so no descriptor changes under anybody.
    let unshare = |flags| unsafe { rustix::thread::unshare_unsafe(flags) };
    if rustix::process::geteuid().is_root() {
        unshare(flags).map_err(unconfined("leave the host's namespaces"))?;
        return Ok(true);
    }
    let (uid, gid) = (rustix::process::geteuid(), rustix::process::getegid());
    if unshare(flags | UnshareFlags::NEWUSER).is_err() {
        return Ok(false);
    }
    let map = |file: &str, text: String| {
        std::fs::write(file, text)
            .map_err(|error| Refusal::Unconfined { why: format!("write {file}: {error}") })
    };
    map("/proc/self/setgroups", "deny".into())?;
    map("/proc/self/uid_map", format!("{uid} {uid} 1"))?;
    map("/proc/self/gid_map", format!("{gid} {gid} 1"))?;
    Ok(true)
}

/// Makes an empty file system the root; with `visible`, programs (read-only), target and blob in it.
pub(super) fn empty_root(visible: Option<&Visible>) -> Result<(), Refusal> {
    use rustix::mount::{mount, mount_change, open_tree, unmount};
    mount_change("/", MountPropagationFlags::REC | MountPropagationFlags::PRIVATE)
        .map_err(unconfined("make mounts private"))?;
    let clone = |path: &Path| -> Result<OwnedFd, Refusal> {
        let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
        open_tree(CWD, path, flags).map_err(unconfined(&format!("clone {}", path.display())))
    };
    // All clones come before the stage hides what it is mounted on.
    let mut binds = Vec::new();
    let mut links = Vec::new();
    if let Some(visible) = visible {
        for directory in PROGRAM_DIRS.map(Path::new) {
            match std::fs::read_link(directory) {
                Ok(to) => links.push((directory, to)),
                Err(_) if directory.is_dir() => binds.push((clone(directory)?, directory, true)),
                Err(_) => {}
            }
        }
        binds.push((clone(&visible.blob)?, Path::new(BLOB), true));
        if let Some(target) = &visible.target {
            binds.push((clone(target)?, Path::new(TARGET), false));
        }
    }
    let flags = MountFlags::NOSUID | MountFlags::NODEV;
    mount("stapes", STAGE, "tmpfs", flags, c"size=64k,nr_inodes=64,mode=755")
        .map_err(unconfined("mount an empty root"))?;
    rustix::process::chdir(STAGE).map_err(unconfined("enter the empty root"))?;
    for (tree, path, read_only) in binds {
        bind(&tree, path, read_only)?;
    }
    for (link, to) in links {
        rustix::fs::symlink(&to, below_stage(link)).map_err(unconfined("link a directory"))?;
    }
    rustix::process::pivot_root(".", ".").map_err(unconfined("enter the empty root"))?;
    unmount(".", UnmountFlags::DETACH).map_err(unconfined("leave the host's files"))?;
    rustix::process::chdir("/").map_err(unconfined("enter the empty root"))?;
    rustix::mount::mount_remount(
        "/",
        MountFlags::RDONLY | MountFlags::NOSUID | MountFlags::NODEV,
        c"",
    )
    .map_err(unconfined("seal the root"))
}

fn below_stage(path: &Path) -> PathBuf {
    path.strip_prefix("/").unwrap_or(path).to_path_buf()
}

fn bind(tree: &OwnedFd, path: &Path, read_only: bool) -> Result<(), Refusal> {
    let at = below_stage(path);
    if path == Path::new(BLOB) {
        let flags = rustix::fs::OFlags::CREATE | rustix::fs::OFlags::WRONLY;
        rustix::fs::open(&at, flags, Mode::from_raw_mode(0o400))
            .map_err(unconfined("make a mount point"))?;
    } else {
        rustix::fs::mkdir(&at, Mode::from_raw_mode(0o700))
            .map_err(unconfined("make a mount point"))?;
    }
    rustix::mount::move_mount(tree, "", CWD, &at, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
        .map_err(unconfined("show a directory"))?;
    if read_only {
        let flags = MountFlags::BIND | MountFlags::RDONLY | MountFlags::NOSUID | MountFlags::NODEV;
        let sealed = rustix::mount::mount_remount(&at, flags, c"");
        // In a user namespace the host's own flags are locked, and its files are not ours to write.
        if rustix::process::geteuid().is_root() {
            sealed.map_err(unconfined("seal a directory"))?;
        }
    }
    Ok(())
}

/// Ceilings; the hard ones, since the first process of a pid namespace ignores what warns.
pub(super) fn set_ceilings(limits: &Limits) -> Result<(), Refusal> {
    let ceilings = [
        (Resource::As, limits.memory_bytes),
        (Resource::Cpu, limits.cpu_seconds),
        (Resource::Fsize, limits.unpacked_bytes),
        (Resource::Nofile, OPEN_FILES_MAX),
        (Resource::Core, 0),
    ];
    for (resource, ceiling) in ceilings {
        // Never above what we were given.
        let given = rustix::process::getrlimit(resource).maximum.unwrap_or(u64::MAX);
        let both = Some(ceiling.min(given));
        setrlimit(resource, Rlimit { current: both, maximum: both })
            .map_err(unconfined(&format!("limit {resource:?}")))?;
    }
    Ok(())
}

/// Keeps only what giving files their owners, modes and capabilities takes.
pub(super) fn drop_capabilities(owners: Owners) -> Result<(), Refusal> {
    let kept = match owners {
        Owners::Keep | Owners::Everything => {
            CapabilitySet::CHOWN
                | CapabilitySet::DAC_OVERRIDE
                | CapabilitySet::FOWNER
                | CapabilitySet::FSETID
                | CapabilitySet::SETFCAP
        }
        Owners::Mine => CapabilitySet::empty(),
    };
    rustix::thread::set_no_new_privs(true).map_err(unconfined("forbid new privileges"))?;
    rustix::thread::clear_ambient_capability_set().map_err(unconfined("drop capabilities"))?;
    let held = rustix::thread::capabilities(None).map_err(unconfined("read capabilities"))?;
    if held.effective.contains(CapabilitySet::SETPCAP) {
        for bit in 0..64 {
            let one = CapabilitySet::from_bits_retain(1 << bit);
            // The kernel answers EINVAL beyond the last one that it knows.
            if !kept.contains(one)
                && rustix::thread::remove_capability_from_bounding_set(one).is_err()
            {
                break;
            }
        }
    }
    let kept = kept & held.permitted;
    let sets =
        CapabilitySets { effective: kept, permitted: kept, inheritable: CapabilitySet::empty() };
    rustix::thread::set_capabilities(None, sets).map_err(unconfined("drop capabilities"))
}

/// `false` where the kernel has no Landlock, or one (before 5.19) under which no hard link could be
/// made between directories.
pub(super) fn landlock(target: Option<BorrowedFd<'_>>, programs: bool) -> Result<bool, Refusal> {
    use landlock::{
        ABI, Access, AccessFs, AccessNet, CompatLevel, Compatible, PathBeneath, PathFd, Ruleset,
        RulesetAttr, RulesetCreatedAttr, RulesetStatus, Scope,
    };
    let act = || -> Result<bool, landlock::RulesetError> {
        let required = Ruleset::default()
            .set_compatibility(CompatLevel::HardRequirement)
            .handle_access(AccessFs::from_all(ABI::V2));
        let Ok(ruleset) = required else { return Ok(false) };
        let mut ruleset = ruleset
            .set_compatibility(CompatLevel::BestEffort)
            .handle_access(AccessFs::from_all(ABI::V5))?
            .handle_access(AccessNet::from_all(ABI::V5))?
            .scope(Scope::from_all(ABI::V6))?
            .create()?;
        if let Some(target) = target {
            ruleset = ruleset.add_rule(PathBeneath::new(target, AccessFs::from_all(ABI::V5)))?;
        }
        if programs {
            for directory in PROGRAM_DIRS.iter().filter_map(|path| PathFd::new(path).ok()) {
                let access = AccessFs::ReadFile | AccessFs::ReadDir | AccessFs::Execute;
                ruleset = ruleset.add_rule(PathBeneath::new(directory, access))?;
            }
            if let Ok(blob) = PathFd::new(BLOB) {
                ruleset = ruleset.add_rule(PathBeneath::new(blob, AccessFs::ReadFile))?;
            }
        }
        Ok(ruleset.restrict_self()?.ruleset != RulesetStatus::NotEnforced)
    };
    act().map_err(|error| Refusal::Unconfined { why: format!("landlock: {error}") })
}

/// As root every wall but Landlock must stand; without root, Landlock or the namespaces must.
pub(super) fn judge(confinement: Confinement) -> Result<Confinement, Refusal> {
    let enough = confinement.seccomp && (confinement.namespaces || confinement.landlock);
    if enough {
        Ok(confinement)
    } else {
        let why = "this kernel gives neither user namespaces nor Landlock".into();
        Err(Refusal::Unconfined { why })
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, os::fd::AsFd};

    /// Landlock and seccomp bind the thread that asks for them, so a thread of its own shows what
    /// the helper's walls do.
    #[test]
    fn landlock_denies_all_but_the_target() {
        let target = tempfile::tempdir().unwrap();
        let other = tempfile::tempdir().unwrap();
        fs::write(other.path().join("secret"), "secret").unwrap();
        let inside = target.path().to_path_buf();
        let walled = std::thread::spawn(move || {
            let directory = fs::File::open(&inside).unwrap();
            if !super::landlock(Some(directory.as_fd()), false).unwrap() {
                // This kernel has none, and the helper says so.
                return;
            }
            let denied = |result: std::io::Result<()>| {
                assert_eq!(result.unwrap_err().kind(), std::io::ErrorKind::PermissionDenied);
            };
            denied(fs::read(other.path().join("secret")).map(drop));
            denied(fs::write(other.path().join("new"), "x"));
            denied(fs::read("/etc/passwd").map(drop));
            denied(fs::remove_file(other.path().join("secret")));
            fs::write(inside.join("a"), "x").unwrap();
            fs::create_dir(inside.join("d")).unwrap();
            fs::hard_link(inside.join("a"), inside.join("d/b")).unwrap();
            std::os::unix::fs::symlink(other.path().join("secret"), inside.join("out")).unwrap();
            denied(fs::read(inside.join("out")).map(drop));
        });
        walled.join().unwrap();
    }
}
