//! Unpacks what [`super::super::baggage`] packed on another node of the cluster, in this process.
//!
//! A node is believed what a file is and whose; not where it lies. Every name is resolved below the
//! target, through no link ([`super::tree`]).

use std::{io::Read, os::fd::OwnedFd};

use rustix::fs::FileType;
use tar::EntryType;

use super::{
    super::{
        baggage::{self, DEPTH_MAX, PATH_BYTES_MAX, XATTR_BYTES_MAX},
        job::{Owners, Tally},
        limits::Limits,
        refusal::Refusal,
    },
    entries::{Entries, Entry},
    path::Inside,
    tree::Tree,
};

/// Fills the empty directory with the tree, and reads no further than its end.
pub(crate) fn unpack(from: &mut dyn Read, target: OwnedFd) -> Result<(), Refusal> {
    let limits = Limits {
        path_bytes: PATH_BYTES_MAX + 256,
        path_depth: DEPTH_MAX + 2,
        xattr_bytes: 2 * XATTR_BYTES_MAX,
        ..Limits::default()
    };
    let mut tree = Tree::new(target, Owners::Everything);
    let mut entries = Entries::new(from, &limits);
    while let Some(entry) = entries.next()? {
        let path = inside(&entry.path, &limits)?;
        take(&mut tree, &mut entries, &path, &entry, &limits)?;
    }
    tree.finish()?;
    baggage::read_end(entries.into_inner()).map_err(Refusal::reading)
}

fn inside(path: &[u8], limits: &Limits) -> Result<Inside, Refusal> {
    match Inside::parse(path, limits)?.split_first() {
        (baggage::TOP, below) => Ok(below),
        _ => Err(Refusal::Outside { path: Refusal::shown(path) }),
    }
}

fn take(
    tree: &mut Tree,
    entries: &mut Entries<&mut dyn Read>,
    path: &Inside,
    entry: &Entry,
    limits: &Limits,
) -> Result<(), Refusal> {
    let mut tally = Tally::default();
    let kind = entry.kind;
    if kind == EntryType::Directory {
        tree.directory(path, entry, &mut tally)
    } else if matches!(kind, EntryType::Regular | EntryType::GNUSparse) {
        let mut writing = tree.file(path, entry)?;
        entries.content(entry, &mut |offset, bytes| writing.put(offset, bytes))?;
        tree.finish_file(path, entry, writing, &mut tally)
    } else if kind == EntryType::Symlink {
        tree.symlink(path, entry)
    } else if kind == EntryType::Link {
        tree.hard_link(path, &inside(&entry.link, limits)?)
    } else if kind == EntryType::Char {
        tree.node(path, entry, FileType::CharacterDevice)
    } else if kind == EntryType::Block {
        tree.node(path, entry, FileType::BlockDevice)
    } else if kind == EntryType::Fifo {
        tree.node(path, entry, FileType::Fifo)
    } else {
        Err(Refusal::Corrupt { what: format!("an entry of kind {kind:?}") })
    }
}
