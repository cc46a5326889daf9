//! One process has the log. The directory is its owner's alone.

use std::{
    fs::{DirBuilder, File, TryLockError},
    io::{Read, Write},
    os::unix::fs::{DirBuilderExt, PermissionsExt},
    path::Path,
};

use crate::{error::OpenError, segment};

const FILE_NAME: &str = "lock";

/// Makes `dir` if it is not there, and private if it is not.
pub(crate) fn own_directory(dir: &Path) -> Result<(), OpenError> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .map_err(OpenError::io("cannot make the log's directory", dir))?;
    let mode = dir
        .metadata()
        .map_err(OpenError::io("cannot look at the log's directory", dir))?
        .permissions()
        .mode();
    if mode & 0o077 != 0 {
        tracing::warn!(dir = %dir.display(), mode = format_args!("{:o}", mode & 0o777), "the log was open to others: now it is not");
        std::fs::set_permissions(dir, PermissionsExt::from_mode(0o700))
            .map_err(OpenError::io("cannot close to others the log's directory", dir))?;
    }
    Ok(())
}

/// Locks the log for as long as the file is open.
pub(crate) fn lock(dir: &Path) -> Result<File, OpenError> {
    let path = dir.join(FILE_NAME);
    let failed = || OpenError::io("cannot lock the log with", &path);
    let mut file = segment::private().create(true).open(&path).map_err(failed())?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut pid = String::new();
            file.read_to_string(&mut pid).map_err(failed())?;
            return Err(OpenError::Locked { dir: dir.to_owned(), pid: pid.trim().to_owned() });
        }
        Err(TryLockError::Error(error)) => return Err(failed()(error)),
    }
    let told = file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id()));
    if let Err(error) = told {
        // The lock is what counts, and a full disk must not keep the log from being read.
        tracing::warn!(%error, path = %path.display(), "the lock has no pid in it");
    }
    Ok(file)
}

/// Whether a process has the log in `dir` open.
pub(crate) fn is_locked(dir: &Path) -> bool {
    File::open(dir.join(FILE_NAME))
        .is_ok_and(|file| matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock)))
}
