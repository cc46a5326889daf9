//! Making a guest again from files.

use std::{
    fs::File,
    os::fd::{AsFd as _, OwnedFd},
    path::Path,
};

use nix::libc;
use rustix::event::{PollFd, PollFlags, poll};

use super::{
    criu::{self, Arguments, Criu},
    held::Hold,
    kept::{self, Kept},
    ports,
    rendezvous::{self, Said},
    stage::{self, Stage},
};
use crate::{
    cgroup::Group,
    fault::{Doing as _, Fault, Result},
    record,
    spec::{Ids, Restore, Spec},
    start::{self, Started},
    sys::{
        keep_on_exec, mount,
        process::{self, Forked},
        terminal::{self, Terminal},
    },
};

const LOG: &str = "restore.log";
const WORDS: &str = "restore the guest";

/// A guest that is there again, and stands still.
pub(crate) struct Restored {
    pub(crate) guest: Started,
    pub(crate) console: Terminal,
    /// What the console showed.
    pub(crate) shown: Vec<u8>,
    pub(crate) started_at_us: i64,
    pub(crate) hold: Hold,
}

/// Makes it. On an error nothing of it is left.
pub(crate) fn restore(spec: &Spec, from: &Restore, directory: &OwnedFd) -> Result<Restored> {
    let group = spec.cgroups.group(&spec.instance);
    restore_in(spec, from, directory, &group).inspect_err(|_| {
        // The error that is told is the first one; the driver cleans up once more.
        let _ = group.destroy();
        ports::remove(&spec.nics);
    })
}

fn restore_in(
    spec: &Spec,
    from: &Restore,
    directory: &OwnedFd,
    group: &Group<'_>,
) -> Result<Restored> {
    let kept = Kept::read(&from.images).doing(WORDS)?;
    let kept = kept.ok_or_else(|| Fault::because(WORDS, "there is no checkpoint"))?;
    let (Some(ids), None) = (spec.ids, kept.mismatch(&spec.instance, spec.ids)) else {
        let why = kept.mismatch(&spec.instance, spec.ids);
        return Err(Fault::because(WORDS, why.as_deref().unwrap_or("it is privileged")));
    };
    group.create(ids.base, &spec.limits)?;
    group.make_kept(ids.base, &kept.cgroups).doing("make the guest's cgroups")?;
    ports::make(&spec.nics)?;
    let scene = Scene::set(spec, from, directory, ids, &kept)?;
    let leaf = group.helper_leaf().doing("make a cgroup for CRIU")?;
    let said = rendezvous::open(directory).doing(WORDS)?;
    // Should this shim be killed, CRIU could not finish: init would be another's child. It ends, and
    // what it has made ends with the guest's cgroup; at the source the guest is held still.
    let criu = criu::spawn(&scene.arguments, &scene.records, leaf.as_fd(), || {
        die_with_parent();
        keep_on_exec(scene.console.slave.as_fd()).doing("hand the console over")?;
        scene.stage.raise()
    })?;
    let pid = await_restored(&criu, &said, &from.images.join(LOG)).inspect_err(|_| {
        let _ = process::signal(criu.pidfd.as_fd(), libc::SIGKILL);
        let _ = process::reap(criu.pidfd.as_fd());
    })?;
    let guest = started(pid, group, &scene.console, scene.terminals)?;
    let hold = Hold::restored(from.images.clone(), said, criu);
    hold.write(directory)?;
    let shown = std::fs::read(from.images.join(kept::CONSOLE)).unwrap_or_default();
    let (console, started_at_us) = (scene.console, kept.started_at_us);
    Ok(Restored { guest, console, shown, started_at_us, hold })
}

/// All that CRIU is given.
struct Scene {
    stage: Stage,
    arguments: Arguments,
    console: Terminal,
    terminals: OwnedFd,
    records: std::path::PathBuf,
}

impl Scene {
    fn set(
        spec: &Spec,
        from: &Restore,
        directory: &OwnedFd,
        ids: Ids,
        kept: &Kept,
    ) -> Result<Self> {
        let records = record::path(directory).doing(WORDS)?;
        let namespace = user_namespace(ids).doing("map the guest's ids")?;
        let mut stage = Stage::new(&[&from.criu, &records])?;
        let images = mount::clone_of(&from.images, false).doing("open the checkpoint")?;
        stage::lend(File::open(&from.images).doing(WORDS)?.as_fd(), ids.base)
            .doing("lend the checkpoint to the guest")?;
        let images = stage.put("images", images);
        let mut arguments = Arguments::new(&from.criu, "restore", &images).doing(WORDS)?;
        let mut external = |key: &str, place: &Path| {
            arguments.pair("--external", format!("mnt[{key}]:{}", place.display())).doing(WORDS)
        };
        let devices = start::make_devices(ids, &kept.devices)?;
        external("dev", &stage.put("dev", devices))?;
        let terminals = start::make_terminals()?;
        let console = terminal::open(terminals.as_fd()).doing("open a terminal")?;
        terminal::give_to(console.slave.as_fd(), ids.base, ids.base).doing("own the console")?;
        let ids = Some(namespace.as_fd());
        for disk in kept.disks.iter().enumerate() {
            let (number, name) = disk;
            let ours = spec.disks.iter().find(|disk| disk.name == *name);
            let ours = ours.ok_or_else(|| {
                Fault::because(WORDS, &format!("disk {name} is not there any more"))
            })?;
            let mount = start::open_disk(ours, ids)?;
            external(&format!("disk{number}"), &stage.put(&format!("disk{number}"), mount))?;
        }
        let root = stage.put("root", start::make_root(spec, ids)?);
        finish(&mut arguments, spec, kept, &root, &console).doing(WORDS)?;
        Ok(Self { stage, arguments, console, terminals, records })
    }
}

fn finish(
    arguments: &mut Arguments,
    spec: &Spec,
    kept: &Kept,
    root: &Path,
    console: &Terminal,
) -> std::io::Result<()> {
    use std::os::fd::AsRawFd as _;
    arguments.pair("--root", root.as_os_str().to_owned())?;
    arguments.pair("--log-file", LOG)?;
    for word in ["--restore-detached", "--restore-sibling", "--mntns-compat-mode"] {
        arguments.add(word)?;
    }
    let terminal = format!("fd[{}]:{}", console.slave.as_raw_fd(), kept.console);
    arguments.pair("--inherit-fd", terminal)?;
    for nic in &spec.nics {
        let peer = ports::peer_name(nic);
        arguments.pair("--external", format!("netdev[{}]:{peer}", nic.name))?;
    }
    if kept.cgroup_parent != spec.cgroups.parent {
        for (controller, path) in spec.cgroups.roots(&spec.instance) {
            arguments.pair("--cgroup-root", format!("{controller}:{path}"))?;
        }
    }
    Ok(())
}

/// A user namespace with the guest's ids, to map the ids of mounts: the guest's own is made by
/// CRIU, later. It lives as long as this descriptor and the mounts.
fn user_namespace(ids: Ids) -> std::io::Result<OwnedFd> {
    match process::fork_here(libc::CLONE_NEWUSER)? {
        Forked::Child => {
            die_with_parent();
            loop {
                // SAFETY: a plain call; it ends by the signal that ends the process.
                unsafe { libc::pause() };
            }
        }
        Forked::Parent { pid, pidfd } => {
            let map = format!("0 {} {}", ids.base, ids.size);
            let namespace = ["uid_map", "gid_map"]
                .iter()
                .try_for_each(|name| std::fs::write(format!("/proc/{pid}/{name}"), &map))
                .and_then(|()| process::user_namespace(pidfd.as_fd(), pid));
            let _ = process::signal(pidfd.as_fd(), libc::SIGKILL);
            let _ = rustix::process::waitid(
                rustix::process::WaitId::PidFd(pidfd.as_fd()),
                rustix::process::WaitIdOptions::EXITED,
            );
            namespace
        }
    }
}

fn die_with_parent() {
    // SAFETY: a plain call with numbers.
    unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
}

/// Waits until everything is made again, or CRIU has given up. Whoever does not want to wait so
/// long kills this shim, and CRIU with it.
fn await_restored(criu: &Criu, said: &OwnedFd, log: &Path) -> Result<i32> {
    loop {
        let mut fds = [
            PollFd::from_borrowed_fd(said.as_fd(), PollFlags::IN),
            PollFd::from_borrowed_fd(criu.pidfd.as_fd(), PollFlags::IN),
        ];
        // An error is an interruption: nothing is ready then.
        let _ = poll(&mut fds, None);
        let ended = !fds[1].revents().is_empty();
        for word in rendezvous::hear(said) {
            if let Said::Restored { pid } = word {
                return Ok(pid);
            }
        }
        if ended {
            return Err(criu::complaint(WORDS, log));
        }
    }
}

/// The guest as any other that this shim started: CRIU has made its init a child of ours.
fn started(pid: i32, group: &Group<'_>, console: &Terminal, home: OwnedFd) -> Result<Started> {
    let number = rustix::process::Pid::from_raw(pid)
        .ok_or_else(|| Fault::because(WORDS, "CRIU did not say which process is its init"))?;
    let pidfd = rustix::process::pidfd_open(number, rustix::process::PidfdFlags::empty())
        .doing("find the guest's init")?;
    let root = File::open(format!("/proc/{pid}/root")).doing("open the guest's root")?;
    let flags = libc::O_RDONLY | libc::O_DIRECTORY;
    let devpts = crate::sys::open_inside(root.as_fd(), c"dev/pts", flags, false)
        .doing("open the guest's terminals")?;
    let doors = group.doors()?;
    let own_clocks = process::has_own_clocks(pid).doing("look at the guest's clocks")?;
    let console = terminal::name(console).doing("look at the console")?;
    let (console_home, problems) = (Some(home), Vec::new());
    let root = None;
    Ok(Started { pid, pidfd, devpts, console, console_home, own_clocks, doors, root, problems })
}
