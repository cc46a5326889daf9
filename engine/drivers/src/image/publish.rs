//! Packs a directory tree as a unified image.
//!
//! The entries are sorted and carry no time but their own, so the same tree gives the same archive
//! but for its creation date. gzip, as Incus does by default: every client reads it.
//!
//! The tree is a guest's, who may change it while it is read: directories are opened relative to
//! each other and links are never followed.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    fs::File,
    io::{self, Read, Write},
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::ffi::{OsStrExt, OsStringExt},
    },
    path::{Path, PathBuf},
};

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, ResolveFlags, Stat};
use tar::{EntryType, Header};

use super::metadata::Metadata;

/// A tree deeper than this cannot be unpacked again.
const DEPTH_MAX: usize = 255;
const XATTR_LIST_BYTES_MAX: usize = 64 * 1024;
const COPY_BYTES: usize = 256 * 1024;

/// How the archive is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Packing {
    Gzip,
    /// Unpacks several times faster and is smaller: for images that stapes builds.
    Zstd,
}

/// Writes the archive into `staging` and answers with its path. `root` is the guest's root.
pub(super) fn pack(
    root: &Path,
    properties: BTreeMap<String, String>,
    staging: &Path,
) -> io::Result<PathBuf> {
    let architecture = properties.get("architecture").cloned();
    let metadata = Metadata {
        architecture: architecture.unwrap_or_else(|| std::env::consts::ARCH.to_owned()),
        creation_date: chrono::Utc::now().timestamp(),
        properties,
        ..Metadata::default()
    };
    pack_with(Some(root), &metadata, &BTreeMap::new(), Packing::Gzip, staging)
}

/// `templates` are file names and their content. Without a root it is the metadata of a split image.
/// No time in it is later than the image's own.
pub(super) fn pack_with(
    root: Option<&Path>,
    metadata: &Metadata,
    templates: &BTreeMap<String, String>,
    packing: Packing,
    staging: &Path,
) -> io::Result<PathBuf> {
    let file = tempfile::NamedTempFile::new_in(staging)?;
    match packing {
        Packing::Gzip => {
            let level = flate2::Compression::new(6);
            let mut packer = Packer::new(flate2::write::GzEncoder::new(file.as_file(), level));
            packer.image(root, metadata, templates)?;
            packer.into_inner()?.finish()?;
        }
        Packing::Zstd => {
            let mut encoder = zstd::Encoder::new(file.as_file(), 9)?;
            let cores = std::thread::available_parallelism().map_or(1, usize::from);
            encoder.multithread(u32::try_from(cores).unwrap_or(1))?;
            let mut packer = Packer::new(encoder);
            packer.image(root, metadata, templates)?;
            packer.into_inner()?.finish()?;
        }
    }
    Ok(file.into_temp_path().keep()?)
}

struct Packer<W: Write> {
    archive: tar::Builder<W>,
    /// The first name of every file that has several.
    linked: BTreeMap<(u64, u64), Vec<u8>>,
    latest: u64,
}

impl<W: Write> Packer<W> {
    fn new(to: W) -> Self {
        Self { archive: tar::Builder::new(to), linked: BTreeMap::new(), latest: u64::MAX }
    }

    fn into_inner(self) -> io::Result<W> {
        self.archive.into_inner()
    }

    fn image(
        &mut self,
        root: Option<&Path>,
        metadata: &Metadata,
        templates: &BTreeMap<String, String>,
    ) -> io::Result<()> {
        self.latest = u64::try_from(metadata.creation_date).unwrap_or(u64::MAX);
        self.own_file(b"metadata.yaml", metadata.to_yaml().as_bytes(), metadata.creation_date)?;
        for (name, content) in templates {
            let path = [b"templates/", name.as_bytes()].concat();
            self.own_file(&path, content.as_bytes(), metadata.creation_date)?;
        }
        let Some(root) = root else { return Ok(()) };
        let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let root = rustix::fs::open(root, flags, Mode::empty())?;
        self.directory(root, b"rootfs", 0)
    }

    fn own_file(&mut self, path: &[u8], content: &[u8], date: i64) -> io::Result<()> {
        let mut header = Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(u64::try_from(date).unwrap_or(0));
        self.put(&mut header, path, &[], content)
    }

    /// The directory itself, then what is in it, sorted by bytes.
    fn directory(&mut self, directory: OwnedFd, path: &[u8], depth: usize) -> io::Result<()> {
        if depth > DEPTH_MAX {
            return Err(io::Error::other("the tree is too deep"));
        }
        let stat = rustix::fs::fstat(&directory)?;
        let mut header = header(EntryType::Directory, &stat);
        let xattrs = xattrs(directory.as_fd())?;
        self.put(&mut header, &[path, b"/"].concat(), &xattrs, io::empty())?;
        let mut names = Vec::new();
        for entry in Dir::read_from(&directory)? {
            let name = OsString::from_vec(entry?.file_name().to_bytes().to_vec());
            if name != "." && name != ".." {
                names.push(name);
            }
        }
        names.sort();
        for name in names {
            let below = [path, b"/", name.as_bytes()].concat();
            self.entry(directory.as_fd(), &name, &below, depth)?;
        }
        Ok(())
    }

    fn entry(
        &mut self,
        parent: BorrowedFd<'_>,
        name: &OsString,
        path: &[u8],
        depth: usize,
    ) -> io::Result<()> {
        let stat = rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW)?;
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let safe = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
        let open = |more| rustix::fs::openat2(parent, name, flags | more, Mode::empty(), safe);
        match FileType::from_raw_mode(stat.st_mode) {
            // What is mounted in a guest is not of its image.
            FileType::Directory => match open(OFlags::DIRECTORY) {
                Err(rustix::io::Errno::XDEV) => Ok(()),
                directory => self.directory(directory?, path, depth + 1),
            },
            FileType::RegularFile => self.file(open(OFlags::empty())?, path),
            FileType::Symlink => {
                let to = rustix::fs::readlinkat(parent, name, Vec::new())?;
                let mut header = header(EntryType::Symlink, &stat);
                self.put_link(&mut header, path, to.as_bytes())
            }
            FileType::Fifo => self.put(&mut header(EntryType::Fifo, &stat), path, &[], io::empty()),
            // Sockets belong to processes, and no guest could use a device.
            FileType::Socket
            | FileType::CharacterDevice
            | FileType::BlockDevice
            | FileType::Unknown => Ok(()),
        }
    }

    fn file(&mut self, file: OwnedFd, path: &[u8]) -> io::Result<()> {
        let stat = rustix::fs::fstat(&file)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Ok(());
        }
        if stat.st_nlink > 1 {
            if let Some(first) = self.linked.get(&(stat.st_dev, stat.st_ino)).cloned() {
                return self.put_link(&mut header(EntryType::Link, &stat), path, &first);
            }
            self.linked.insert((stat.st_dev, stat.st_ino), path.to_vec());
        }
        let size = u64::try_from(stat.st_size).unwrap_or(0);
        let mut header = header(EntryType::Regular, &stat);
        header.set_size(size);
        let xattrs = xattrs(file.as_fd())?;
        // A file that shrinks while it is read would spoil the archive: zeros make up for it.
        let content = io::BufReader::with_capacity(COPY_BYTES, File::from(file))
            .chain(io::repeat(0))
            .take(size);
        self.put(&mut header, path, &xattrs, content)
    }

    fn put(
        &mut self,
        header: &mut Header,
        path: &[u8],
        xattrs: &[(String, Vec<u8>)],
        content: impl Read,
    ) -> io::Result<()> {
        let records = xattrs.iter().map(|(name, value)| (name.as_str(), value.as_slice()));
        self.clamp(header);
        if !xattrs.is_empty() {
            self.archive.append_pax_extensions(records)?;
        }
        self.archive.append_data(header, Path::new(std::ffi::OsStr::from_bytes(path)), content)
    }

    fn clamp(&self, header: &mut Header) {
        header.set_mtime(header.mtime().unwrap_or(0).min(self.latest));
    }

    fn put_link(&mut self, header: &mut Header, path: &[u8], to: &[u8]) -> io::Result<()> {
        self.clamp(header);
        let os = |bytes| Path::new(std::ffi::OsStr::from_bytes(bytes));
        self.archive.append_link(header, os(path), os(to))
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

/// Those that an image keeps, sorted.
fn xattrs(file: BorrowedFd<'_>) -> io::Result<Vec<(String, Vec<u8>)>> {
    let mut list = vec![0; XATTR_LIST_BYTES_MAX];
    let size = match rustix::fs::flistxattr(file, &mut list[..]) {
        Ok(size) => size,
        Err(rustix::io::Errno::OPNOTSUPP) => return Ok(Vec::new()),
        Err(error) => return Err(error.into()),
    };
    let names = list[..size].split(|byte| *byte == 0).filter(|name| !name.is_empty());
    let mut found = Vec::new();
    for name in names.filter_map(|name| std::str::from_utf8(name).ok()) {
        let kept = name.starts_with("user.")
            || name == "security.capability"
            || name.starts_with("system.posix_acl_");
        if !kept {
            continue;
        }
        let mut value = vec![0; XATTR_LIST_BYTES_MAX];
        let size = rustix::fs::fgetxattr(file, name, &mut value[..])?;
        value.truncate(size);
        found.push((format!("SCHILY.xattr.{name}"), value));
    }
    found.sort();
    Ok(found)
}
