//! Starting a guest: the half of the process that becomes init.
//!
//! From the clone on it is in the guest's namespaces and cgroup; until [`become_root`] it has no
//! ids. All that it mounts is made detached and attached by descriptor, and every target is looked
//! up inside the guest's root without following links, so that an image cannot point elsewhere.

use std::{
    convert::Infallible,
    ffi::CString,
    fs, io,
    os::fd::{AsFd as _, BorrowedFd, OwnedFd},
};

use nix::libc;
use rustix::mount::MountAttrFlags;

use super::{FromChild, ToChild, console, covers, disks, files, systemd};
use crate::{
    cgroup,
    fault::{Doing as _, Fault, Result},
    spec::Spec,
    sys::{
        self, become_root, capability,
        mount::{self, NO_SUID_DEV_EXEC, Parameter},
        netlink::Netlink,
        open_inside, process, seccomp, terminal,
    },
    transport,
};

/// The status of a child that did not become init; what happened was told before.
pub(super) const FAILED: i32 = 99;

const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

pub(super) fn main(spec: &Spec, theirs: &OwnedFd, socket: &OwnedFd, doors: &[fs::File]) -> ! {
    let Err(fault) = become_init(spec, theirs, socket, doors);
    let failed = FromChild::Failed {
        errno: fault.errno(),
        text: fault.error.to_string(),
        doing: fault.doing.into_owned(),
    };
    // Nobody is there to hear it when the shim is dead.
    let _ = transport::send(socket, &failed, &[]);
    process::leave(FAILED)
}

fn become_init(
    spec: &Spec,
    theirs: &OwnedFd,
    socket: &OwnedFd,
    doors: &[fs::File],
) -> Result<Infallible> {
    if spec.ids.is_some() {
        sys::reset_secure_bits().doing("reset the secure bits")?;
    }
    cgroup::enter(doors).doing("enter the v1 cgroups")?;
    close(theirs);
    let ToChild::Mapped = hear(socket)?.0 else { return Err(out_of_turn()) };
    become_root().doing("become the guest's root")?;
    die_with_parent(true);
    // After every cgroup is joined, or /proc/self/cgroup would show paths with `..`.
    process::new_cgroup_namespace().doing("make a cgroup namespace")?;
    propagate(c"/", libc::MS_PRIVATE).doing("make mounts private")?;

    let own = OwnMounts::make(spec.ids.is_none())?;
    let (ToChild::Mounts { disks }, mounts) = hear(socket)? else { return Err(out_of_turn()) };
    let [root, devices] = <[OwnedFd; 2]>::try_from(mounts).map_err(|_| out_of_turn())?;
    mount::attach_over_root(root.as_fd()).doing("attach the root")?;
    // Before anything of its own lies over the root.
    let problems = files::write(root.as_fd(), &spec.files);
    let is_systemd = systemd::is_init(root.as_fd(), spec);
    own.attach(root.as_fd(), devices.as_fd())?;
    if is_systemd {
        systemd::prepare(own.run.as_fd()).doing("prepare systemd's /run")?;
    }
    let console = console::make(own.terminals.as_fd(), root.as_fd())?;
    if spec.ids.is_none() && !spec.nesting {
        covers::cover(root.as_fd())?;
    }
    for disk in spec.disks.iter().take(disks) {
        let (ToChild::Disk, mounts) = hear(socket)? else { return Err(out_of_turn()) };
        let [mount] = <[OwnedFd; 1]>::try_from(mounts).map_err(|_| out_of_turn())?;
        disks::attach(disk, mount.as_fd(), root.as_fd())?;
    }
    pivot(root.as_fd())?;

    set_host_name(&spec.hostname).doing("set the host name")?;
    raise_interfaces(spec)?;
    terminal::take(console.slave.as_fd()).doing("take the console")?;
    settle()?;
    let descriptors = [console.master.as_fd(), console.slave.as_fd(), own.terminals.as_fd()];
    transport::send(socket, &FromChild::Ready { problems }, &descriptors).doing("report")?;
    execute(spec)
}

/// The last of what init inherits.
pub(crate) fn settle() -> Result<()> {
    capability::drop_forbidden().doing("drop capabilities")?;
    limit_resources();
    die_with_parent(false);
    // SAFETY: plain calls; the set is initialised by sigemptyset.
    unsafe {
        libc::umask(0o022);
        let mut none = std::mem::zeroed();
        libc::sigemptyset(&raw mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const none, std::ptr::null_mut());
    }
    // Last: from here on its own set-up would be refused.
    seccomp::forbid().doing("set the seccomp filter")
}

fn hear(socket: &OwnedFd) -> Result<(ToChild, Vec<OwnedFd>)> {
    let words = "hear from the shim";
    transport::receive(socket)
        .doing(words)?
        .ok_or_else(|| Fault::because(words, "the shim is gone"))
}

fn out_of_turn() -> Fault {
    Fault::because("hear from the shim", "it spoke out of turn")
}

/// Closes the child's copy of the shim's end, so that the shim's death is noticed.
fn close(descriptor: &OwnedFd) {
    use std::os::fd::AsRawFd as _;
    // SAFETY: in this process nobody uses it any more: `main` never returns to its owner.
    unsafe { libc::close(descriptor.as_raw_fd()) };
}

/// Each change of ids forgets this.
fn die_with_parent(yes: bool) {
    let signal = if yes { libc::SIGKILL } else { 0 };
    // SAFETY: a plain call with numbers.
    unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, signal) };
}

/// The file systems of the guest's own namespaces, mounted nowhere yet.
struct OwnMounts {
    processes: OwnedFd,
    system: OwnedFd,
    terminals: OwnedFd,
    queues: Option<OwnedFd>,
    shared_memory: OwnedFd,
    run: OwnedFd,
    cgroups: OwnedFd,
}

impl OwnMounts {
    /// proc and sysfs must be made while the host's are still in sight: the kernel shows a user
    /// namespace no more of them than it sees already.
    fn make(privileged: bool) -> Result<Self> {
        let no_suid_dev = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV;
        let read_only =
            if privileged { MountAttrFlags::MOUNT_ATTR_RDONLY } else { MountAttrFlags::empty() };
        Ok(Self {
            processes: mount::make(c"proc", &[], NO_SUID_DEV_EXEC)?,
            system: mount::make(c"sysfs", &[], NO_SUID_DEV_EXEC | read_only)?,
            terminals: make_terminals()?,
            // Not every kernel has message queues.
            queues: mount::make(c"mqueue", &[], NO_SUID_DEV_EXEC).ok(),
            shared_memory: mount::make(
                c"tmpfs",
                &[Parameter::Value(c"mode", c"1777")],
                no_suid_dev,
            )?,
            run: mount::make(c"tmpfs", &[Parameter::Value(c"mode", c"755")], no_suid_dev)?,
            cgroups: mount::make(c"cgroup2", &[], NO_SUID_DEV_EXEC)?,
        })
    }

    fn attach(&self, root: BorrowedFd<'_>, devices: BorrowedFd<'_>) -> Result<()> {
        attach(self.processes.as_fd(), root, c"proc")?;
        attach(self.system.as_fd(), root, c"sys")?;
        attach(devices, root, c"dev")?;
        attach(self.terminals.as_fd(), root, c"dev/pts")?;
        if let Some(queues) = &self.queues {
            attach(queues.as_fd(), root, c"dev/mqueue")?;
        }
        attach(self.shared_memory.as_fd(), root, c"dev/shm")?;
        attach(self.run.as_fd(), root, c"run")?;
        attach(self.cgroups.as_fd(), root, c"sys/fs/cgroup")
    }
}

/// A new devpts.
pub(crate) fn make_terminals() -> Result<OwnedFd> {
    let parameters = [
        Parameter::Flag(c"newinstance"),
        Parameter::Value(c"ptmxmode", c"0666"),
        Parameter::Value(c"mode", c"0620"),
        Parameter::Value(c"gid", c"5"),
        Parameter::Value(c"max", c"1024"),
    ];
    let attributes = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    mount::make(c"devpts", &parameters, attributes)
}

/// Attaches at a place that no link leads to; an image without the directory gets it.
fn attach(
    mount: BorrowedFd<'_>,
    root: BorrowedFd<'_>,
    place: &'static std::ffi::CStr,
) -> Result<()> {
    use rustix::fs::Mode;
    let words = || format!("mount /{}", place.to_string_lossy());
    let flags = libc::O_PATH | libc::O_DIRECTORY;
    let target = match open_inside(root, place, flags, false) {
        Err(error)
            if error.kind() == io::ErrorKind::NotFound && !place.to_bytes().contains(&b'/') =>
        {
            rustix::fs::mkdirat(root, place, Mode::from_raw_mode(0o755)).doing_with(words)?;
            open_inside(root, place, flags, false)
        }
        answer => answer,
    };
    let target = target.doing_with(words)?;
    mount::attach(mount, target.as_fd()).doing_with(words)
}

pub(crate) fn propagate(place: &std::ffi::CStr, kind: libc::c_ulong) -> io::Result<()> {
    let none = std::ptr::null();
    // SAFETY: the path is a C string; the kernel reads nothing else for a change of propagation.
    sys::answer(libc::c_long::from(unsafe {
        libc::mount(none, place.as_ptr(), none, libc::MS_REC | kind, none.cast())
    }))?;
    Ok(())
}

/// Makes the guest's root the root, and the host's unreachable.
fn pivot(root: BorrowedFd<'_>) -> Result<()> {
    rustix::process::fchdir(root).doing("enter the root")?;
    // The old root comes to lie on top of the new one, and is taken off.
    rustix::process::pivot_root(c".", c".").doing("pivot to the root")?;
    rustix::mount::unmount(c".", rustix::mount::UnmountFlags::DETACH)
        .doing("detach the host's root")?;
    rustix::process::chdir(c"/").doing("enter the root")?;
    // As systemd expects it of whoever starts it.
    propagate(c"/", libc::MS_SHARED).doing("share mounts")
}

fn set_host_name(name: &str) -> io::Result<()> {
    Ok(rustix::system::sethostname(name.as_bytes())?)
}

/// The interfaces are up; addresses are the guest's own business (DHCP, router advertisements),
/// as with Incus: an address set from outside would be there twice as soon as it asks for one.
fn raise_interfaces(spec: &Spec) -> Result<()> {
    let mut netlink = Netlink::open().doing("open rtnetlink")?;
    netlink.set_up("lo").doing("raise lo")?;
    for nic in &spec.nics {
        netlink.set_up(&nic.name).doing_with(|| format!("raise {}", nic.name))?;
    }
    Ok(())
}

/// What the daemon was given is not what a guest expects: few open files by default, as many as
/// the host allows for who asks.
fn limit_resources() {
    const FILES_SOFT: libc::rlim_t = 1024;
    const FILES_HARD: libc::rlim_t = 1 << 20;
    let raised = libc::rlimit { rlim_cur: FILES_SOFT, rlim_max: FILES_HARD };
    // SAFETY: plain calls with structures that live across them.
    unsafe {
        if libc::setrlimit(libc::RLIMIT_NOFILE, &raw const raised) != 0 {
            let mut given = raised;
            libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut given);
            given.rlim_cur = FILES_SOFT.min(given.rlim_max);
            libc::setrlimit(libc::RLIMIT_NOFILE, &raw const given);
        }
    }
    // The daemon may be protected from the OOM killer; its guests are not.
    let _ = fs::write("/proc/self/oom_score_adj", "0");
}

fn execute(spec: &Spec) -> Result<Infallible> {
    let program = spec.init.first().map_or("", String::as_str);
    let words = || format!("execute {program}");
    let arguments: io::Result<Vec<CString>> =
        spec.init.iter().map(|argument| sys::c_string(argument.as_str())).collect();
    let mut variables = std::collections::BTreeMap::from([
        ("container", "lxc"),
        ("container_uuid", spec.instance.as_str()),
        ("PATH", PATH),
        ("TERM", "linux"),
    ]);
    variables.extend(spec.environment.iter().map(|(key, value)| (key.as_str(), value.as_str())));
    let variables: io::Result<Vec<CString>> =
        variables.iter().map(|(key, value)| sys::c_string(format!("{key}={value}"))).collect();
    let (arguments, variables) = (arguments.doing_with(words)?, variables.doing_with(words)?);
    let Some(path) = arguments.first() else {
        return Err(Fault::because("execute init", "there is no program"));
    };
    nix::unistd::execve(path, &arguments, &variables).doing_with(words)
}
