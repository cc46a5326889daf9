//! A small map that outlives the process: one file, one line a change, all of it in memory.
//!
//! Files of their own for each row would cost a new inode a change, and where many inodes were just
//! removed ext4 looks long for a free one. A line that was cut off is none; the line after it begins
//! with the end of it.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
};

use serde::{Deserialize, Serialize, de::DeserializeOwned};

/// Lines that may be overwritten ones before the file is written anew, besides as many as rows.
const OLD_LINES_MAX: usize = 1024;

#[derive(Debug)]
pub(crate) struct Ledger<T> {
    path: PathBuf,
    state: Mutex<State<T>>,
}

#[derive(Debug)]
struct State<T> {
    file: File,
    rows: BTreeMap<String, T>,
    lines: usize,
}

#[derive(Serialize)]
struct Line<'a, T> {
    key: &'a str,
    value: Option<&'a T>,
}

#[derive(Deserialize)]
struct OwnedLine<T> {
    key: String,
    value: Option<T>,
}

impl<T: Clone + PartialEq + Serialize + DeserializeOwned> Ledger<T> {
    /// What cannot be read is told and as good as none.
    pub(crate) fn open(path: PathBuf) -> io::Result<Self> {
        let rows = load(&path)?;
        let file = write_anew(&path, &rows)?;
        let lines = rows.len();
        Ok(Self { path, state: Mutex::new(State { file, rows, lines }) })
    }

    pub(crate) fn get(&self, key: &str) -> Option<T> {
        self.state().rows.get(key).cloned()
    }

    pub(crate) fn values(&self) -> Vec<T> {
        self.state().rows.values().cloned().collect()
    }

    pub(crate) fn len(&self) -> usize {
        self.state().rows.len()
    }

    /// Puts the row in the file, then in memory; one that is so already costs nothing.
    pub(crate) fn set(&self, key: &str, value: Option<&T>) -> io::Result<()> {
        let mut state = self.state();
        if state.rows.get(key) == value {
            return Ok(());
        }
        state.file.write_all(&line(key, value)?)?;
        state.lines += 1;
        match value {
            Some(value) => state.rows.insert(key.to_owned(), value.clone()),
            None => state.rows.remove(key),
        };
        if state.lines > 2 * state.rows.len() + OLD_LINES_MAX {
            self.shorten(&mut state)?;
        }
        Ok(())
    }

    /// Removes the rows that are not to be kept.
    pub(crate) fn retain(&self, keep: impl Fn(&T) -> bool) -> io::Result<()> {
        let mut state = self.state();
        let before = state.rows.len();
        state.rows.retain(|_, value| keep(value));
        if state.rows.len() < before { self.shorten(&mut state) } else { Ok(()) }
    }

    pub(crate) fn sync(&self) -> io::Result<()> {
        self.state().file.sync_data()
    }

    fn shorten(&self, state: &mut State<T>) -> io::Result<()> {
        state.file = write_anew(&self.path, &state.rows)?;
        state.lines = state.rows.len();
        Ok(())
    }

    fn state(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn line<T: Serialize>(key: &str, value: Option<&T>) -> io::Result<Vec<u8>> {
    let mut line = vec![b'\n'];
    serde_json::to_writer(&mut line, &Line { key, value })?;
    Ok(line)
}

fn load<T: DeserializeOwned>(path: &Path) -> io::Result<BTreeMap<String, T>> {
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        Err(error) => return Err(error),
    };
    let mut rows = BTreeMap::new();
    for line in bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        match serde_json::from_slice(line) {
            Ok(OwnedLine { key, value: Some(value) }) => drop(rows.insert(key, value)),
            Ok(OwnedLine { key, value: None }) => drop(rows.remove(&key)),
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "unreadable line, ignored");
            }
        }
    }
    Ok(rows)
}

/// Replaces the file by one with these rows, open for more.
fn write_anew<T: Serialize>(path: &Path, rows: &BTreeMap<String, T>) -> io::Result<File> {
    let partial = path.with_extension("partial");
    let mut bytes = Vec::new();
    for (key, value) in rows {
        bytes.extend(line(key, Some(value))?);
    }
    fs::write(&partial, bytes)?;
    let file = File::options().append(true).open(&partial)?;
    fs::rename(&partial, path)?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(path: &Path) -> Vec<String> {
        Ledger::open(path.to_owned()).unwrap().values()
    }

    #[test]
    fn rows_are_there_after_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("words.log");
        let ledger = Ledger::open(path.clone()).unwrap();
        for (key, value) in [("a", "one"), ("b", "two"), ("a", "three"), ("c", "four")] {
            ledger.set(key, Some(&value.to_owned())).unwrap();
        }
        ledger.set("b", None).unwrap();
        assert_eq!(rows(&path), ["three", "four"]);
        let ledger: Ledger<String> = Ledger::open(path.clone()).unwrap();
        ledger.retain(|value| value != "three").unwrap();
        assert_eq!((rows(&path), ledger.get("c")), (vec!["four".to_owned()], Some("four".into())));
    }

    #[test]
    fn a_line_that_was_cut_off_leaves_the_row_as_it_was() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("words.log");
        let ledger = Ledger::open(path.clone()).unwrap();
        ledger.set("a", Some(&"one".to_owned())).unwrap();
        let whole = fs::read(&path).unwrap();
        ledger.set("a", Some(&"two".to_owned())).unwrap();
        let bytes = fs::read(&path).unwrap();
        for cut in whole.len()..bytes.len() {
            fs::write(&path, &bytes[..cut]).unwrap();
            assert_eq!(rows(&path), ["one"], "cut at {cut}");
        }
        // What follows a line that was cut off is a line of its own.
        let after = [&bytes[..bytes.len() - 1], &bytes[whole.len()..]].concat();
        fs::write(&path, after).unwrap();
        assert_eq!(rows(&path), ["two"]);
    }

    #[test]
    fn the_file_does_not_grow_for_ever() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("numbers.log");
        let ledger = Ledger::open(path.clone()).unwrap();
        for number in 0..5 * OLD_LINES_MAX {
            ledger.set("a", Some(&number)).unwrap();
        }
        let lines = fs::read(&path).unwrap().iter().filter(|byte| **byte == b'\n').count();
        assert!(lines <= OLD_LINES_MAX + 3, "{lines}");
        assert_eq!(Ledger::<usize>::open(path).unwrap().values(), [5 * OLD_LINES_MAX - 1]);
    }
}
