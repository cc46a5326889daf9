//! A segment file: a page with the header, frames, then a seal or zeros.
//!
//! The file is as long as it will get and filled with zeros before the first frame is written: a
//! write into it changes no metadata, so that a sync is one write to the disk and not two.

use std::{
    fs::{File, OpenOptions},
    io,
    os::unix::fs::{FileExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use stapes_core::ids::Sequence;

use crate::frame::{self, BadFrame, Chain, Frame, u32_at, u64_at};

/// Frames begin here.
pub(crate) const DATA_AT: u32 = 4096;
/// The header lies here too: one flipped bit must not cost a whole segment.
const SECOND_COPY_AT: usize = 2048;
const MAGIC: [u8; 8] = *b"STAPESLG";
const VERSION: u32 = 1;
const HEADER_BYTES: usize = 64;
const NAME_DIGITS: usize = 20;

/// How a segment begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub first: Sequence,
    pub salt: u64,
    /// The hash of the log before this segment.
    pub chain: Chain,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BadHeader {
    #[error("its header is damaged")]
    Damaged,
    #[error("it is of format {0}, and this program reads format {VERSION}: use a newer program")]
    Version(u32),
}

impl Header {
    pub(crate) fn new(first: Sequence, chain: Chain) -> Self {
        Self { first, salt: uuid::Uuid::new_v4().as_u64_pair().0, chain }
    }

    pub(crate) fn encode(&self) -> [u8; DATA_AT as usize] {
        let mut page = [0; DATA_AT as usize];
        let mut header = [0; HEADER_BYTES];
        header[..8].copy_from_slice(&MAGIC);
        header[8..12].copy_from_slice(&VERSION.to_le_bytes());
        header[16..24].copy_from_slice(&self.first.0.to_le_bytes());
        header[24..32].copy_from_slice(&self.salt.to_le_bytes());
        header[32..64].copy_from_slice(&self.chain.0);
        let checksum = crc32c::crc32c(&header);
        header[12..16].copy_from_slice(&checksum.to_le_bytes());
        page[..HEADER_BYTES].copy_from_slice(&header);
        page[SECOND_COPY_AT..SECOND_COPY_AT + HEADER_BYTES].copy_from_slice(&header);
        page
    }

    pub(crate) fn parse(page: &[u8]) -> Result<Self, BadHeader> {
        let copies = [0, SECOND_COPY_AT].map(|at| Self::parse_copy(page.get(at..)?));
        copies.into_iter().flatten().next().unwrap_or(Err(BadHeader::Damaged))
    }

    /// `None` when this copy is damaged.
    fn parse_copy(bytes: &[u8]) -> Option<Result<Self, BadHeader>> {
        let mut header: [u8; HEADER_BYTES] = bytes.get(..HEADER_BYTES)?.try_into().ok()?;
        let checksum = u32_at(&header, 12);
        header[12..16].fill(0);
        if header[..8] != MAGIC || crc32c::crc32c(&header) != checksum {
            return None;
        }
        let version = u32_at(&header, 8);
        if version != VERSION {
            return Some(Err(BadHeader::Version(version)));
        }
        Some(Ok(Self {
            first: Sequence(u64_at(&header, 16)),
            salt: u64_at(&header, 24),
            chain: Chain(header[32..64].try_into().expect("32 bytes")),
        }))
    }

    pub(crate) fn read(file: &File) -> io::Result<Result<Self, BadHeader>> {
        let mut page = Vec::with_capacity(DATA_AT as usize);
        read_up_to(file, &mut page, 0, DATA_AT as usize)?;
        Ok(Self::parse(&page))
    }
}

pub(crate) fn file_name(first: Sequence) -> String {
    format!("seg-{:0NAME_DIGITS$}.log", first.0)
}

/// The segments in `dir` by the first sequence in their names, in order.
pub(crate) fn list(dir: &Path) -> io::Result<Vec<(Sequence, PathBuf)>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        let name = entry.file_name();
        let digits = name
            .to_str()
            .and_then(|name| name.strip_prefix("seg-")?.strip_suffix(".log"))
            .filter(|digits| digits.len() == NAME_DIGITS);
        if let Some(first) = digits.and_then(|digits| digits.parse().ok()) {
            found.push((Sequence(first), entry.path()));
        }
    }
    found.sort();
    Ok(found)
}

/// Opens a file that only its owner may read.
pub(crate) fn private() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true).write(true).mode(0o600);
    options
}

pub(crate) fn sync_directory(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

/// Appends up to `length` bytes from `offset` on to `into`, fewer only at the end of the file.
pub(crate) fn read_up_to(
    file: &File,
    into: &mut Vec<u8>,
    offset: u64,
    length: usize,
) -> io::Result<()> {
    let start = into.len();
    into.resize(start + length, 0);
    let mut filled = 0;
    while filled < length {
        match file.read_at(&mut into[start + filled..], offset + filled as u64) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    into.truncate(start + filled);
    Ok(())
}

/// The whole file in memory: for recovery, verification and import, one segment at a time.
pub(crate) fn load(file: &File) -> io::Result<Vec<u8>> {
    let length = usize::try_from(file.metadata()?.len()).map_err(io::Error::other)?;
    let mut bytes = Vec::new();
    read_up_to(file, &mut bytes, 0, length)?;
    Ok(bytes)
}

/// Goes through a loaded segment frame by frame and checks that each follows the one before.
#[derive(Debug)]
pub(crate) struct Walk<'a> {
    bytes: &'a [u8],
    salt: u64,
    pub offset: u32,
    pub next: Sequence,
    pub chain: Chain,
}

/// What lies next in a segment.
#[derive(Debug)]
pub(crate) enum Walked<'a> {
    Frame(Frame<'a>),
    /// The segment was ended on purpose.
    Seal,
    /// Nothing was written from here on.
    Blank,
    Bad(BadFrame),
}

impl<'a> Walk<'a> {
    pub(crate) fn new(bytes: &'a [u8], header: &Header) -> Self {
        Self { bytes, salt: header.salt, offset: DATA_AT, next: header.first, chain: header.chain }
    }

    pub(crate) fn step(&mut self) -> Walked<'a> {
        let rest = self.bytes.get(self.offset as usize..).unwrap_or_default();
        let frame = match Frame::parse(rest, self.salt, self.offset) {
            Ok(frame) => frame,
            Err(_) if is_blank(rest) => return Walked::Blank,
            Err(bad) => return Walked::Bad(bad),
        };
        if frame.first != self.next {
            return Walked::Bad(BadFrame::Sequence);
        }
        if !frame.follows(self.chain) {
            return Walked::Bad(BadFrame::Chain);
        }
        if frame.is_seal() {
            return Walked::Seal;
        }
        if let Some(Err(bad)) = frame.records().find(Result::is_err) {
            return Walked::Bad(bad);
        }
        self.chain = frame.chain;
        self.next = frame.last().next();
        self.offset += frame.size();
        Walked::Frame(frame)
    }

    /// The next valid frame after a bad one, and where its write began.
    pub(crate) fn valid_after(&self) -> Option<(u32, u32)> {
        frame::find_frame(self.bytes, self.salt, self.offset as usize + 1)
    }
}

fn is_blank(bytes: &[u8]) -> bool {
    bytes.chunks(4096).all(|chunk| chunk.iter().fold(0, |any, byte| any | byte) == 0)
}
