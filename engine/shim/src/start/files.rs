//! Files that the image wants in the guest, written before anything of it runs.
//!
//! The child writes them, as the guest's own root: no rights of the host stand behind a path that
//! somebody made inside. The tree is the guest's: any directory of it may be a link, the file a pipe
//! or a device. Paths are resolved by the kernel as if the root were `/`, so a link leads to where
//! it would inside; what is there is looked at before it is opened for writing.
//!
//! A file that cannot be written is a problem that is told, and no reason not to start: a guest
//! whose disk is full, or who made a directory where the image wants a file, must still be reachable.

use std::{
    ffi::CString,
    fs::File,
    io::{self, Write as _},
    os::fd::{AsFd as _, BorrowedFd, OwnedFd},
};

use nix::libc;
use rustix::{
    fs::{
        AtFlags, FileType, Mode, OFlags, RenameFlags, fchmod, fchown, fstat, ftruncate, mkdirat,
        openat, renameat_with, unlinkat,
    },
    process::{Gid, Uid},
};

use crate::{
    spec::WrittenFile,
    sys::{c_string, open_inside},
};

/// Told at most; the rest is as likely as not the same.
const PROBLEMS_MAX: usize = 16;
/// What a new file is called until it is whole.
const UNFINISHED: &str = ".stapes-new";

/// Writes all that can be written, and says what could not.
pub(super) fn write(root: BorrowedFd<'_>, files: &[WrittenFile]) -> Vec<String> {
    let problem = |file: &WrittenFile| {
        let error = write_one(root, file).err()?;
        Some(format!("the template {} could not be written: {error}", file.path))
    };
    files.iter().filter_map(problem).take(PROBLEMS_MAX).collect()
}

fn write_one(root: BorrowedFd<'_>, file: &WrittenFile) -> io::Result<()> {
    let (directory, name) = split(&file.path)?;
    let path = c_string(file.path.as_str())?;
    match open_inside(root, &path, libc::O_PATH, true) {
        Ok(_) if file.create_only => Ok(()),
        Ok(found) => fill(&reopened(root, &path, &found)?, file, false),
        Err(error) if error.kind() == io::ErrorKind::NotFound => make(root, directory, name, file),
        Err(error) => Err(error),
    }
}

/// Directory and name of a path that means what it says.
fn split(path: &str) -> io::Result<(&str, &str)> {
    let wrong = || io::Error::other("it is no absolute path of a file");
    let (directory, name) = path.rsplit_once('/').ok_or_else(wrong)?;
    let plain = path.starts_with('/') && path.split('/').all(|part| part != "." && part != "..");
    if plain && !name.is_empty() { Ok((directory, name)) } else { Err(wrong()) }
}

/// What was looked at, for writing: by its path once more, for nothing of the guest runs yet.
fn reopened(root: BorrowedFd<'_>, path: &CString, found: &OwnedFd) -> io::Result<OwnedFd> {
    let looked_at = fstat(found)?;
    if FileType::from_raw_mode(looked_at.st_mode) != FileType::RegularFile {
        return Err(io::Error::other("there is something in the guest that is no regular file"));
    }
    open_inside(root, path, libc::O_WRONLY | libc::O_NONBLOCK, true)
}

/// A new file appears whole or not at all: it may be there to be created only.
fn make(root: BorrowedFd<'_>, directory: &str, name: &str, file: &WrittenFile) -> io::Result<()> {
    let parent = parents(root, directory)?;
    // A start that was killed may have left one.
    let _ = unlinkat(&parent, UNFINISHED, AtFlags::empty());
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::WRONLY | OFlags::CLOEXEC;
    let unfinished = openat(&parent, UNFINISHED, flags, Mode::RUSR | Mode::WUSR)?;
    let made = fill(&unfinished, file, true).and_then(|()| {
        let flags = RenameFlags::NOREPLACE;
        match renameat_with(&parent, UNFINISHED, &parent, name, flags) {
            // Nothing is behind the name, but it is taken.
            Err(rustix::io::Errno::EXIST) => {
                Err(io::Error::other("there is a link in the guest that leads nowhere"))
            }
            answer => Ok(answer?),
        }
    });
    if made.is_err() {
        let _ = unlinkat(&parent, UNFINISHED, AtFlags::empty());
    }
    made
}

fn fill(open: &OwnedFd, file: &WrittenFile, is_new: bool) -> io::Result<()> {
    ftruncate(open, 0)?;
    let mut content = File::from(open.try_clone()?);
    content.write_all(file.content.as_bytes())?;
    let owner = |id: Option<u32>| id.or_else(|| is_new.then_some(0));
    fchown(open, owner(file.uid).map(Uid::from_raw), owner(file.gid).map(Gid::from_raw))?;
    // After the owner: a change of that takes setuid away.
    if let Some(mode) = file.mode.or_else(|| is_new.then_some(0o644)) {
        fchmod(open, Mode::from_raw_mode(mode))?;
    }
    Ok(())
}

/// The directory, made where it is missing.
fn parents(root: BorrowedFd<'_>, directory: &str) -> io::Result<OwnedFd> {
    let open = |path: &str| {
        let path = if path.is_empty() { "." } else { path };
        open_inside(root, &c_string(path)?, libc::O_RDONLY | libc::O_DIRECTORY, true)
    };
    let mut walked = String::new();
    let mut here = open("")?;
    for name in directory.split('/').filter(|name| !name.is_empty()) {
        walked.push('/');
        walked.push_str(name);
        here = match open(&walked) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                mkdirat(here.as_fd(), name, Mode::from_raw_mode(0o755))?;
                open(&walked)?
            }
            answer => answer?,
        };
    }
    Ok(here)
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::symlink};

    use super::*;

    fn file(path: &str) -> WrittenFile {
        let (path, content) = (path.to_owned(), "text\n".to_owned());
        WrittenFile { path, content, mode: None, uid: None, gid: None, create_only: false }
    }

    /// A guest's root, and beside it what is none of the guest's business.
    fn tree() -> (tempfile::TempDir, OwnedFd) {
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir_all(directory.path().join("root/etc")).unwrap();
        fs::create_dir(directory.path().join("outside")).unwrap();
        fs::write(directory.path().join("outside/file"), "safe").unwrap();
        let root = File::open(directory.path().join("root")).unwrap().into();
        (directory, root)
    }

    fn ours(file: &mut WrittenFile) {
        (file.uid, file.gid) =
            (Some(nix::unistd::geteuid().as_raw()), Some(nix::unistd::getegid().as_raw()));
    }

    fn write_all(root: &OwnedFd, mut files: Vec<WrittenFile>) -> Vec<String> {
        files.iter_mut().for_each(ours);
        write(root.as_fd(), &files)
    }

    #[test]
    fn files_are_made_filled_and_left_alone_where_they_are_to_be_created_only() {
        use std::os::unix::fs::PermissionsExt as _;
        let (directory, root) = tree();
        let at = |path: &str| directory.path().join("root").join(path);
        fs::write(at("etc/kept"), "longer than it will be").unwrap();
        fs::write(at("etc/created"), "before").unwrap();
        fs::set_permissions(at("etc/kept"), fs::Permissions::from_mode(0o640)).unwrap();
        let created = |path: &str| WrittenFile { create_only: true, ..file(path) };
        let secret = WrittenFile { mode: Some(0o600), ..file("/new/deep/secret") };
        let files = vec![file("/etc/kept"), created("/etc/created"), created("/etc/x"), secret];
        for _ in 0..2 {
            assert_eq!(write_all(&root, files.clone()), Vec::<String>::new());
        }
        let read = |path: &str| fs::read_to_string(at(path)).unwrap();
        let mode = |path: &str| fs::metadata(at(path)).unwrap().permissions().mode() & 0o7777;
        assert_eq!((read("etc/kept").as_str(), mode("etc/kept")), ("text\n", 0o640));
        assert_eq!(read("etc/created"), "before");
        assert_eq!((read("etc/x").as_str(), mode("etc/x")), ("text\n", 0o644));
        assert_eq!(mode("new/deep/secret"), 0o600);
        assert_eq!(fs::read_dir(at("etc")).unwrap().count(), 3);
    }

    #[test]
    fn no_path_and_no_link_leads_out() {
        let (directory, root) = tree();
        let outside = directory.path().join("outside");
        let at = |path: &str| directory.path().join("root").join(path);
        symlink(outside.join("file"), at("etc/absolute")).unwrap();
        symlink("../../outside/file", at("etc/relative")).unwrap();
        symlink("/proc/self/root", at("etc/magic")).unwrap();
        symlink(&outside, at("directory")).unwrap();
        fs::create_dir(at("etc/taken")).unwrap();
        nix::unistd::mkfifo(&at("etc/pipe"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        let bad = [
            "../../outside/new",
            "/../../outside/new",
            "/etc/../../outside/new",
            "relative",
            "/etc/",
            "/etc/nul\0",
            "/etc/absolute",
            "/etc/relative",
            "/directory/new",
            "/etc/magic/etc/new",
            "/etc/taken",
            "/etc/pipe",
        ];
        for path in bad {
            let problems = write_all(&root, vec![file(path), file("/etc/good")]);
            assert_eq!(problems.len(), 1, "{path}: {problems:?}");
            assert!(problems[0].contains(path), "{problems:?}");
            assert!(at("etc/good").exists());
        }
        assert_eq!(fs::read_to_string(outside.join("file")).unwrap(), "safe");
        assert_eq!(fs::read_dir(&outside).unwrap().count(), 1);
        // A link that leads somewhere inside is followed, as the guest itself would.
        symlink("/etc/good", at("etc/link")).unwrap();
        assert_eq!(write_all(&root, vec![file("/etc/link")]), Vec::<String>::new());
        assert!(at("etc/link").is_symlink());
    }
}
