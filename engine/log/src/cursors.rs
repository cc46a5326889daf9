//! The durable cursors: a small file that moves are appended to and that is rewritten when it has
//! grown. Not synced with each move: the kernel keeps it over the death of the process.
//!
//! ```text
//! crc32c 4 | name length 2 | sequence 8 | name
//! ```

use std::{
    collections::BTreeMap,
    fs::File,
    io,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    sync::Mutex,
};

use stapes_core::{ids::Sequence, port::log::AppendError};

use crate::{
    disk::is_full,
    frame::{u32_at, u64_at},
    segment,
};

const FILE_NAME: &str = "cursors";
const ENTRY_HEADER_BYTES: usize = 14;
const NAME_BYTES_MAX: usize = 255;
const CURSORS_MAX: usize = 10_000;
/// Rewritten when it is larger and mostly old moves.
const FILE_BYTES_MIN: u64 = 1 << 20;

#[derive(Debug)]
pub(crate) struct Cursors {
    path: PathBuf,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    file: File,
    length: u64,
    positions: BTreeMap<String, Sequence>,
}

impl Cursors {
    pub(crate) fn open(dir: &Path) -> io::Result<Self> {
        let path = dir.join(FILE_NAME);
        let file = segment::private().create(true).open(&path)?;
        let bytes = segment::load(&file)?;
        let (positions, whole) = parse(&bytes);
        if whole < bytes.len() {
            tracing::warn!(
                path = %path.display(),
                lost_bytes = bytes.len() - whole,
                "the newest moves of the cursors are lost; what was read after them is read again"
            );
            file.set_len(whole as u64)?;
        }
        let length = whole as u64;
        Ok(Self { path, state: Mutex::new(State { file, length, positions }) })
    }

    pub(crate) fn get(&self, name: &str) -> Sequence {
        let state = self.state.lock().expect("no holder panics");
        state.positions.get(name).copied().unwrap_or_default()
    }

    pub(crate) fn set(&self, name: &str, at: Sequence) -> Result<(), AppendError> {
        if name.is_empty() || name.len() > NAME_BYTES_MAX {
            return Err(AppendError::Invalid("a cursor's name has 1 to 255 bytes"));
        }
        let mut state = self.state.lock().expect("no holder panics");
        if state.positions.len() >= CURSORS_MAX && !state.positions.contains_key(name) {
            return Err(AppendError::Invalid("a log has at most 10000 cursors"));
        }
        let mut entry = Vec::new();
        encode(&mut entry, name, at);
        self.append(&mut state, &entry).map_err(|error| {
            let what = format!("{}: {error}", self.path.display());
            if is_full(&error) {
                AppendError::Full(what)
            } else {
                AppendError::Unavailable(what.into())
            }
        })?;
        state.positions.insert(name.to_owned(), at);
        Ok(())
    }

    fn append(&self, state: &mut State, entry: &[u8]) -> io::Result<()> {
        let grown = state.length > FILE_BYTES_MIN && state.length > 4 * size(&state.positions);
        if grown {
            (state.file, state.length) = rewrite(&self.path, &state.positions)?;
        }
        state.file.write_all_at(entry, state.length)?;
        state.length += entry.len() as u64;
        Ok(())
    }

    pub(crate) fn sync(&self) -> io::Result<()> {
        self.state.lock().expect("no holder panics").file.sync_data()
    }
}

fn size(positions: &BTreeMap<String, Sequence>) -> u64 {
    positions.keys().map(|name| (ENTRY_HEADER_BYTES + name.len()) as u64).sum()
}

fn rewrite(path: &Path, positions: &BTreeMap<String, Sequence>) -> io::Result<(File, u64)> {
    let mut bytes = Vec::new();
    for (name, at) in positions {
        encode(&mut bytes, name, *at);
    }
    let temporary = path.with_extension("new");
    let file = segment::private().create(true).truncate(true).open(&temporary)?;
    file.write_all_at(&bytes, 0)?;
    file.sync_data()?;
    std::fs::rename(&temporary, path)?;
    Ok((file, bytes.len() as u64))
}

fn encode(out: &mut Vec<u8>, name: &str, at: Sequence) {
    let start = out.len();
    out.extend_from_slice(&[0; 4]);
    let length = u16::try_from(name.len()).expect("names are short");
    out.extend_from_slice(&length.to_le_bytes());
    out.extend_from_slice(&at.0.to_le_bytes());
    out.extend_from_slice(name.as_bytes());
    let checksum = crc32c::crc32c(&out[start + 4..]);
    out[start..start + 4].copy_from_slice(&checksum.to_le_bytes());
}

/// The positions, and how many bytes of the file are whole entries.
fn parse(bytes: &[u8]) -> (BTreeMap<String, Sequence>, usize) {
    let mut positions = BTreeMap::new();
    let mut at = 0;
    while let Some((name, position, size)) = parse_entry(&bytes[at..]) {
        positions.insert(name, position);
        at += size;
    }
    (positions, at)
}

fn parse_entry(bytes: &[u8]) -> Option<(String, Sequence, usize)> {
    let header = bytes.get(..ENTRY_HEADER_BYTES)?;
    let size = ENTRY_HEADER_BYTES + usize::from(u16::from_le_bytes([header[4], header[5]]));
    let entry = bytes.get(..size)?;
    if crc32c::crc32c(&entry[4..]) != u32_at(entry, 0) {
        return None;
    }
    let name = std::str::from_utf8(&entry[ENTRY_HEADER_BYTES..]).ok()?;
    Some((name.to_owned(), Sequence(u64_at(entry, 6)), size))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_torn_move_loses_the_newest_only() {
        let dir = tempfile::tempdir().unwrap();
        let cursors = Cursors::open(dir.path()).unwrap();
        cursors.set("a", Sequence(1)).unwrap();
        cursors.set("b", Sequence(2)).unwrap();
        let before = std::fs::read(dir.path().join(FILE_NAME)).unwrap();
        cursors.set("a", Sequence(3)).unwrap();
        let after = std::fs::read(dir.path().join(FILE_NAME)).unwrap();
        drop(cursors);
        for length in before.len()..=after.len() {
            std::fs::write(dir.path().join(FILE_NAME), &after[..length]).unwrap();
            let cursors = Cursors::open(dir.path()).unwrap();
            let newest = if length == after.len() { 3 } else { 1 };
            assert_eq!(cursors.get("a"), Sequence(newest));
            assert_eq!(cursors.get("b"), Sequence(2));
        }
    }

    #[test]
    fn the_file_does_not_grow_for_ever() {
        let dir = tempfile::tempdir().unwrap();
        let cursors = Cursors::open(dir.path()).unwrap();
        let name = "n".repeat(NAME_BYTES_MAX);
        for at in 0..10_000 {
            cursors.set(&name, Sequence(at)).unwrap();
        }
        let length = std::fs::metadata(dir.path().join(FILE_NAME)).unwrap().len();
        assert!(length <= FILE_BYTES_MIN + 1000, "{length}");
        assert_eq!(Cursors::open(dir.path()).unwrap().get(&name), Sequence(9999));
    }
}
