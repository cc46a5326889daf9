//! Writing a guest into files.

use std::{
    fs::File,
    io::Write as _,
    os::fd::AsFd as _,
    path::{Path, PathBuf},
};

use super::{
    Subject,
    criu::{self, Arguments},
    held::{DUMP_LOG, Hold},
    kept::{self, Kept},
    rendezvous, stage,
};
use crate::{
    exec,
    fault::{Doing as _, Fault, Result},
    record,
    spec::Spec,
    start::{self, Started},
};

/// Seconds that CRIU tries to stop every process: one in the middle of a vfork stops later.
const COLLECT_SECONDS: &str = "2";

/// Where programs have directories watched, the likely ones first; what is not among them cannot move.
const WATCHED: [&str; 12] = [
    "/etc",
    "/usr/share/dbus-1",
    "/usr/share/zoneinfo",
    "/var/spool",
    "/var/log",
    "/root",
    "/home",
    "/srv",
    "/opt",
    "/var/www",
    "/usr/local",
    "/var/lib",
];

/// Begins it; the rest is told to the [`Hold`]. On an error the guest runs on.
pub(crate) fn begin(subject: &Subject<'_>, program: &Path, images: PathBuf) -> Result<Hold> {
    let Subject { spec, directory, guest, .. } = *subject;
    let words = "checkpoint the guest";
    let said = rendezvous::open(directory).doing(words)?;
    let records = record::path(directory).doing(words)?;
    let arguments = arguments(spec, guest, program, &images).doing(words)?;
    let shims = subject.shims()?;
    let prepared = subject.unplug_console().and_then(|()| {
        // The shim's children are born in the guest, and CRIU must not be.
        exec::leave_for_children()?;
        let criu = criu::spawn(&arguments, &records, shims.as_fd(), stage::leave_mounts);
        exec::enter_for_children(guest.pidfd.as_fd())?;
        criu
    });
    let hold = prepared.map(|criu| Hold::dumping(images, said, criu)).and_then(|hold| {
        hold.write(directory)?;
        Ok(hold)
    });
    hold.inspect_err(|_| {
        // The first error is told.
        let _ = subject.open();
        Hold::forget(directory);
    })
}

fn arguments(
    spec: &Spec,
    guest: &Started,
    program: &Path,
    images: &Path,
) -> std::io::Result<Arguments> {
    let mut arguments = Arguments::new(program, "dump", images)?;
    arguments.pair("--tree", guest.pid.to_string())?;
    arguments.pair("--timeout", COLLECT_SECONDS)?;
    arguments.pair("--log-file", DUMP_LOG)?;
    arguments.pair("--external", "mnt[/dev]:dev")?;
    arguments.pair("--external", guest.console.clone())?;
    // What inotify watches on an overlay is looked for by name: overlays know no handles. Restored,
    // systemd's watch of /etc/localtime is on what that is a link to.
    for place in WATCHED {
        arguments.pair("--irmap-scan-path", place)?;
    }
    for (number, disk) in spec.disks.iter().enumerate() {
        let path = disk.path.display();
        arguments.pair("--external", format!("mnt[{path}]:disk{number}"))?;
    }
    Ok(arguments)
}

/// Writes beside CRIU's files what CRIU does not know. The guest stands still.
pub(crate) fn keep(
    subject: &Subject<'_>,
    started_at_us: i64,
    console: impl FnOnce(&mut File) -> std::io::Result<()>,
    images: &Path,
) -> Result<()> {
    let Subject { spec, guest, .. } = *subject;
    let words = "write what goes along with the guest";
    let base = spec.root_id();
    let group = spec.cgroups.group(&spec.instance);
    let root = File::open(format!("/proc/{}/root", guest.pid)).doing(words)?;
    let kept = Kept {
        version: kept::VERSION,
        instance: spec.instance.clone(),
        ids: spec.ids,
        started_at_us,
        console: guest.console.clone(),
        nics: spec.nics.iter().map(|nic| nic.name.clone()).collect(),
        disks: spec.disks.iter().map(|disk| disk.name.clone()).collect(),
        cgroup_parent: spec.cgroups.parent.clone(),
        cgroups: group.kept(base).doing(words)?,
        devices: start::keep_devices(root.as_fd(), base).doing(words)?,
    };
    let directory = File::open(images).doing(words)?;
    kept.write(&directory).doing(words)?;
    let mut shown = File::create(images.join(kept::CONSOLE)).doing(words)?;
    console(&mut shown).and_then(|()| shown.flush()).doing(words)
}

/// Why this guest cannot be written into files, whatever CRIU can do.
pub(crate) fn objection(spec: &Spec) -> Option<Fault> {
    spec.ids.is_none().then(|| {
        Fault::because("checkpoint the guest", "it is privileged (security.privileged=true)")
    })
}
