//! A corner of the host for one test: its own cgroups, records and roots, and nothing left of it
//! afterwards, also when the test fails.

use std::{
    fs,
    net::Ipv4Addr,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::Command,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU32, Ordering},
    },
};

use stapes_core::{
    port::{guest::laws, storage::RootLayers},
    spec::GuestSpec,
};
use stapes_drivers::guest::{Containers, ContainersConfig};
use stapes_shim::cgroup::Layout;
use tempfile::TempDir;

static NEXT: AtomicU32 = AtomicU32::new(0);

/// What a guest's root is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Plain,
    Overlay,
}

pub(crate) struct Host {
    pub(crate) directory: TempDir,
    pub(crate) parent: String,
    guests: u32,
    kind: Kind,
}

impl Host {
    pub(crate) fn new(kind: Kind) -> Self {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let parent = format!("stapes-test-{}-{number}", std::process::id());
        let directory = tempfile::tempdir().expect("a temporary directory");
        // Guests' ids must be able to walk to their roots.
        use std::os::unix::fs::PermissionsExt as _;
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o711)).expect("chmod");
        Self { directory, parent, guests: 0, kind }
    }

    pub(crate) fn config(&self) -> ContainersConfig {
        let mut config = ContainersConfig::new(self.run_dir(), shim(), &self.parent);
        // As on kernels before 6.13: STAPES_LAYERS_BY_PATH=1 cargo test ...
        config.layers_by_path = std::env::var_os("STAPES_LAYERS_BY_PATH").is_some();
        config
    }

    pub(crate) fn run_dir(&self) -> PathBuf {
        self.directory.path().join("run")
    }

    pub(crate) fn driver(&self) -> Arc<Containers> {
        Arc::new(Containers::new(self.config()).expect("this host can run containers"))
    }

    /// A guest of busybox.
    pub(crate) fn busybox(&mut self) -> (GuestSpec, RootLayers) {
        let root = self.directory.path().join("busybox");
        if !root.exists() {
            busybox_root(&root);
        }
        self.guest_on(&root)
    }

    /// A guest whose root is (on) this tree.
    pub(crate) fn guest_on(&mut self, root: &Path) -> (GuestSpec, RootLayers) {
        self.guests += 1;
        let mut spec = laws::plain_guest(&format!("{}-{}", self.parent, self.guests));
        spec.hostname = format!("guest{}", self.guests);
        spec.idmap.base += self.guests * 65536;
        let layers = match self.kind {
            Kind::Plain => RootLayers::Plain { root: root.to_owned() },
            Kind::Overlay => {
                let volume = self.directory.path().join(format!("volume{}", self.guests));
                for part in [stapes_shim::spec::UPPER, stapes_shim::spec::WORK] {
                    fs::create_dir_all(volume.join(part)).expect("make a volume");
                }
                RootLayers::Overlay { lower: root.to_owned(), volume }
            }
        };
        (spec, layers)
    }

    /// What of ours is on the host: nothing, when no guest runs.
    pub(crate) fn leftovers(&self) -> Vec<String> {
        let mut found = Vec::new();
        let layout = Layout::discover(&self.parent).expect("cgroups");
        found.extend(
            layout.groups().unwrap_or_default().into_iter().map(|one| format!("cgroup {one}")),
        );
        let ours = self.directory.path().to_string_lossy().into_owned();
        let mounts = fs::read_to_string("/proc/self/mountinfo").expect("mountinfo");
        found.extend(mounts.lines().filter(|line| line.contains(&ours)).map(str::to_owned));
        found
    }

    /// The pids of our shims.
    pub(crate) fn shims(&self) -> Vec<i32> {
        let layout = Layout::discover(&self.parent).expect("cgroups");
        let procs = fs::read_to_string(layout.shims().join("cgroup.procs")).unwrap_or_default();
        procs.lines().filter_map(|line| line.parse().ok()).collect()
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        let Ok(layout) = Layout::discover(&self.parent) else { return };
        for name in layout.groups().unwrap_or_default() {
            let _ = layout.group(&name).destroy();
        }
        let _ = fs::write(layout.shims().join("cgroup.kill"), "1");
        // Dying takes the kernel a moment.
        for _ in 0..1000 {
            layout.retire();
            if !layout.shims().exists() {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
    }
}

/// The program, built once.
pub(crate) fn shim() -> PathBuf {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT
        .get_or_init(|| {
            if let Some(path) = std::env::var_os("STAPES_SHIM") {
                return path.into();
            }
            let built = Command::new(env!("CARGO"))
                .args(["build", "-q", "-p", "stapes-shim"])
                .status()
                .expect("cargo runs");
            assert!(built.success(), "the shim is built");
            let test = std::env::current_exe().expect("the test's path");
            // target/debug/deps/guest-…
            test.ancestors().nth(2).expect("target directory").join("stapes-shim")
        })
        .clone()
}

/// Whether guests can be checkpointed: `scenarios/lib/criu.sh` offers what it takes.
pub(crate) fn has_criu() -> bool {
    std::env::var_os("STAPES_CRIU").is_some()
        || Command::new("criu").arg("--version").output().is_ok_and(|said| said.status.success())
}

fn busybox_root(root: &Path) {
    for directory in ["bin", "sbin", "etc", "proc", "sys", "dev", "run", "tmp", "root"] {
        fs::create_dir_all(root.join(directory)).expect("make a directory");
    }
    fs::copy("/bin/busybox", root.join("bin/busybox")).expect("busybox-static is installed");
    let applets = Command::new("/bin/busybox").arg("--list").output().expect("busybox runs");
    for applet in String::from_utf8_lossy(&applets.stdout).lines() {
        if applet != "busybox" {
            symlink("busybox", root.join("bin").join(applet)).expect("link an applet");
        }
    }
    symlink("../bin/busybox", root.join("sbin/init")).expect("link init");
    let inittab = "::sysinit:/bin/echo guest is up\n\
                   ::respawn:-/bin/sh\n\
                   ::ctrlaltdel:/bin/reboot\n";
    fs::write(root.join("etc/inittab"), inittab).expect("write inittab");
    fs::write(root.join("etc/passwd"), "root:x:0:0:root:/root:/bin/sh\n").expect("write passwd");
}

/// A bridge of the test's own.
pub(crate) struct Bridge {
    pub(crate) name: String,
    /// The name of an interface that a guest may have on the host.
    pub(crate) port: String,
    number: u32,
}

impl Bridge {
    pub(crate) fn new() -> Self {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let tag = std::process::id() % 100_000;
        let bridge =
            Self { name: format!("sgb{tag}-{number}"), port: format!("sgv{tag}-{number}"), number };
        ip(&["link", "add", &bridge.name, "type", "bridge"]);
        ip(&["link", "set", &bridge.name, "up"]);
        bridge
    }

    /// One on which the host has the first address.
    pub(crate) fn with_address() -> Self {
        let bridge = Self::new();
        ip(&["addr", "add", &format!("{}/24", bridge.address(1)), "dev", &bridge.name]);
        bridge
    }

    /// One of its addresses, of the range for tests of networks (RFC 2544).
    pub(crate) fn address(&self, host: u8) -> Ipv4Addr {
        let network = (std::process::id() + self.number) % 250;
        Ipv4Addr::new(198, 18, u8::try_from(network).unwrap_or(0), host)
    }
}

impl Drop for Bridge {
    fn drop(&mut self) {
        ip(&["link", "del", &self.name]);
    }
}

fn ip(arguments: &[&str]) {
    let status = Command::new("ip").args(arguments).status().expect("iproute2 is installed");
    assert!(status.success() || std::thread::panicking(), "ip {arguments:?}");
}
