//! Writes a rendered file below a guest's root.
//!
//! The guest made that tree: any directory of it may be a link, and the file a pipe or a device.
//! Paths are resolved by the kernel as if the root were `/` (IN_ROOT), so a link leads to where it
//! would inside; what is opened is looked at before it is opened for writing.

use std::{
    fs::File,
    io::Write,
    os::fd::{AsRawFd, BorrowedFd, OwnedFd},
};

use rustix::{
    fs::{
        FileType, Mode, OFlags, ResolveFlags, fchmod, fchown, fstat, ftruncate, mkdirat, openat2,
    },
    io::Errno,
    process::{Gid, Uid},
};

use crate::image::{Refusal, Template};

const IN_ROOT: ResolveFlags = ResolveFlags::IN_ROOT.union(ResolveFlags::NO_MAGICLINKS);

pub(super) fn exists(root: BorrowedFd<'_>, path: &str) -> Result<bool, Refusal> {
    match look(root, path) {
        Ok(_) => Ok(true),
        Err(Errno::NOENT) => Ok(false),
        Err(error) => Err(host(path, error)),
    }
}

pub(super) fn write(
    root: BorrowedFd<'_>,
    path: &str,
    template: &Template,
    text: &[u8],
) -> Result<(), Refusal> {
    let (file, is_new) = match look(root, path) {
        Ok(found) => (reopened(&found, path)?, false),
        Err(Errno::NOENT) => (made(root, path)?, true),
        Err(error) => return Err(host(path, error)),
    };
    let fill = || -> std::io::Result<()> {
        ftruncate(&file, 0)?;
        let mut file = File::from(file);
        file.write_all(text)?;
        let owner = |id: Option<u32>| id.or_else(|| is_new.then_some(0));
        let uid = owner(template.uid).map(Uid::from_raw);
        let gid = owner(template.gid).map(Gid::from_raw);
        if rustix::process::geteuid().is_root() {
            fchown(&file, uid, gid)?;
        }
        if let Some(mode) = template.mode_bits().or_else(|| is_new.then_some(0o644)) {
            fchmod(&file, Mode::from_raw_mode(mode))?;
        }
        Ok(())
    };
    fill().map_err(|error| Refusal::host(&format!("write the template {path}"), &error))
}

fn look(root: BorrowedFd<'_>, path: &str) -> Result<OwnedFd, Errno> {
    openat2(root, path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), IN_ROOT)
}

/// The file that was looked at, for writing; it can be no other by now.
fn reopened(found: &OwnedFd, path: &str) -> Result<OwnedFd, Refusal> {
    let stat = fstat(found).map_err(|error| host(path, error))?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        let why = "there is something in the guest that is no regular file".into();
        return Err(Refusal::BadTemplate { path: path.into(), why });
    }
    let proc = format!("/proc/self/fd/{}", found.as_raw_fd());
    let flags = OFlags::WRONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    rustix::fs::open(proc, flags, Mode::empty()).map_err(|error| host(path, error))
}

fn made(root: BorrowedFd<'_>, path: &str) -> Result<OwnedFd, Refusal> {
    let (directory, name) = path.rsplit_once('/').unwrap_or(("", path));
    let parent = parents(root, directory).map_err(|error| host(path, error))?;
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::WRONLY | OFlags::CLOEXEC;
    rustix::fs::openat(&parent, name, flags, Mode::from_raw_mode(0o600)).map_err(
        |error| match error {
            // Nothing is behind it, but the name is taken: a link that leads nowhere.
            Errno::EXIST => Refusal::BadTemplate {
                path: path.into(),
                why: "there is a link in the guest that leads nowhere".into(),
            },
            error => host(path, error),
        },
    )
}

/// The directory, made where it is missing.
fn parents(root: BorrowedFd<'_>, directory: &str) -> Result<OwnedFd, Errno> {
    let open = |path: &str| {
        let path = if path.is_empty() { "." } else { path };
        openat2(root, path, OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty(), IN_ROOT)
    };
    let mut walked = String::new();
    let mut current = open("")?;
    for name in directory.split('/').filter(|name| !name.is_empty() && *name != ".") {
        walked.push('/');
        walked.push_str(name);
        current = match open(&walked) {
            Err(Errno::NOENT) => {
                mkdirat(&current, name, Mode::from_raw_mode(0o755))?;
                open(&walked)?
            }
            other => other?,
        };
    }
    Ok(current)
}

fn host(path: &str, error: Errno) -> Refusal {
    Refusal::host(&format!("write the template {path}"), &error.into())
}
