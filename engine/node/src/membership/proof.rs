//! The last proof of contact, in a file for the daemon that comes next.
//!
//! It counts within the same boot of the machine only, and needs no sync: a machine that lost it has
//! lost its guests, too.

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

use serde::{Deserialize, Serialize};
use stapes_core::lease::Boottime;
use uuid::Uuid;

#[derive(Debug)]
pub(super) struct ProofFile {
    path: PathBuf,
    boot: Uuid,
}

#[derive(Serialize, Deserialize)]
struct Kept {
    boot: Uuid,
    asked_ms: u64,
}

impl ProofFile {
    pub(super) const fn new(path: PathBuf, boot: Uuid) -> Self {
        Self { path, boot }
    }

    /// When the question was sent that was answered last; `None` when that is not known. One that
    /// claims to be of the future is not believed.
    pub(super) fn read(&self, now: Boottime) -> Option<Boottime> {
        let kept: Kept = serde_json::from_slice(&fs::read(&self.path).ok()?).ok()?;
        let asked = Boottime(Duration::from_millis(kept.asked_ms));
        (kept.boot == self.boot && asked <= now).then_some(asked)
    }

    /// A proof that cannot be kept is good all the same.
    pub(super) fn write(&self, asked: Boottime) {
        // Rounded down: a proof is never younger than it was.
        let asked_ms = u64::try_from(asked.0.as_millis()).unwrap_or(0);
        let kept = Kept { boot: self.boot, asked_ms };
        if let Err(error) = replace(&self.path, &kept) {
            tracing::warn!(path = %self.path.display(), %error, "the lease is not kept in its file");
        }
    }
}

fn replace(path: &Path, kept: &Kept) -> io::Result<()> {
    let partial = path.with_extension("partial");
    fs::write(&partial, serde_json::to_vec(kept)?)?;
    fs::rename(&partial, path)
}
