//! The root of a split image that is no tar archive: a squashfs, or a disk image.
//!
//! squashfs is left to `unsquashfs`, which runs behind the same walls (it inherits them). It lists
//! first: what the list says is held against the limits before a byte is written. A name with a
//! newline can only add lines to the list, never hide one, so the sums are never too small.

use std::{
    fs::File,
    io::{BufRead, BufReader, Read, Write},
    process::{Command, Stdio},
};

use rustix::fs::{Mode, OFlags};

use super::{
    super::{
        job::{Confinement, Job},
        refusal::Refusal,
    },
    confine::{BLOB, TARGET},
    extract::Found,
    keeps_owners,
    path::Inside,
    stream::{Gauged, Gauges},
    tree::Tree,
};

const PROGRAMS: [&str; 3] =
    ["/usr/bin/unsquashfs", "/usr/sbin/unsquashfs", "/usr/local/bin/unsquashfs"];
const SUPERBLOCK_BYTES: usize = 96;
const BYTES_USED_AT: usize = 40;
const COPY_BYTES: usize = 1024 * 1024;
/// What the list calls the top.
const TOP: &str = "rootfs";
const STDERR_BYTES_MAX: u64 = 64 * 1024;

pub(super) fn copy_disk(
    root: File,
    tree: Option<&mut Tree>,
    gauges: &Gauges,
) -> Result<(), Refusal> {
    let mut from = Gauged::new(root, gauges);
    let mut to = tree
        .map(|tree| {
            let flags = OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::WRONLY;
            rustix::fs::openat(tree.top(), "rootfs.img", flags, Mode::from_raw_mode(0o600))
        })
        .transpose()
        .map_err(|error| Refusal::host("make rootfs.img", &error.into()))?
        .map(File::from);
    let mut buffer = vec![0; COPY_BYTES];
    loop {
        let count =
            from.read(&mut buffer).map_err(|error| Refusal::host("read the disk image", &error))?;
        if count == 0 {
            return Ok(());
        }
        if let Some(to) = to.as_mut() {
            to.write_all(&buffer[..count])
                .map_err(|error| Refusal::host("write rootfs.img", &error))?;
        }
    }
}

pub(super) fn take(
    job: &Job,
    root: &File,
    gauges: &Gauges,
    found: &mut Found,
    confinement: Confinement,
) -> Result<(), Refusal> {
    let again = root.try_clone().map_err(|error| Refusal::host("read the image", &error))?;
    std::io::copy(&mut Gauged::new(again, gauges), &mut std::io::sink())
        .map_err(|error| Refusal::host("read the image", &error))?;
    // Without namespaces nothing was moved: the paths are the host's.
    let host = |path: &std::path::Path| path.to_path_buf();
    let (blob, target) = if confinement.namespaces {
        (BLOB.into(), Some(TARGET.into()))
    } else {
        (job.root.as_deref().map(host).unwrap_or_default(), job.target.as_deref().map(host))
    };
    whole(root)?;
    list(job, &blob, found)?;
    if found.tally.bytes > gauges.limit_bytes {
        return Err(Refusal::Bomb { packed: gauges.packed_bytes, limit: gauges.limit_bytes });
    }
    found.rootfs = true;
    match target.filter(|_| job.target.is_some()) {
        Some(target) => extract(job, &blob, &target),
        None => Ok(()),
    }
}

/// The superblock says how long the file must be; a list alone would not miss the end of it.
fn whole(root: &File) -> Result<(), Refusal> {
    use std::os::unix::fs::FileExt;
    let mut superblock = [0; SUPERBLOCK_BYTES];
    root.read_exact_at(&mut superblock, 0).map_err(Refusal::reading)?;
    let used =
        superblock[BYTES_USED_AT..].first_chunk().map_or(0, |used| u64::from_le_bytes(*used));
    let there = root.metadata().map_err(|error| Refusal::host("read the image", &error))?.len();
    if there < used { Err(Refusal::Truncated) } else { Ok(()) }
}

fn program() -> Command {
    // By its whole path and in our own (empty) environment: then the standard library spawns without
    // the sockets that nobody may make here.
    let there = PROGRAMS.iter().find(|path| std::path::Path::new(path).exists());
    let mut command = Command::new(there.unwrap_or(&PROGRAMS[0]));
    command.env("LC_ALL", "C");
    // Pipes everywhere: there is no /dev/null behind the walls.
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Reads what nobody wants to hear, so that its writer need not wait.
fn discard(mut pipe: impl Read + Send + 'static) {
    std::thread::spawn(move || std::io::copy(&mut pipe, &mut std::io::sink()));
}

fn start(mut command: Command) -> Result<std::process::Child, Refusal> {
    command.spawn().map_err(|error| {
        if error.kind() == std::io::ErrorKind::NotFound {
            let what = "squashfs without unsquashfs on this host (install squashfs-tools)".into();
            Refusal::Unsupported { what }
        } else {
            Refusal::host("run unsquashfs", &error)
        }
    })
}

fn list(job: &Job, blob: &std::path::Path, found: &mut Found) -> Result<(), Refusal> {
    let mut command = program();
    command.arg("-lln").arg("-d").arg(TOP).arg(blob);
    let mut child = start(command)?;
    discard(child.stderr.take().expect("piped"));
    let lines = BufReader::new(child.stdout.take().expect("piped"));
    let mut outcome = Ok(());
    for line in lines.split(b'\n') {
        let line = line.map_err(|error| Refusal::host("list the squashfs", &error))?;
        outcome = line_of(job, &line, found);
        if outcome.is_err() {
            drop(child.kill());
            break;
        }
    }
    let status = child.wait().map_err(|error| Refusal::host("list the squashfs", &error))?;
    outcome?;
    if status.success() { Ok(()) } else { Err(Refusal::Corrupt { what: "squashfs".into() }) }
}

/// `-rw-r--r-- 0/0  1234 2025-01-01 00:00 rootfs/etc/hosts`; anything else is part of a name.
fn line_of(job: &Job, line: &[u8], found: &mut Found) -> Result<(), Refusal> {
    let mut words = line.split(|byte| *byte == b' ').filter(|word| !word.is_empty());
    let (Some(mode), Some(_owner), Some(size)) = (words.next(), words.next(), words.next()) else {
        return Ok(());
    };
    if mode.len() != 10 || !b"-dlpscb".contains(&mode[0]) {
        return Ok(());
    }
    let tally = &mut found.tally;
    tally.files += 1;
    if mode[0] == b'c' || mode[0] == b'b' {
        tally.devices_skipped += 1;
    } else if mode[0] == b'-' {
        let size = std::str::from_utf8(size).ok().and_then(|size| size.parse().ok()).unwrap_or(0);
        tally.bytes = u64::saturating_add(tally.bytes, size);
    }
    let limits = &job.limits;
    if tally.files > limits.files {
        return Err(Refusal::TooMuch { what: "files".into(), limit: limits.files });
    }
    let path = words.nth(2).map(|word| {
        let start = word.as_ptr() as usize - line.as_ptr() as usize;
        &line[start..]
    });
    if let Some(path) = path.filter(|_| mode[0] != b'l') {
        Inside::parse(path, limits)?;
    }
    Ok(())
}

fn extract(job: &Job, blob: &std::path::Path, target: &std::path::Path) -> Result<(), Refusal> {
    let mut command = program();
    command.args(["-no-progress", "-quiet", "-force"]);
    command.arg(if keeps_owners(job.owners) { "-xattrs" } else { "-user-xattrs" });
    command.arg("-d").arg(target.join(TOP)).arg(blob);
    let mut child = start(command)?;
    discard(child.stdout.take().expect("piped"));
    let mut said = String::new();
    let errors = child.stderr.take().expect("piped");
    errors
        .take(STDERR_BYTES_MAX)
        .read_to_string(&mut said)
        .map_err(|error| Refusal::host("unpack the squashfs", &error))?;
    let status = child.wait().map_err(|error| Refusal::host("unpack the squashfs", &error))?;
    if status.success() || only_devices(&said) {
        return Ok(());
    }
    let what = said.lines().find(|line| !is_about_devices(line)).unwrap_or("unsquashfs died");
    if what.contains("No space left") {
        return Err(Refusal::Full);
    }
    Err(Refusal::Corrupt { what: format!("squashfs: {what}") })
}

/// Device nodes are forbidden here, which unsquashfs reports and goes on.
fn is_about_devices(line: &str) -> bool {
    line.trim().is_empty() || line.contains("character device") || line.contains("block device")
}

fn only_devices(said: &str) -> bool {
    !said.trim().is_empty() && said.lines().all(is_about_devices)
}
