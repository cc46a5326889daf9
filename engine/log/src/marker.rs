//! The marker `head`: how far the log certainly got.
//!
//! Written after every sync of the log, but itself synced only now and then: the kernel keeps it
//! over the death of the process, and a power failure loses at most what the log does not need. A
//! log that ends before its marker went backwards. Two slots are written in turn, so that one is
//! always whole.

use std::{
    fs::File,
    io,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

use stapes_core::ids::Sequence;

use crate::{
    frame::{Chain, u32_at, u64_at},
    segment,
};

pub(crate) const FILE_NAME: &str = "head";
const MAGIC: [u8; 8] = *b"STAPESHD";
const SLOT_BYTES: usize = 72;
const SLOTS_AT: [u64; 2] = [0, 4096];

/// A position that the log certainly reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Mark {
    pub sequence: Sequence,
    /// The segment that the log's end lies in.
    pub segment: Sequence,
    /// Where in it the log ends.
    pub offset: u32,
    pub chain: Chain,
}

impl Mark {
    fn encode(&self, generation: u64) -> [u8; SLOT_BYTES] {
        let mut slot = [0; SLOT_BYTES];
        slot[..8].copy_from_slice(&MAGIC);
        slot[8..16].copy_from_slice(&generation.to_le_bytes());
        slot[16..24].copy_from_slice(&self.sequence.0.to_le_bytes());
        slot[24..32].copy_from_slice(&self.segment.0.to_le_bytes());
        slot[32..36].copy_from_slice(&self.offset.to_le_bytes());
        slot[36..68].copy_from_slice(&self.chain.0);
        let checksum = crc32c::crc32c(&slot[..68]);
        slot[68..72].copy_from_slice(&checksum.to_le_bytes());
        slot
    }

    fn parse(slot: &[u8]) -> Option<(u64, Self)> {
        let whole = slot.len() == SLOT_BYTES
            && slot[..8] == MAGIC
            && crc32c::crc32c(&slot[..68]) == u32_at(slot, 68);
        whole.then(|| {
            let mark = Self {
                sequence: Sequence(u64_at(slot, 16)),
                segment: Sequence(u64_at(slot, 24)),
                offset: u32_at(slot, 32),
                chain: Chain(slot[36..68].try_into().expect("32 bytes")),
            };
            (u64_at(slot, 8), mark)
        })
    }
}

/// The open marker file.
#[derive(Debug)]
pub(crate) struct Marker {
    file: File,
    generation: u64,
}

impl Marker {
    /// The marker file in `dir` and what it says. `Ok(None)` when there is no file; an error of
    /// kind `InvalidData` when neither slot can be read.
    pub(crate) fn open(dir: &Path) -> io::Result<Option<(Self, Mark)>> {
        let file = match segment::private().open(path(dir)) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let newest = newest(&file)?;
        let Some((generation, mark)) = newest else {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "both of its slots are damaged",
            ));
        };
        Ok(Some((Self { file, generation }, mark)))
    }

    /// A marker file that says `mark`, on the disk.
    pub(crate) fn create(dir: &Path, mark: &Mark) -> io::Result<Self> {
        let temporary = dir.join(format!("{FILE_NAME}.new"));
        let file = segment::private().create(true).truncate(true).open(&temporary)?;
        let mut marker = Self { file, generation: 0 };
        marker.write(mark)?;
        marker.sync()?;
        std::fs::rename(&temporary, path(dir))?;
        segment::sync_directory(dir)?;
        Ok(marker)
    }

    /// What the marker in `dir` says, for those who only look.
    pub(crate) fn peek(dir: &Path) -> io::Result<Option<Mark>> {
        match File::open(path(dir)) {
            Ok(file) => Ok(newest(&file)?.map(|(_, mark)| mark)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    pub(crate) fn write(&mut self, mark: &Mark) -> io::Result<()> {
        self.generation += 1;
        let slot = usize::from(self.generation % 2 == 1);
        self.file.write_all_at(&mark.encode(self.generation), SLOTS_AT[slot])
    }

    pub(crate) fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }
}

fn newest(file: &File) -> io::Result<Option<(u64, Mark)>> {
    let mut newest: Option<(u64, Mark)> = None;
    for at in SLOTS_AT {
        let mut slot = Vec::new();
        segment::read_up_to(file, &mut slot, at, SLOT_BYTES)?;
        if let Some(found) = Mark::parse(&slot)
            && newest.is_none_or(|(generation, _)| generation < found.0)
        {
            newest = Some(found);
        }
    }
    Ok(newest)
}

fn path(dir: &Path) -> PathBuf {
    dir.join(FILE_NAME)
}
