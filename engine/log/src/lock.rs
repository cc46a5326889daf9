//! One process has the log. The directory is its owner's alone.

use std::{
    fs::{DirBuilder, File, TryLockError},
    io::{Read, Seek, Write},
    os::unix::fs::{DirBuilderExt, PermissionsExt},
    path::Path,
    time::{Duration, Instant},
};

use crate::{error::OpenError, segment};

const FILE_NAME: &str = "lock";
/// How long the children of a dead holder may keep its lock.
const ORPHANED_MAX: Duration = Duration::from_secs(5);

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
    let since = Instant::now();
    loop {
        match file.try_lock() {
            Ok(()) => break,
            Err(TryLockError::Error(error)) => return Err(failed()(error)),
            Err(TryLockError::WouldBlock) => {}
        }
        let mut pid = String::new();
        file.rewind().and_then(|()| file.read_to_string(&mut pid)).map_err(failed())?;
        let pid = pid.trim().to_owned();
        // A process that was killed while it started another one leaves its files to that one,
        // until it executes its program: a moment.
        if is_alive(&pid) || since.elapsed() > ORPHANED_MAX {
            return Err(OpenError::Locked { dir: dir.to_owned(), pid });
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    file.rewind().map_err(failed())?;
    let told = file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id()));
    if let Err(error) = told {
        // The lock is what counts, and a full disk must not keep the log from being read.
        tracing::warn!(%error, path = %path.display(), "the lock has no pid in it");
    }
    Ok(file)
}

/// Whether there is such a process.
fn is_alive(pid: &str) -> bool {
    pid.parse::<u32>().is_ok() && Path::new("/proc").join(pid).exists()
}

/// Whether a process has the log in `dir` open.
pub(crate) fn is_locked(dir: &Path) -> bool {
    File::open(dir.join(FILE_NAME))
        .is_ok_and(|file| matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock)))
}
