//! How fast containers start, execute and stop here: `guest_bench [rounds] [rootfs]`.
//!
//! Needs root and, without a root file system given, a static busybox. Build the shim first:
//! `cargo build --release -p stapes-shim && cargo run --release --example guest_bench`.

#![expect(clippy::print_stdout, reason = "its output is what it is for")]

use std::{
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use stapes_core::port::{
    guest::{ExecSpec, Guests, Stop, laws},
    storage::RootLayers,
};
use stapes_drivers::guest::{Containers, ContainersConfig};
use stapes_shim::cgroup::Layout;

#[tokio::main]
async fn main() {
    let mut arguments = std::env::args().skip(1);
    let rounds = arguments.next().map_or(30, |text| text.parse().expect("rounds is a number"));
    let directory = tempfile::tempdir().expect("a temporary directory");
    use std::os::unix::fs::PermissionsExt as _;
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o711)).expect("chmod");
    let rootfs = arguments.next().map_or_else(|| busybox(directory.path()), PathBuf::from);
    let parent = format!("stapes-bench-{}", std::process::id());
    let shim = std::env::current_exe().expect("own path").ancestors().nth(2).map(Path::to_owned);
    let shim = shim.expect("target directory").join("stapes-shim");
    let config = ContainersConfig::new(directory.path().join("run"), shim, &parent);
    let guests = Containers::new(config).expect("this host can run containers");

    for (name, root) in roots(directory.path(), &rootfs) {
        println!("{name}");
        rounds_on(&guests, &parent, &root, rounds).await;
    }
    drop(guests);
    let layout = Layout::discover(&parent).expect("cgroups");
    while layout.shims().exists() {
        layout.retire();
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn roots(directory: &Path, rootfs: &Path) -> [(&'static str, RootLayers); 2] {
    let volume = directory.join("volume");
    for part in ["upper", "work"] {
        fs::create_dir_all(volume.join(part)).expect("make a volume");
    }
    let overlay = RootLayers::Overlay { lower: rootfs.to_owned(), volume };
    [("overlay", overlay), ("plain", RootLayers::Plain { root: rootfs.to_owned() })]
}

async fn rounds_on(guests: &Containers, parent: &str, root: &RootLayers, rounds: u32) {
    let spec = laws::plain_guest("bench");
    let (mut starts, mut execs, mut measures, mut stops) = (vec![], vec![], vec![], vec![]);
    for round in 0..rounds {
        starts.push(timed(guests.start(&spec, root)).await);
        for _ in 0..10 {
            execs.push(timed(run_true(guests, spec.instance)).await);
            measures.push(timed(guests.measure(spec.instance)).await);
        }
        if round == 0 {
            shim_memory(parent);
        }
        stops.push(timed(guests.stop(spec.instance, Stop::Force)).await);
    }
    for (name, times) in [
        ("start", &mut starts),
        ("exec true", &mut execs),
        ("measure", &mut measures),
        ("force stop", &mut stops),
    ] {
        report(name, times);
    }
}

async fn run_true(
    guests: &Containers,
    instance: stapes_core::ids::InstanceId,
) -> Result<i32, stapes_core::port::DriverError> {
    let spec = ExecSpec { command: vec!["true".to_owned()], ..ExecSpec::default() };
    guests.exec(instance, &spec).await?.control.wait().await
}

async fn timed<T, E: std::fmt::Debug>(what: impl Future<Output = Result<T, E>>) -> Duration {
    let began = Instant::now();
    what.await.expect("it works");
    began.elapsed()
}

fn report(name: &str, times: &mut [Duration]) {
    times.sort();
    let at = |part: f64| {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "an index below the length"
        )]
        let index = ((times.len() - 1) as f64 * part) as usize;
        times[index].as_secs_f64() * 1000.0
    };
    println!(
        "  {name:<10} p50 {:7.3}  min {:7.3}  p90 {:7.3}  max {:7.3} ms  ({})",
        at(0.5),
        at(0.0),
        at(0.9),
        at(1.0),
        times.len()
    );
}

fn shim_memory(parent: &str) {
    let layout = Layout::discover(parent).expect("cgroups");
    let pids = fs::read_to_string(layout.shims().join("cgroup.procs")).unwrap_or_default();
    let Some(pid) = pids.lines().next() else { return };
    let smaps = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
    let wanted = |line: &&str| {
        ["Rss:", "Pss:", "Private_Clean:", "Private_Dirty:"].iter().any(|key| line.starts_with(key))
    };
    let lines: Vec<String> = smaps
        .lines()
        .filter(wanted)
        .map(|line| line.split_whitespace().take(2).collect::<Vec<_>>().join(" "))
        .collect();
    println!("  shim       {} kB", lines.join(", "));
}

fn busybox(directory: &Path) -> PathBuf {
    let root = directory.join("rootfs");
    for part in ["bin", "sbin", "etc", "proc", "sys", "dev", "run"] {
        fs::create_dir_all(root.join(part)).expect("make a directory");
    }
    fs::copy("/bin/busybox", root.join("bin/busybox")).expect("busybox-static is installed");
    std::os::unix::fs::symlink("../bin/busybox", root.join("sbin/init")).expect("link init");
    for applet in ["true", "sh", "echo"] {
        std::os::unix::fs::symlink("busybox", root.join("bin").join(applet)).expect("link");
    }
    fs::write(root.join("etc/inittab"), "::respawn:-/bin/sh\n").expect("write inittab");
    root
}
