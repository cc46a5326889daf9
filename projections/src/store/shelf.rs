//! The place of the store: opened, put aside when it is damaged, and begun anew.
//!
//! ```text
//! DIRECTORY/index-v4.7      in use: the version of what writes it, and a count
//! DIRECTORY/aside           the last one that was damaged, to be looked at
//! ```

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::{Arc, PoisonError, RwLock},
};

use super::{Damaged, Memory, Store, disk::Disk};

/// Counts the changes of what is written or how; an older store is not read.
const VERSION: u32 = 4;
const ASIDE: &str = "aside";

#[derive(Debug)]
pub(crate) struct Shelf {
    directory: Option<PathBuf>,
    store: RwLock<Arc<dyn Store>>,
}

impl Shelf {
    /// Opens the store that is there, or a new one. Says what was wrong with the one before.
    pub(crate) fn open(directory: Option<&Path>) -> io::Result<(Self, Option<Damaged>)> {
        let Some(directory) = directory else {
            let store = RwLock::new(Arc::new(Memory::default()) as Arc<dyn Store>);
            return Ok((Self { directory: None, store }, None));
        };
        fs::create_dir_all(directory)?;
        let mut damage = None;
        let current = stores(directory)?.into_iter().next_back();
        let path = current.map_or_else(|| place(directory, 1), |(_, path)| path);
        let opened = match Disk::open(&path) {
            Ok(disk) => Ok(disk),
            Err(damaged) => {
                damage = Some(damaged);
                put_aside(directory)?;
                Disk::open(&place(directory, 1))
            }
        };
        let disk = opened.map_err(|damaged| io::Error::other(damaged.to_string()))?;
        remove_strangers(directory)?;
        let store = RwLock::new(Arc::new(disk) as Arc<dyn Store>);
        Ok((Self { directory: Some(directory.to_owned()), store }, damage))
    }

    pub(crate) fn store(&self) -> Arc<dyn Store> {
        self.store.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Puts the store aside and begins an empty one. Readers that hold the old one finish with it.
    pub(crate) fn begin_anew(&self) -> io::Result<()> {
        let fresh: Arc<dyn Store> = match &self.directory {
            None => Arc::new(Memory::default()),
            Some(directory) => {
                let count = stores(directory)?.last().map_or(0, |(count, _)| *count);
                put_aside(directory)?;
                let disk = Disk::open(&place(directory, count + 1));
                Arc::new(disk.map_err(|damaged| io::Error::other(damaged.to_string()))?)
            }
        };
        *self.store.write().unwrap_or_else(PoisonError::into_inner) = fresh;
        Ok(())
    }

    /// Writes `copy` all rows of the store and takes it instead, leaving dead space behind.
    pub(crate) fn rewrite(
        &self,
        copy: impl FnOnce(&dyn Store, &dyn Store) -> Result<(), Damaged>,
    ) -> io::Result<Result<(), Damaged>> {
        let Some(directory) = &self.directory else { return Ok(Ok(())) };
        let Some((count, old)) = stores(directory)?.into_iter().next_back() else {
            return Ok(Ok(()));
        };
        // Until it is whole it has a name that nobody opens.
        let unfinished = directory.join("unfinished");
        remove(&unfinished)?;
        {
            let fresh = match Disk::open(&unfinished) {
                Ok(fresh) => fresh,
                Err(damaged) => return Ok(Err(damaged)),
            };
            if let Err(damaged) = copy(&*self.store(), &fresh) {
                return Ok(Err(damaged));
            }
        }
        let path = place(directory, count + 1);
        fs::rename(&unfinished, &path)?;
        match Disk::open(&path) {
            Ok(fresh) => {
                *self.store.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(fresh);
                remove(&old)?;
                Ok(Ok(()))
            }
            Err(damaged) => Ok(Err(damaged)),
        }
    }
}

fn prefix() -> String {
    format!("index-v{VERSION}.")
}

fn place(directory: &Path, count: u64) -> PathBuf {
    directory.join(format!("{}{count}", prefix()))
}

/// The stores of this version, oldest first.
fn stores(directory: &Path) -> io::Result<Vec<(u64, PathBuf)>> {
    let mut stores = Vec::new();
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let count = name.strip_prefix(&prefix()).and_then(|count| count.parse().ok());
        stores.extend(count.map(|count| (count, path)));
    }
    stores.sort();
    Ok(stores)
}

/// Keeps the newest store of this version to be looked at, and no other.
fn put_aside(directory: &Path) -> io::Result<()> {
    let mut stores = stores(directory)?;
    if let Some((_, newest)) = stores.pop() {
        let aside = directory.join(ASIDE);
        remove(&aside)?;
        fs::rename(newest, aside)?;
    }
    stores.iter().try_for_each(|(_, path)| remove(path))
}

/// Removes what other versions and an interrupted rewrite left.
fn remove_strangers(directory: &Path) -> io::Result<()> {
    let mut own = stores(directory)?;
    let current = own.pop().map(|(_, path)| path);
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let ours = name.starts_with("index-v") || name == "unfinished";
        if ours && Some(&path) != current.as_ref() {
            remove(&path)?;
        }
    }
    Ok(())
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}
