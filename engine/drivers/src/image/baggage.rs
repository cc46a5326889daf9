//! A directory tree as it travels between nodes: a tar with everything that the kernel keeps of a
//! file, for trees that this node and the other one trust.
//!
//! Owners, modes, times to the nanosecond, holes, hard links, device nodes (so whiteouts too) and
//! all extended attributes. Sockets belong to processes and stay behind. [`super::publish`] packs for
//! strangers and keeps less. [`super::unpack`] reads it on the other side.

use std::{
    collections::BTreeMap,
    ffi::{CStr, OsStr},
    fs::File,
    io::{self, Read, Write},
    os::{
        fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
        unix::ffi::OsStrExt,
    },
    path::Path,
};

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, Stat};
use tar::{EntryType, Header};

/// What every path in the archive begins with: an archive cannot name its own top.
pub(super) const TOP: &[u8] = b"t";
/// What the other side takes at most.
pub(super) const PATH_BYTES_MAX: usize = 4000;
pub(super) const DEPTH_MAX: usize = 250;
/// Of all names, or of the content, of a file's extended attributes; the kernel's own bound.
pub(super) const XATTR_BYTES_MAX: usize = 1 << 16;

/// Writes the tree and what marks its end.
pub(crate) fn pack(top: &Path, to: &mut dyn Write) -> io::Result<()> {
    let top = open(rustix::fs::CWD, top, OFlags::DIRECTORY)?;
    let mut archive = tar::Builder::new(to);
    archive.sparse(true);
    let mut packer = Packer { archive, linked: BTreeMap::new(), device: 0 };
    packer.device = rustix::fs::fstat(&top)?.st_dev;
    packer.directory(top, TOP, 0)?;
    packer.archive.finish()
}

/// Writes these files, under these names, as a tree of their own.
pub(crate) fn pack_files(files: &[(&str, &Path)], to: &mut dyn Write) -> io::Result<()> {
    let mut archive = tar::Builder::new(to);
    for (name, path) in files {
        let path_inside = [TOP, b"/", name.as_bytes()].concat();
        archive.append_file(os(&path_inside), &mut File::open(path)?)?;
    }
    archive.finish()
}

struct Packer<'a> {
    archive: tar::Builder<&'a mut dyn Write>,
    /// The first name of every file that has more names to come, and how many.
    linked: BTreeMap<u64, (Vec<u8>, u64)>,
    /// What is mounted inside is not of the tree.
    device: u64,
}

impl Packer<'_> {
    fn directory(&mut self, directory: OwnedFd, path: &[u8], depth: usize) -> io::Result<()> {
        if depth > DEPTH_MAX || path.len() > PATH_BYTES_MAX {
            return Err(io::Error::other(format!(
                "directories more than {DEPTH_MAX} deep, or of more than {PATH_BYTES_MAX} bytes"
            )));
        }
        let stat = rustix::fs::fstat(&directory)?;
        let xattrs = xattrs(&Named::Open(directory.as_fd()))?;
        self.put(EntryType::Directory, &stat, &[path, b"/"].concat(), &xattrs)?;
        if stat.st_dev != self.device {
            return Ok(());
        }
        for entry in Dir::read_from(&directory)? {
            let entry = entry?;
            let name = entry.file_name();
            if name != c"." && name != c".." {
                let below = [path, b"/", name.to_bytes()].concat();
                self.entry(directory.as_fd(), name, &below, depth)?;
            }
        }
        Ok(())
    }

    fn entry(
        &mut self,
        parent: BorrowedFd<'_>,
        name: &CStr,
        path: &[u8],
        depth: usize,
    ) -> io::Result<()> {
        let stat = rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW)?;
        let xattrs = || xattrs(&Named::In(parent, name));
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => {
                self.directory(open(parent, name, OFlags::DIRECTORY)?, path, depth + 1)
            }
            FileType::RegularFile => self.file(open(parent, name, OFlags::NONBLOCK)?, path),
            FileType::Symlink => {
                let to = rustix::fs::readlinkat(parent, name, Vec::new())?;
                self.extend(&stat, &xattrs()?)?;
                let mut header = header(EntryType::Symlink, &stat);
                self.archive.append_link(&mut header, os(path), os(to.as_bytes()))
            }
            FileType::Fifo => self.put(EntryType::Fifo, &stat, path, &xattrs()?),
            FileType::CharacterDevice => self.put(EntryType::Char, &stat, path, &xattrs()?),
            FileType::BlockDevice => self.put(EntryType::Block, &stat, path, &xattrs()?),
            FileType::Socket | FileType::Unknown => Ok(()),
        }
    }

    fn file(&mut self, file: OwnedFd, path: &[u8]) -> io::Result<()> {
        let stat = rustix::fs::fstat(&file)?;
        if let Some(first) = self.first_name(&stat, path) {
            let mut header = header(EntryType::Link, &stat);
            return self.archive.append_link(&mut header, os(path), os(&first));
        }
        self.extend(&stat, &xattrs(&Named::Open(file.as_fd()))?)?;
        self.archive.append_file(os(path), &mut File::from(file))
    }

    /// The name under which the file was packed already.
    fn first_name(&mut self, stat: &Stat, path: &[u8]) -> Option<Vec<u8>> {
        if stat.st_nlink < 2 {
            return None;
        }
        let Some((first, left)) = self.linked.get_mut(&stat.st_ino) else {
            self.linked.insert(stat.st_ino, (path.to_vec(), stat.st_nlink - 1));
            return None;
        };
        *left -= 1;
        let (first, left) = (first.clone(), *left);
        if left == 0 {
            self.linked.remove(&stat.st_ino);
        }
        Some(first)
    }

    /// What the header of an entry has no room for.
    fn extend(&mut self, stat: &Stat, xattrs: &[(String, Vec<u8>)]) -> io::Result<()> {
        let time = format!("{}.{:09}", stat.st_mtime, stat.st_mtime_nsec);
        // The seconds of a time before 1970 are rounded down, its fraction still counts upwards.
        let time = (stat.st_mtime >= 0).then_some(("mtime", time.as_bytes()));
        let xattrs = xattrs.iter().map(|(name, value)| (name.as_str(), value.as_slice()));
        self.archive.append_pax_extensions(time.into_iter().chain(xattrs))
    }

    fn put(
        &mut self,
        kind: EntryType,
        stat: &Stat,
        path: &[u8],
        xattrs: &[(String, Vec<u8>)],
    ) -> io::Result<()> {
        self.extend(stat, xattrs)?;
        let mut header = header(kind, stat);
        if matches!(kind, EntryType::Char | EntryType::Block) {
            header.set_device_major(rustix::fs::major(stat.st_rdev))?;
            header.set_device_minor(rustix::fs::minor(stat.st_rdev))?;
        }
        self.archive.append_data(&mut header, os(path), io::empty())
    }
}

fn header(kind: EntryType, stat: &Stat) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(stat.st_mode & 0o7777);
    header.set_uid(u64::from(stat.st_uid));
    header.set_gid(u64::from(stat.st_gid));
    header.set_mtime(u64::try_from(stat.st_mtime).unwrap_or(0));
    header.set_size(0);
    header
}

fn os(bytes: &[u8]) -> &Path {
    Path::new(OsStr::from_bytes(bytes))
}

fn open(
    directory: impl AsFd,
    name: impl rustix::path::Arg,
    more: OFlags,
) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | more;
    rustix::fs::openat(directory, name, flags, Mode::empty())
}

/// A file whose attributes are asked for: open, or a name that must not be opened or followed.
pub(super) enum Named<'a> {
    Open(BorrowedFd<'a>),
    In(BorrowedFd<'a>, &'a CStr),
}

impl Named<'_> {
    /// There are no calls that take a directory and a name before Linux 6.13; the kernel's own link
    /// to an open directory serves instead, and its last name is not followed.
    pub(super) fn path(parent: BorrowedFd<'_>, name: &[u8]) -> std::path::PathBuf {
        let directory = format!("/proc/self/fd/{}", parent.as_raw_fd());
        Path::new(&directory).join(os(name))
    }

    fn list(&self, names: &mut [u8]) -> rustix::io::Result<usize> {
        match self {
            Self::Open(file) => rustix::fs::flistxattr(file, names),
            Self::In(parent, name) => {
                rustix::fs::llistxattr(Self::path(*parent, name.to_bytes()), names)
            }
        }
    }

    fn get(&self, name: &str, value: &mut [u8]) -> rustix::io::Result<usize> {
        match self {
            Self::Open(file) => rustix::fs::fgetxattr(file, name, value),
            Self::In(parent, file) => {
                rustix::fs::lgetxattr(Self::path(*parent, file.to_bytes()), name, value)
            }
        }
    }
}

fn xattrs(of: &Named<'_>) -> io::Result<Vec<(String, Vec<u8>)>> {
    let mut list = vec![0; XATTR_BYTES_MAX];
    let size = match of.list(&mut list) {
        Ok(size) => size,
        Err(rustix::io::Errno::OPNOTSUPP) => return Ok(Vec::new()),
        Err(error) => return Err(error.into()),
    };
    let names = list[..size].split(|byte| *byte == 0).filter(|name| !name.is_empty());
    let mut found = Vec::new();
    let mut value = Vec::new();
    for name in names.filter_map(|name| std::str::from_utf8(name).ok()) {
        value.resize(XATTR_BYTES_MAX, 0);
        match of.get(name, &mut value) {
            Ok(size) => found.push((format!("SCHILY.xattr.{name}"), value[..size].to_vec())),
            Err(rustix::io::Errno::NODATA) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(found)
}

/// Reads to the end of what the archive's end mark takes up.
pub(super) fn read_end(from: &mut dyn Read) -> io::Result<()> {
    from.read_exact(&mut [0; 512])
}
