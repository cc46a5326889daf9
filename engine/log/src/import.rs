//! Importing: an archive into a log of any kind, record by record at the same place.
//!
//! For an embedded log there is a quicker way: the archive is one, so copy it and open the copy.

use std::{
    collections::BTreeMap,
    fs::File,
    io,
    path::{Path, PathBuf},
};

use bytes::Bytes;
use stapes_core::{
    ids::{Revision, Sequence},
    port::log::{AppendError, Commit, EventLog, Expected, Part, ReadError, Stored},
};

use crate::{
    frame::BadFrame,
    read,
    segment::{self, Header, Walk, Walked},
    verify::{Problem, verify},
};

/// What was imported.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Imported {
    /// Records that were appended; those that were there before are not counted.
    pub records: u64,
    pub commits: u64,
    pub head: Sequence,
}

/// Why an import ended. What was imported before stays, at its place: the same import goes on from
/// there.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    #[error("the archive {path} is damaged: {what}; nothing was imported")]
    Damaged { path: PathBuf, what: String },
    #[error(
        "the archive begins with record {first} and the log ends at {head}: import the part between first"
    )]
    Gap { first: Sequence, head: Sequence },
    #[error("record {0} of the log is not that of the archive: import into an empty log")]
    Different(Sequence),
    #[error("the commit of record {at} was not appended")]
    Append { at: Sequence, source: AppendError },
    #[error("the log cannot be read")]
    Read(#[from] ReadError),
    #[error("the archive cannot be read")]
    Io(#[from] io::Error),
}

/// Appends the archive in `dir` to `log`, which is empty or holds a beginning of the archive.
///
/// # Errors
/// See [`ImportError`].
pub async fn import(dir: impl AsRef<Path>, log: &dyn EventLog) -> Result<Imported, ImportError> {
    let dir = dir.as_ref().to_owned();
    let checked = dir.clone();
    let report = blocking(move || Ok(verify(&checked)?)).await?;
    if let Some(Problem { path, what }) = report.problems.into_iter().next() {
        return Err(ImportError::Damaged { path, what });
    }
    let head = log.head().await?;
    if report.first > head.next() {
        return Err(ImportError::Gap { first: report.first, head });
    }
    let mut imported = Imported { records: 0, commits: 0, head };
    for (_, path) in segment::list(&dir)? {
        let commits = blocking(move || commits(path)).await?;
        if commits.last().and_then(|commit| commit.last()).is_none_or(|last| last.sequence > head) {
            for commit in commits {
                import_commit(log, &commit, head, &mut imported).await?;
            }
        } else {
            for commit in commits {
                check_present(log, &commit).await?;
            }
        }
    }
    imported.head = log.head().await?;
    Ok(imported)
}

async fn import_commit(
    log: &dyn EventLog,
    records: &[Stored],
    head: Sequence,
    imported: &mut Imported,
) -> Result<(), ImportError> {
    let (first, last) = (records[0].sequence, records[records.len() - 1].sequence);
    if first <= head {
        return check_present(log, records).await;
    }
    let commit = Commit { id: records[0].commit, parts: parts(records) };
    let appended =
        log.append(commit).await.map_err(|source| ImportError::Append { at: first, source })?;
    if appended.duplicate || (appended.first, appended.last) != (first, last) {
        return Err(ImportError::Different(first));
    }
    imported.records += records.len() as u64;
    imported.commits += 1;
    Ok(())
}

/// The parts of a commit. Each stream must be where it was, so that nothing lands elsewhere, except
/// those with several records in the commit, as tasks may have.
fn parts(records: &[Stored]) -> Vec<Part> {
    let mut counts = BTreeMap::new();
    for stored in records {
        *counts.entry(stored.stream).or_insert(0) += 1;
    }
    let part = |stored: &Stored| Part {
        stream: stored.stream,
        expected: match counts[&stored.stream] {
            1 => Expected::Exact(Revision(stored.revision.0 - 1)),
            _ => Expected::Any,
        },
        payload: stored.payload.clone(),
    };
    records.iter().map(part).collect()
}

async fn check_present(log: &dyn EventLog, records: &[Stored]) -> Result<(), ImportError> {
    let first = records[0].sequence;
    if log.read(first, records.len()).await? == records {
        Ok(())
    } else {
        Err(ImportError::Different(first))
    }
}

/// All commits of one segment.
fn commits(path: PathBuf) -> Result<Vec<Vec<Stored>>, ImportError> {
    let bytes = Bytes::from(segment::load(&File::open(&path)?)?);
    let damaged = |what: String| ImportError::Damaged { path: path.clone(), what };
    let header = Header::parse(&bytes).map_err(|bad| damaged(bad.to_string()))?;
    let mut walk = Walk::new(&bytes, &header);
    let mut commits = Vec::new();
    loop {
        let at = walk.offset as usize;
        match walk.step() {
            Walked::Frame(frame) => {
                let mut records = Vec::new();
                let whole = bytes.slice(at..at + frame.size() as usize);
                read::decode(&frame, whole, frame.first, &mut records)
                    .map_err(|bad: BadFrame| damaged(bad.to_string()))?;
                commits.push(records);
            }
            Walked::Seal | Walked::Blank => return Ok(commits),
            Walked::Bad(bad) => return Err(damaged(bad.to_string())),
        }
    }
}

async fn blocking<T: Send + 'static>(
    act: impl FnOnce() -> Result<T, ImportError> + Send + 'static,
) -> Result<T, ImportError> {
    tokio::task::spawn_blocking(act).await.map_err(io::Error::other)?
}
