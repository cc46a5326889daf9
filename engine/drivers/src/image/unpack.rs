//! The helper `stapes-unpack`: reads one hostile archive, behind walls, and writes below one
//! directory or nowhere.
//!
//! ```text
//! store ── job (stdin) ──► outer process ── fork ──► inner process: confined, then reads
//!   ▲                      waits; ends the inner       │
//!   │                      one when stdin closes       │
//!   └────── progress, then unpacked or refused (stdout) ┘
//! ```
//!
//! Everything that interprets what a stranger wrote (decompressors, tar, squashfs) runs in here, for
//! checking an upload as well as for unpacking; the daemon itself only hashes the bytes and reads
//! metadata.yaml, in safe code with budgets.

use std::{
    fs::File,
    io::{BufRead, Read, Write},
    os::fd::{AsFd, OwnedFd},
    process::ExitCode,
    sync::{Arc, Mutex, atomic::AtomicU64, atomic::Ordering},
};

use rustix::fs::{Mode, OFlags};
use sha2::{Digest, Sha256};
use stapes_core::port::image::ImageKind;

use self::{
    confine::Visible,
    extract::{Extraction, Found, Shape},
    stream::{Gauges, Stream},
    tree::Tree,
};
use super::{
    Limits,
    compression::Compression,
    job::{Confinement, JOB_BYTES_MAX, Job, Line, Owners, Progress, Request, Unpacked},
    refusal::Refusal,
    templates::{self, RenderJob},
};

pub(crate) mod baggage;
mod confine;
mod entries;
mod extract;
mod path;
mod pax;
mod qcow2;
mod seccomp;
mod squashfs;
mod stream;
mod tree;

const RENDER_MEMORY_BYTES_MAX: u64 = 256 * 1024 * 1024;
const RENDER_CPU_SECONDS_MAX: u64 = 5;
/// Between two lines of progress.
const PROGRESS_EVERY: std::time::Duration = std::time::Duration::from_millis(100);

/// What is open before the walls go up.
struct Opened {
    metadata: File,
    root: Option<File>,
    target: Option<OwnedFd>,
    squashfs: bool,
}

/// The whole program. Its exit status says nothing that its last line does not.
#[must_use]
pub fn main() -> ExitCode {
    match run() {
        Ok(code) => code,
        Err(refusal) => {
            say(&Line::Refused(refusal));
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<ExitCode, Refusal> {
    let job = match read_request()? {
        Request::Read(job) => job,
        Request::Render(job) => return render(&job),
    };
    let opened = open(&job)?;
    let namespaces = confine::leave_namespaces()?;
    if !namespaces {
        inner(&job, opened, false)?;
        return Ok(ExitCode::SUCCESS);
    }
    // SAFETY: this process has one thread; both sides go on with ordinary code.
    match unsafe { nix::unistd::fork() } {
        Ok(nix::unistd::ForkResult::Child) => {
            let deadly = Some(rustix::process::Signal::KILL);
            rustix::process::set_parent_process_death_signal(deadly).ok();
            inner(&job, opened, true)?;
            Ok(ExitCode::SUCCESS)
        }
        Ok(nix::unistd::ForkResult::Parent { child }) => {
            drop(opened);
            wait(child)
        }
        Err(error) => Err(Refusal::Unconfined { why: format!("fork: {error}") }),
    }
}

fn read_request() -> Result<Request, Refusal> {
    let mut line = String::new();
    let stdin = std::io::stdin();
    let mut limited = stdin.lock().take(JOB_BYTES_MAX);
    limited.read_line(&mut line).map_err(|error| Refusal::host("read the job", &error))?;
    serde_json::from_str(&line).map_err(|error| Refusal::Host {
        what: format!("stapes-unpack is run by stapes and reads a job from stdin: {error}"),
    })
}

/// Text in, text out: neither a file nor a namespace is needed, so there is none.
fn render(job: &RenderJob) -> Result<ExitCode, Refusal> {
    let ceilings = Limits {
        memory_bytes: RENDER_MEMORY_BYTES_MAX.min(job.limits.memory_bytes),
        cpu_seconds: RENDER_CPU_SECONDS_MAX,
        unpacked_bytes: 0,
        ..job.limits.clone()
    };
    confine::set_ceilings(&ceilings)?;
    confine::drop_capabilities(Owners::Mine)?;
    confine::landlock(None, false)?;
    seccomp::install(false)?;
    say(&Line::Rendered(templates::render(job)));
    Ok(ExitCode::SUCCESS)
}

fn open(job: &Job) -> Result<Opened, Refusal> {
    let file = |path: &std::path::Path| {
        File::open(path).map_err(|error| Refusal::host(&format!("open {}", path.display()), &error))
    };
    let mut root = job.root.as_deref().map(file).transpose()?;
    let target = job.target.as_deref().map(|path| {
        let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        rustix::fs::open(path, flags, Mode::empty())
            .map_err(|error| Refusal::host(&format!("open {}", path.display()), &error.into()))
    });
    let squashfs = match root.as_mut() {
        Some(root) if !job.root_is_vm => stream::detect(root)? == Compression::Squashfs,
        _ => false,
    };
    Ok(Opened { metadata: file(&job.metadata)?, root, target: target.transpose()?, squashfs })
}

/// Waits for the inner process, and ends it when the daemon has gone.
fn wait(child: nix::unistd::Pid) -> Result<ExitCode, Refusal> {
    use nix::{
        poll::{PollFd, PollFlags, PollTimeout, poll},
        sys::wait::{WaitStatus, waitpid},
    };
    let host = |error: nix::Error| Refusal::host("wait for the helper", &error.into());
    let pid = rustix::process::Pid::from_raw(child.as_raw()).expect("a child's pid is positive");
    let pidfd = rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty())
        .map_err(|error| Refusal::host("watch the helper", &error.into()))?;
    let stdin = std::io::stdin();
    loop {
        let mut watched = [
            PollFd::new(pidfd.as_fd(), PollFlags::POLLIN),
            PollFd::new(stdin.as_fd(), PollFlags::POLLIN),
        ];
        match poll(&mut watched, PollTimeout::NONE) {
            Ok(_) => {}
            Err(nix::errno::Errno::EINTR) => continue,
            Err(error) => return Err(host(error)),
        }
        if watched[0].any() != Some(true) && watched[1].any() == Some(true) {
            nix::sys::signal::kill(child, nix::sys::signal::Signal::SIGKILL).ok();
        }
        return match waitpid(child, None).map_err(host)? {
            WaitStatus::Exited(_, 0) => Ok(ExitCode::SUCCESS),
            WaitStatus::Signaled(_, signal, _) => {
                Err(Refusal::Died { how: format!("signal {}", signal.as_str()) })
            }
            // It has said why, or panicked and said that on stderr.
            WaitStatus::Exited(..)
            | WaitStatus::Stopped(..)
            | WaitStatus::PtraceEvent(..)
            | WaitStatus::PtraceSyscall(_)
            | WaitStatus::Continued(_)
            | WaitStatus::StillAlive => Ok(ExitCode::FAILURE),
        };
    }
}

/// Behind the walls.
fn inner(job: &Job, opened: Opened, namespaces: bool) -> Result<(), Refusal> {
    let confinement = confine(job, &opened, namespaces)?;
    let sizes = |file: &File| {
        file.metadata().map(|it| it.len()).map_err(|error| Refusal::host("read the image", &error))
    };
    let packed_bytes = sizes(&opened.metadata)? + opened.root.as_ref().map_or(Ok(0), sizes)?;
    let gauges = Gauges {
        digest: Arc::new(Mutex::new(job.expected.as_ref().map(|_| Sha256::new()))),
        read: Arc::new(AtomicU64::new(0)),
        left: Arc::new(AtomicU64::new(job.limits.unpacked_bytes_of(packed_bytes))),
        packed_bytes,
        limit_bytes: job.limits.unpacked_bytes_of(packed_bytes),
    };
    tell_progress(gauges.read.clone(), packed_bytes);
    let unpacked = take(job, opened, &gauges, confinement)?;
    say(&Line::Done(Box::new(unpacked)));
    Ok(())
}

fn confine(job: &Job, opened: &Opened, namespaces: bool) -> Result<Confinement, Refusal> {
    let blob = job.root.clone().filter(|_| opened.squashfs);
    let visible = blob.map(|blob| Visible { target: job.target.clone(), blob });
    if namespaces {
        confine::empty_root(visible.as_ref())?;
    }
    rustix::process::umask(Mode::empty());
    confine::set_ceilings(&job.limits)?;
    confine::drop_capabilities(job.owners)?;
    let target = opened.target.as_ref().map(AsFd::as_fd);
    let landlock = confine::landlock(target, opened.squashfs)?;
    seccomp::install(opened.squashfs)?;
    confine::judge(Confinement { namespaces, landlock, seccomp: true })
}

fn take(
    job: &Job,
    opened: Opened,
    gauges: &Gauges,
    confinement: Confinement,
) -> Result<Unpacked, Refusal> {
    let mut found = Found::default();
    let mut tree = opened.target.map(|top| Tree::new(top, job.owners));
    let shape = if opened.root.is_some() { Shape::Metadata } else { Shape::Unified };
    let stream = Stream::open(opened.metadata, gauges)?;
    Extraction::new(&job.limits, tree.as_mut(), &mut found).run(stream, shape)?;
    if let Some(root) = opened.root {
        if job.root_is_vm {
            qcow2::check(&root, &job.limits)?;
            squashfs::copy_disk(root, tree.as_mut(), gauges)?;
            found.disk = true;
        } else if opened.squashfs {
            squashfs::take(job, &root, gauges, &mut found, confinement)?;
        } else {
            let stream = Stream::open(root, gauges)?;
            Extraction::new(&job.limits, tree.as_mut(), &mut found).run(stream, Shape::Root)?;
        }
    }
    check_digest(job, gauges)?;
    let metadata = found.metadata.ok_or(Refusal::NoMetadata)?;
    super::metadata::Metadata::parse(&metadata, &job.limits)?;
    let kind = match (found.rootfs, found.disk) {
        (true, _) => ImageKind::Container,
        (false, true) => ImageKind::VirtualMachine,
        (false, false) => return Err(Refusal::NoRoot),
    };
    if let Some(tree) = tree.as_mut() {
        finish(tree, &metadata)?;
    }
    let (templates, tally) = (found.templates, found.tally);
    Ok(Unpacked { kind, metadata, templates, tally, confinement })
}

fn finish(tree: &mut Tree, metadata: &str) -> Result<(), Refusal> {
    tree.finish()?;
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::WRONLY | OFlags::CLOEXEC;
    let write = || -> std::io::Result<()> {
        let file =
            rustix::fs::openat(tree.top(), "metadata.yaml", flags, Mode::from_raw_mode(0o600))?;
        File::from(file).write_all(metadata.as_bytes())?;
        match rustix::fs::mkdirat(tree.top(), "templates", Mode::from_raw_mode(0o700)) {
            Ok(()) | Err(rustix::io::Errno::EXIST) => Ok(()),
            Err(error) => Err(error.into()),
        }
    };
    write().map_err(|error| Refusal::host("write metadata.yaml", &error))
}

fn check_digest(job: &Job, gauges: &Gauges) -> Result<(), Refusal> {
    let digest = gauges.digest.lock().expect("no holder panics").take();
    let (Some(expected), Some(digest)) = (&job.expected, digest) else { return Ok(()) };
    let actual = super::hex(&digest.finalize());
    if actual == expected.as_str() {
        Ok(())
    } else {
        Err(Refusal::WrongHash { expected: expected.to_string(), actual })
    }
}

/// From a thread of its own: the work itself need not think of it. Ends with the process.
fn tell_progress(read: Arc<AtomicU64>, total_bytes: u64) {
    let tell = move || {
        let mut told = 0;
        loop {
            std::thread::sleep(PROGRESS_EVERY);
            let read_bytes = read.load(Ordering::Relaxed);
            if read_bytes != told {
                say(&Line::Progress(Progress { read_bytes, total_bytes }));
                told = read_bytes;
            }
        }
    };
    drop(std::thread::Builder::new().name("progress".into()).spawn(tell));
}

/// One line to the store. When nobody listens any more there is nobody to tell that either.
fn say(line: &Line) {
    let Ok(mut text) = serde_json::to_vec(line) else { return };
    text.push(b'\n');
    drop(std::io::stdout().lock().write_all(&text));
}

const fn keeps_owners(owners: Owners) -> bool {
    owners.are_kept()
}
