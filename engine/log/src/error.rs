//! Why a log cannot be opened.

use std::{io, path::PathBuf};

use stapes_core::ids::Sequence;

use crate::segment::BadHeader;

/// Nothing was changed; each says what to do.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("{dir}: another process has the log open (pid {pid}): stop it first")]
    Locked { dir: PathBuf, pid: String },
    #[error("{what} {path}")]
    Io { what: &'static str, path: PathBuf, source: io::Error },
    #[error("not an option: {0}")]
    Options(&'static str),
    /// The records between two segments are not there.
    #[error(
        "{dir}: records {from} to {to} are missing, their segments are gone: restore the files \
         from a backup"
    )]
    Missing { dir: PathBuf, from: Sequence, to: Sequence },
    #[error("{path} begins with record {says}, not with the one in its name: rename it back")]
    Misplaced { path: PathBuf, says: Sequence },
    #[error(
        "{path} holds records that an earlier segment holds too: remove the one that does not belong here"
    )]
    Overlap { path: PathBuf },
    #[error(
        "{path} does not follow from the segment before it: one of the two is of another log or was \
         changed; restore it from a backup"
    )]
    Foreign { path: PathBuf },
    #[error("{path} cannot be read: {reason}")]
    Header { path: PathBuf, reason: String },
    #[error(
        "{path} was cut: records {from} to {to} are missing at its end; restore it from a backup"
    )]
    Truncated { path: PathBuf, from: Sequence, to: Sequence },
    /// What was durable is gone.
    #[error(
        "{dir}: the log ends at record {found} and had reached {marked}: it went backwards; restore \
         it from a backup, or remove the file `head` to accept the loss"
    )]
    Regressed { dir: PathBuf, marked: Sequence, found: Sequence },
    #[error(
        "{dir}: record {at} is not the one that was written: the log was replaced by another or \
         changed; restore it from a backup"
    )]
    Rewritten { dir: PathBuf, at: Sequence },
    #[error(
        "{path} is damaged, so it cannot be told whether the log is complete: remove it to accept \
         the log as it is"
    )]
    Marker { path: PathBuf },
}

impl OpenError {
    pub(crate) fn io(
        what: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { what, path, source }
    }

    pub(crate) fn header(path: impl Into<PathBuf>) -> impl FnOnce(BadHeader) -> Self {
        let path = path.into();
        move |reason| Self::Header { path, reason: reason.to_string() }
    }
}
