//! One archive, entry by entry: what is taken, what is left out, what ends it.

use std::collections::BTreeMap;

use tar::EntryType;

use super::{
    super::{job::Tally, limits::Limits, metadata::is_template_name, refusal::Refusal},
    entries::{Entries, Entry},
    path::Inside,
    stream::Stream,
    tree::Tree,
};

const ROOTFS: &[u8] = b"rootfs";
const DISK: &[u8] = b"rootfs.img";
const TEMPLATES: &[u8] = b"templates";
/// Of all templates: they travel to the store in one line.
const TEMPLATES_BYTES_MAX: usize = 1024 * 1024;
const METADATA: &[u8] = b"metadata.yaml";

/// What an archive may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    /// metadata.yaml, templates/, and rootfs/ or rootfs.img.
    Unified,
    /// metadata.yaml and templates/ alone.
    Metadata,
    /// The tree that becomes rootfs/.
    Root,
}

/// What was found so far, over all archives of an image.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) metadata: Option<String>,
    pub(super) rootfs: bool,
    pub(super) disk: bool,
    pub(super) tally: Tally,
    /// By file name; what is no text is counted as a stranger.
    pub(super) templates: BTreeMap<String, String>,
}

pub(super) struct Extraction<'a> {
    limits: &'a Limits,
    /// Bytes that the image's files may have in all, holes included.
    bytes_max: u64,
    /// Nothing is written without one.
    tree: Option<&'a mut Tree>,
    found: &'a mut Found,
}

impl<'a> Extraction<'a> {
    pub(super) fn new(
        limits: &'a Limits,
        tree: Option<&'a mut Tree>,
        found: &'a mut Found,
    ) -> Self {
        Self { limits, bytes_max: limits.unpacked_bytes, tree, found }
    }

    /// Takes everything from `stream`, to its end.
    pub(super) fn run(&mut self, stream: Stream, shape: Shape) -> Result<(), Refusal> {
        let mut entries = Entries::new(stream, self.limits);
        while let Some(entry) = entries.next()? {
            self.count(&entry)?;
            let path = Inside::parse(&entry.path, self.limits)?;
            if shape == Shape::Root {
                self.root(&path, &entry, &mut entries, shape)?;
                continue;
            }
            let (first, below) = path.split_first();
            match first {
                METADATA if below.is_top() => self.metadata(&entry, &mut entries)?,
                TEMPLATES => self.template(&below, &entry, &mut entries)?,
                ROOTFS if shape == Shape::Unified => {
                    self.root(&below, &entry, &mut entries, shape)?
                }
                DISK if shape == Shape::Unified && below.is_top() => {
                    self.disk(&entry, &mut entries)?
                }
                b"" => {}
                _ => self.found.tally.strangers_skipped += 1,
            }
        }
        entries.into_inner().finish()
    }

    fn count(&mut self, entry: &Entry) -> Result<(), Refusal> {
        let tally = &mut self.found.tally;
        tally.files += 1;
        tally.bytes = tally.bytes.saturating_add(entry.size);
        if tally.files > self.limits.files {
            return Err(Refusal::TooMuch { what: "files".into(), limit: self.limits.files });
        }
        if tally.bytes > self.bytes_max {
            let what = "bytes in its files".into();
            return Err(Refusal::TooMuch { what, limit: self.bytes_max });
        }
        Ok(())
    }

    fn metadata(&mut self, entry: &Entry, entries: &mut Entries<Stream>) -> Result<(), Refusal> {
        if !is_file(entry) {
            return Err(Refusal::BadMetadata { why: "it is not a regular file".into() });
        }
        if entry.size > self.limits.metadata_bytes {
            return Err(Refusal::MetadataTooLarge { limit: self.limits.metadata_bytes });
        }
        let text = String::from_utf8(entries.small(entry)?)
            .map_err(|_| Refusal::BadMetadata { why: "it is not UTF-8".into() })?;
        if self.found.metadata.replace(text).is_some() {
            return Err(Refusal::BadMetadata { why: "the archive has two of them".into() });
        }
        Ok(())
    }

    /// Only plain files in one directory, none of which can be a surprise to the daemon that reads
    /// them later.
    fn template(
        &mut self,
        below: &Inside,
        entry: &Entry,
        entries: &mut Entries<Stream>,
    ) -> Result<(), Refusal> {
        if below.is_top() && entry.kind == EntryType::Directory {
            return Ok(());
        }
        let name = std::str::from_utf8(below.as_bytes()).ok().filter(|name| is_template_name(name));
        let Some(name) = name.filter(|_| is_file(entry)) else {
            self.found.tally.strangers_skipped += 1;
            return Ok(());
        };
        if entry.size > self.limits.template_bytes {
            let what = "bytes in a template".into();
            return Err(Refusal::TooMuch { what, limit: self.limits.template_bytes });
        }
        let bytes = entries.small(entry)?;
        if let Some(tree) = self.tree.as_deref_mut() {
            let (path, plain) = (below.below(TEMPLATES), Entry::plain_file(entry));
            let mut writing = tree.file(&path, &plain)?;
            writing.put(0, &bytes)?;
            tree.finish_file(&path, &plain, writing, &mut self.found.tally)?;
        }
        let Ok(text) = String::from_utf8(bytes) else {
            self.found.tally.strangers_skipped += 1;
            return Ok(());
        };
        self.found.templates.insert(name.to_owned(), text);
        self.check_templates()
    }

    fn check_templates(&self) -> Result<(), Refusal> {
        let templates = &self.found.templates;
        let too_much = |what: &str, limit| Err(Refusal::TooMuch { what: what.into(), limit });
        if templates.len() as u64 > self.limits.templates {
            return too_much("templates", self.limits.templates);
        }
        if templates.values().map(String::len).sum::<usize>() > TEMPLATES_BYTES_MAX {
            return too_much("bytes in its templates", TEMPLATES_BYTES_MAX as u64);
        }
        Ok(())
    }

    fn disk(&mut self, entry: &Entry, entries: &mut Entries<Stream>) -> Result<(), Refusal> {
        if !is_file(entry) {
            return Err(Refusal::BadDisk { why: "it is not a regular file".into() });
        }
        self.found.disk = true;
        let plain = Entry::plain_file(entry);
        self.file(&Inside::default().below(DISK), &plain, entry, entries)
    }

    /// `below` is a path inside the guest.
    fn root(
        &mut self,
        below: &Inside,
        entry: &Entry,
        entries: &mut Entries<Stream>,
        shape: Shape,
    ) -> Result<(), Refusal> {
        // A root that is a link would lead everything after it elsewhere.
        if below.is_top() && entry.kind != EntryType::Directory {
            return Err(Refusal::Outside { path: Refusal::shown(&entry.path) });
        }
        self.found.rootfs = true;
        let path = below.below(ROOTFS);
        match entry.kind {
            EntryType::Regular | EntryType::Continuous => self.file(&path, entry, entry, entries),
            EntryType::Directory => self.write(|tree, tally| tree.directory(&path, entry, tally)),
            EntryType::Symlink => self.write(|tree, _| tree.symlink(&path, entry)),
            EntryType::Fifo => self.write(|tree, _| tree.fifo(&path, entry)),
            EntryType::Link => {
                let to = self.link_target(entry, shape)?;
                self.write(|tree, _| tree.hard_link(&path, &to))
            }
            EntryType::Char | EntryType::Block => {
                self.found.tally.devices_skipped += 1;
                Ok(())
            }
            EntryType::GNULongName
            | EntryType::GNULongLink
            | EntryType::GNUSparse
            | EntryType::XGlobalHeader
            | EntryType::XHeader => Err(unknown(entry)),
            _ => Err(unknown(entry)),
        }
    }

    /// Where a hard link leads, seen from the target directory.
    fn link_target(&self, entry: &Entry, shape: Shape) -> Result<Inside, Refusal> {
        let bad = || Refusal::BadHardLink {
            path: Refusal::shown(&entry.path),
            to: Refusal::shown(&entry.link),
        };
        let to = Inside::parse(&entry.link, self.limits).map_err(|_| bad())?;
        let to = if shape == Shape::Root { to.below(ROOTFS) } else { to };
        let (first, below) = to.split_first();
        if first == ROOTFS && !below.is_top() { Ok(to) } else { Err(bad()) }
    }

    fn file(
        &mut self,
        path: &Inside,
        made: &Entry,
        entry: &Entry,
        entries: &mut Entries<Stream>,
    ) -> Result<(), Refusal> {
        let Some(tree) = self.tree.as_deref_mut() else {
            return entries.content(entry, &mut |_, _| Ok(()));
        };
        let mut writing = tree.file(path, made)?;
        entries.content(entry, &mut |offset, bytes| writing.put(offset, bytes))?;
        tree.finish_file(path, made, writing, &mut self.found.tally)
    }

    fn write(
        &mut self,
        act: impl FnOnce(&mut Tree, &mut Tally) -> Result<(), Refusal>,
    ) -> Result<(), Refusal> {
        match self.tree.as_deref_mut() {
            Some(tree) => act(tree, &mut self.found.tally),
            None => Ok(()),
        }
    }
}

fn unknown(entry: &Entry) -> Refusal {
    let kind = char::from(entry.kind.as_byte());
    Refusal::Unsupported { what: format!("a tar entry of type {kind:?}") }
}

fn is_file(entry: &Entry) -> bool {
    matches!(entry.kind, EntryType::Regular | EntryType::Continuous)
}
