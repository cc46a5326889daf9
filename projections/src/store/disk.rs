//! Rows on disk, in sled.
//!
//! sled 0.34 is quick to write and calls itself beta, so it is kept at arm's length: one tree, so
//! that a batch is atomic; synced only when a batch says so; a checksum with every value, read or
//! not trusted; every call guarded against panics. It never holds what is not in the log.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
};

use super::{Batch, Damaged, Key, Span, Store, Value};

/// Of sled's page cache; what is asked often is in memory anyway.
const CACHE_BYTES: u64 = 32 << 20;
const CHECKSUM_BYTES: usize = 4;

#[derive(Debug)]
pub(super) struct Disk {
    db: sled::Db,
}

impl Disk {
    pub(super) fn open(path: &Path) -> Result<Self, Damaged> {
        guarded(|| {
            let config = sled::Config::new().path(path).flush_every_ms(None);
            config.cache_capacity(CACHE_BYTES).open()
        })
        .map(|db| Self { db })
    }
}

/// Runs what may fail or panic.
fn guarded<T>(act: impl FnOnce() -> sled::Result<T>) -> Result<T, Damaged> {
    match catch_unwind(AssertUnwindSafe(act)) {
        Ok(Ok(done)) => Ok(done),
        Ok(Err(error)) => Err(Damaged(error.to_string())),
        Err(_) => Err(Damaged("sled panicked".to_owned())),
    }
}

fn sealed(key: &[u8], value: &[u8]) -> Vec<u8> {
    let mut sealed = Vec::with_capacity(CHECKSUM_BYTES + value.len());
    sealed.extend(checksum(key, value).to_le_bytes());
    sealed.extend(value);
    sealed
}

fn checksum(key: &[u8], value: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(key), value)
}

fn opened(key: &[u8], sealed: &[u8]) -> Result<Value, Damaged> {
    let wrong = || Damaged(format!("a row of {} bytes has the wrong checksum", sealed.len()));
    let (sum, value) = sealed.split_first_chunk::<CHECKSUM_BYTES>().ok_or_else(wrong)?;
    if u32::from_le_bytes(*sum) == checksum(key, value) { Ok(value.to_vec()) } else { Err(wrong()) }
}

fn row((key, value): (sled::IVec, sled::IVec)) -> Result<(Key, Value), Damaged> {
    let value = opened(&key, &value)?;
    Ok((key.to_vec(), value))
}

impl Store for Disk {
    fn get(&self, key: &[u8]) -> Result<Option<Value>, Damaged> {
        let value = guarded(|| self.db.get(key))?;
        value.map(|value| opened(key, &value)).transpose()
    }

    fn first(&self, span: &Span, count: usize) -> Result<Vec<(Key, Value)>, Damaged> {
        if span.from >= span.to {
            return Ok(Vec::new());
        }
        let rows = self.db.range(span.from.clone()..span.to.clone()).take(count);
        let rows: Vec<_> = guarded(|| rows.collect())?;
        rows.into_iter().map(row).collect()
    }

    fn last(&self, span: &Span, count: usize) -> Result<Vec<(Key, Value)>, Damaged> {
        if span.from >= span.to {
            return Ok(Vec::new());
        }
        let rows = self.db.range(span.from.clone()..span.to.clone()).rev().take(count);
        let rows: Vec<_> = guarded(|| rows.collect())?;
        rows.into_iter().map(row).collect()
    }

    fn write(&self, batch: Batch) -> Result<(), Damaged> {
        let mut rows = sled::Batch::default();
        for (key, value) in batch.rows {
            match value {
                Some(value) => rows.insert(key.as_slice(), sealed(&key, &value)),
                None => rows.remove(key),
            }
        }
        guarded(|| {
            self.db.apply_batch(rows)?;
            self.db.flush().map(drop)
        })
    }

    fn size(&self) -> u64 {
        guarded(|| self.db.size_on_disk()).unwrap_or_default()
    }
}
