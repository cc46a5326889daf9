//! The entries of a tar archive, one after the other.
//!
//! The tar crate reads the header blocks; what joins several blocks into one entry is here, because
//! the crate's own loop reads extension headers of any size into memory and takes a newline inside a
//! binary attribute (a capability has them) for the end of the record, and then loses the size.

use std::io::Read;

use tar::{EntryType, GnuExtSparseHeader, Header};

use super::{
    super::{limits::Limits, refusal::Refusal},
    pax::{Record, Records},
};

const BLOCK: usize = 512;
/// Of the extension headers before one entry.
const EXTENSION_BYTES_MAX: u64 = 1024 * 1024;
const SEGMENTS_MAX: usize = 65_536;
const COPY_BYTES: usize = 256 * 1024;

/// What lies between two holes.
pub(super) type Segment = (u64, u64);
/// Takes a piece of a file, and where it belongs.
pub(super) type Take<'a> = dyn FnMut(u64, &[u8]) -> Result<(), Refusal> + 'a;

#[derive(Debug)]
pub(super) struct Entry {
    pub(super) path: Vec<u8>,
    pub(super) link: Vec<u8>,
    pub(super) kind: EntryType,
    /// Of the file it makes, holes included.
    pub(super) size: u64,
    pub(super) mode: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) mtime: (i64, u32),
    pub(super) xattrs: Vec<Record>,
    /// Major and minor number of a device node.
    pub(super) device: (u32, u32),
    segments: Option<Vec<Segment>>,
}

impl Entry {
    /// The same file, but root's and with nothing special: for what is not inside the guest.
    pub(super) fn plain_file(of: &Self) -> Self {
        Self {
            path: of.path.clone(),
            link: Vec::new(),
            kind: EntryType::Regular,
            size: of.size,
            mode: 0o600,
            uid: 0,
            gid: 0,
            mtime: of.mtime,
            xattrs: Vec::new(),
            device: (0, 0),
            segments: None,
        }
    }
}

pub(super) struct Entries<R> {
    reader: R,
    /// Of the current entry's data, and the padding after it.
    left: u64,
    padding: u64,
    globals: Records,
    xattr_bytes_max: usize,
}

/// What stands before the header that it changes.
#[derive(Default)]
struct Extensions {
    path: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    records: Records,
    bytes: u64,
}

impl<R: Read> Entries<R> {
    pub(super) fn new(reader: R, limits: &Limits) -> Self {
        let globals = Records::default();
        Self { reader, left: 0, padding: 0, globals, xattr_bytes_max: limits.xattr_bytes }
    }

    pub(super) fn into_inner(self) -> R {
        self.reader
    }

    /// The next entry; what was not read of the one before is skipped.
    pub(super) fn next(&mut self) -> Result<Option<Entry>, Refusal> {
        let mut extensions = Extensions { records: self.globals.clone(), ..Default::default() };
        loop {
            self.skip()?;
            let Some(header) = self.header()? else { return Ok(None) };
            let size = header.entry_size().map_err(Refusal::reading)?;
            let kind = header.entry_type();
            let spent = &mut extensions.bytes;
            if kind == EntryType::GNULongName {
                extensions.path = Some(self.text(size, spent)?);
            } else if kind == EntryType::GNULongLink {
                extensions.link = Some(self.text(size, spent)?);
            } else if kind == EntryType::XHeader {
                extensions.records.read(&self.block_of(size, spent)?)?;
            } else if kind == EntryType::XGlobalHeader {
                let block = self.block_of(size, spent)?;
                self.globals.read(&block)?;
                extensions.records.read(&block)?;
            } else {
                return self.entry(&header, size, extensions).map(Some);
            }
        }
    }

    /// Gives the content of the current entry piece by piece with where each belongs; holes are
    /// left out.
    pub(super) fn content(&mut self, entry: &Entry, take: &mut Take<'_>) -> Result<(), Refusal> {
        let whole = [(0, entry.size)];
        let mut buffer = vec![0; COPY_BYTES.min(usize::try_from(entry.size).unwrap_or(COPY_BYTES))];
        for (start, length) in entry.segments.as_deref().unwrap_or(&whole) {
            let (mut offset, end) = (*start, start + length);
            while offset < end {
                let want = usize::try_from(end - offset).unwrap_or(COPY_BYTES).min(buffer.len());
                self.data(&mut buffer[..want])?;
                take(offset, &buffer[..want])?;
                offset += want as u64;
            }
        }
        Ok(())
    }

    /// A whole small file.
    pub(super) fn small(&mut self, entry: &Entry) -> Result<Vec<u8>, Refusal> {
        let mut bytes = Vec::new();
        self.content(entry, &mut |_, piece| {
            bytes.extend_from_slice(piece);
            Ok(())
        })?;
        Ok(bytes)
    }

    fn skip(&mut self) -> Result<(), Refusal> {
        let mut rest = self.reader.by_ref().take(self.left + self.padding);
        let wanted = rest.limit();
        let skipped = std::io::copy(&mut rest, &mut std::io::sink()).map_err(Refusal::reading)?;
        (self.left, self.padding) = (0, 0);
        if skipped == wanted { Ok(()) } else { Err(Refusal::Truncated) }
    }

    /// `None` at the end mark.
    fn header(&mut self) -> Result<Option<Header>, Refusal> {
        let mut block = [0; BLOCK];
        self.reader.read_exact(&mut block).map_err(Refusal::reading)?;
        if block.iter().all(|byte| *byte == 0) {
            return Ok(None);
        }
        let header = Header::from_byte_slice(&block).clone();
        let sum = |bytes: &[u8]| bytes.iter().map(|byte| u32::from(*byte)).sum::<u32>();
        let actual = sum(&block[..148]) + 8 * u32::from(b' ') + sum(&block[156..]);
        match header.cksum() {
            Ok(claimed) if claimed == actual => Ok(Some(header)),
            Ok(_) | Err(_) => {
                Err(Refusal::Corrupt { what: "no tar header where one must be".into() })
            }
        }
    }

    fn begin(&mut self, size: u64) -> Result<(), Refusal> {
        let padded = size.checked_next_multiple_of(BLOCK as u64);
        let padded = padded.filter(|padded| *padded < 1 << 62);
        let padded = padded.ok_or_else(|| Refusal::Corrupt { what: "impossible size".into() })?;
        (self.left, self.padding) = (size, padded - size);
        Ok(())
    }

    fn data(&mut self, buffer: &mut [u8]) -> Result<(), Refusal> {
        let left = self.left.checked_sub(buffer.len() as u64);
        self.left = left.ok_or_else(|| Refusal::Corrupt { what: "sparse map".into() })?;
        self.reader.read_exact(buffer).map_err(Refusal::reading)
    }

    fn block_of(&mut self, size: u64, spent: &mut u64) -> Result<Vec<u8>, Refusal> {
        *spent = spent.saturating_add(size);
        if *spent > EXTENSION_BYTES_MAX {
            let what = "bytes in the headers of one entry".into();
            return Err(Refusal::TooMuch { what, limit: EXTENSION_BYTES_MAX });
        }
        self.begin(size)?;
        let mut bytes = vec![0; usize::try_from(size).unwrap_or(0)];
        self.data(&mut bytes)?;
        Ok(bytes)
    }

    fn text(&mut self, size: u64, spent: &mut u64) -> Result<Vec<u8>, Refusal> {
        let mut bytes = self.block_of(size, spent)?;
        while bytes.last() == Some(&0) {
            bytes.pop();
        }
        Ok(bytes)
    }

    fn entry(
        &mut self,
        header: &Header,
        size: u64,
        extensions: Extensions,
    ) -> Result<Entry, Refusal> {
        let Extensions { path, link, records, .. } = extensions;
        let packed = records.number(b"size")?.unwrap_or(size);
        let mut entry = Entry {
            path: path
                .or_else(|| records.bytes(b"path"))
                .unwrap_or_else(|| header.path_bytes().into_owned()),
            link: link
                .or_else(|| records.bytes(b"linkpath"))
                .or_else(|| header.link_name_bytes().map(std::borrow::Cow::into_owned))
                .unwrap_or_default(),
            kind: header.entry_type(),
            size: packed,
            mode: header.mode().map_err(Refusal::reading)? & 0o7777,
            uid: id(records.number(b"uid")?, &header.as_old().uid, header.uid())?,
            gid: id(records.number(b"gid")?, &header.as_old().gid, header.gid())?,
            mtime: records.time(b"mtime")?.unwrap_or_else(|| (seconds(header.mtime()), 0)),
            xattrs: records.xattrs(self.xattr_bytes_max)?,
            device: (number(header.device_major()), number(header.device_minor())),
            segments: None,
        };
        // Only a file has data; some writers give links the size of what they point at.
        let has_data =
            matches!(entry.kind, EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse);
        if !has_data {
            entry.size = 0;
        }
        let known = has_data
            || matches!(
                entry.kind,
                EntryType::Link
                    | EntryType::Symlink
                    | EntryType::Directory
                    | EntryType::Char
                    | EntryType::Block
                    | EntryType::Fifo
            );
        self.begin(if has_data || !known { packed } else { 0 })?;
        if entry.kind == EntryType::GNUSparse {
            self.gnu_sparse(header, &mut entry)?;
        } else if records.is_sparse() {
            self.pax_sparse(&records, &mut entry)?;
        }
        // An old archive has no type for a directory, only the slash.
        if entry.kind == EntryType::Regular && entry.path.last() == Some(&b'/') {
            entry.kind = EntryType::Directory;
        }
        Ok(entry)
    }

    /// The map is in the header, and in further blocks that the size does not count.
    fn gnu_sparse(&mut self, header: &Header, entry: &mut Entry) -> Result<(), Refusal> {
        let gnu =
            header.as_gnu().ok_or_else(|| Refusal::Corrupt { what: "sparse header".into() })?;
        let mut segments = Vec::new();
        let mut add = |blocks: &[tar::GnuSparseHeader]| -> Result<(), Refusal> {
            for block in blocks.iter().filter(|block| !block.is_empty()) {
                let offset = block.offset().map_err(Refusal::reading)?;
                segments.push((offset, block.length().map_err(Refusal::reading)?));
            }
            if segments.len() > SEGMENTS_MAX {
                let what = "holes in one file".into();
                return Err(Refusal::TooMuch { what, limit: SEGMENTS_MAX as u64 });
            }
            Ok(())
        };
        add(&gnu.sparse)?;
        let mut more = gnu.is_extended();
        while more {
            let mut block = GnuExtSparseHeader::new();
            self.reader.read_exact(block.as_mut_bytes()).map_err(Refusal::reading)?;
            add(&block.sparse)?;
            more = block.is_extended();
        }
        entry.size = gnu.real_size().map_err(Refusal::reading)?;
        entry.kind = EntryType::Regular;
        entry.segments = Some(checked(segments, entry.size, self.left)?);
        Ok(())
    }

    /// Formats 0.1 (the map is a record) and 1.0 (the map stands before the data).
    fn pax_sparse(&mut self, records: &Records, entry: &mut Entry) -> Result<(), Refusal> {
        let corrupt = || Refusal::Corrupt { what: "sparse map".into() };
        entry.path = records.bytes(b"GNU.sparse.name").unwrap_or_else(|| entry.path.clone());
        let real = records.number(b"GNU.sparse.realsize")?;
        let real = if real.is_some() { real } else { records.number(b"GNU.sparse.size")? };
        entry.size = real.ok_or_else(corrupt)?;
        let numbers = match records.bytes(b"GNU.sparse.map") {
            Some(map) => numbers(&map, b',').ok_or_else(corrupt)?,
            None => self.leading_map()?,
        };
        let (pairs, []) = numbers.as_chunks::<2>() else { return Err(corrupt()) };
        let segments = pairs.iter().map(|[offset, length]| (*offset, *length)).collect();
        entry.segments = Some(checked(segments, entry.size, self.left)?);
        Ok(())
    }

    fn leading_map(&mut self) -> Result<Vec<u64>, Refusal> {
        let corrupt = || Refusal::Corrupt { what: "sparse map".into() };
        let mut text = Vec::new();
        loop {
            let mut block = [0; BLOCK];
            self.data(&mut block)?;
            text.extend_from_slice(&block);
            let mut lines = text.split(|byte| *byte == b'\n');
            let count = lines.next().and_then(|line| numbers(line, b'\n')).ok_or_else(corrupt)?;
            let count = count.first().copied().unwrap_or(0);
            if count > SEGMENTS_MAX as u64 {
                return Err(corrupt());
            }
            let wanted = usize::try_from(count).map_err(|_| corrupt())? * 2;
            // A line counts once its newline is there.
            let whole = text.iter().filter(|byte| **byte == b'\n').count();
            if whole > wanted {
                let lines = text.split(|byte| *byte == b'\n').skip(1).take(wanted);
                let map = lines.map(|line| numbers(line, b'\n')?.first().copied());
                return map.collect::<Option<_>>().ok_or_else(corrupt);
            }
        }
    }
}

/// In order, inside the file, and exactly the data that is there.
fn checked(segments: Vec<Segment>, size: u64, packed: u64) -> Result<Vec<Segment>, Refusal> {
    let mut end = 0;
    let mut bytes = 0_u64;
    for (offset, length) in &segments {
        let stop = offset.checked_add(*length).filter(|stop| *offset >= end && *stop <= size);
        end = stop.ok_or_else(|| Refusal::Corrupt { what: "sparse map".into() })?;
        bytes += length;
    }
    if bytes > packed {
        return Err(Refusal::Corrupt { what: "sparse map".into() });
    }
    Ok(segments)
}

fn numbers(text: &[u8], separator: u8) -> Option<Vec<u64>> {
    text.split(|byte| *byte == separator)
        .map(|number| std::str::from_utf8(number).ok()?.parse().ok())
        .collect()
}

fn id(record: Option<u64>, field: &[u8], header: std::io::Result<u64>) -> Result<u32, Refusal> {
    // Some writers leave root's id blank.
    let blank = field.iter().all(|byte| *byte == 0 || *byte == b' ');
    let header = if blank { Ok(0) } else { header };
    let id = record.map_or(header, Ok).map_err(Refusal::reading)?;
    // The last one means "leave it" to chown.
    u32::try_from(id)
        .ok()
        .filter(|id| *id != u32::MAX)
        .ok_or_else(|| Refusal::Corrupt { what: format!("owner {id}") })
}

/// Archives of other systems have no device numbers, or nonsense in their place.
fn number(field: std::io::Result<Option<u32>>) -> u32 {
    field.ok().flatten().unwrap_or(0)
}

fn seconds(header: std::io::Result<u64>) -> i64 {
    header.ok().and_then(|seconds| i64::try_from(seconds).ok()).unwrap_or(0)
}
