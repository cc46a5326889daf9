//! What CRIU calls at each of its steps: this program again, with [`DIRECTORY`] in its
//! environment. At one step it waits until somebody has decided.

use std::{
    fs::File,
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use nix::libc;

use super::{
    held::DUMP_LOG,
    ports,
    rendezvous::{self, Said, Verdict},
    unread,
};
use crate::{
    fault::{Doing as _, Fault, Result},
    record,
    spec::Spec,
};

/// Names the directory of the guest's records to the hook.
pub const DIRECTORY: &str = "STAPES_HOOK_DIRECTORY";

/// Names to the hook what CRIU does: `dump` or `restore`.
pub(super) const ACTION: &str = "STAPES_HOOK_ACTION";

/// The directory, if this process is a hook.
#[must_use]
pub fn directory() -> Option<PathBuf> {
    std::env::var_os(DIRECTORY).map(PathBuf::from)
}

/// The hook's exit status: 0 lets CRIU go on with what it does, 1 makes it undo it.
#[must_use]
pub fn main(directory: &Path) -> i32 {
    // A hook without its CRIU would wait for nothing.
    // SAFETY: a plain call with numbers.
    unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
    let step = std::env::var("CRTOOLS_SCRIPT_ACTION").unwrap_or_default();
    let dumps = std::env::var(ACTION).is_ok_and(|action| action == "dump");
    let pid = std::env::var("CRTOOLS_INIT_PID").ok().and_then(|pid| pid.parse().ok());
    let said = match step.as_str() {
        "network-lock" => return i32::from(lock(directory, pid.unwrap_or(0)).is_err()),
        "network-unlock" if dumps => return i32::from(unlock(directory).is_err()),
        "post-dump" => Said::Dumped,
        "post-restore" => Said::Restored { pid: pid.unwrap_or(0) },
        _ => return 0,
    };
    match rendezvous::say(directory, &said).and_then(|()| rendezvous::hear_verdict(directory)) {
        Ok(Verdict::GoOn) => 0,
        Ok(Verdict::Undo) | Err(_) => 1,
    }
}

/// Every process stands still and no socket was looked at yet: what the guest said last has left, and
/// what arrives from now on would be acknowledged and lost.
fn lock(directory: &Path, init: i32) -> Result<()> {
    let words = "close the guest's interfaces";
    let closed = rendezvous::say(directory, &Said::Began).doing(words).and_then(|()| {
        if !unread::sockets(init).is_empty() {
            // CRIU would say so as well, after most of its work.
            return Err(Fault::because("netlink", unread::COMPLAINT));
        }
        ports::close(&spec(directory)?.nics)
    });
    closed.inspect_err(|fault| {
        // Of a hook CRIU tells only that it failed.
        let _ = complain(fault);
    })
}

/// CRIU gives up, and no process runs on yet: an answer that would not leave would be sent again only
/// after a second, were the guest then written down after all.
fn unlock(directory: &Path) -> Result<()> {
    ports::open(&spec(directory)?.nics)
}

fn spec(directory: &Path) -> Result<Spec> {
    let words = "read the guest's spec";
    let records = File::open(directory).doing(words)?;
    let spec: Option<Spec> = record::read(&records, record::SPEC).doing(words)?;
    spec.ok_or_else(|| Fault::because(words, "it is gone"))
}

/// Says it where CRIU says what went wrong.
fn complain(fault: &Fault) -> io::Result<()> {
    let images = std::env::var_os("CRTOOLS_IMAGE_DIR").ok_or(io::ErrorKind::NotFound)?;
    let mut log = File::options().append(true).open(PathBuf::from(images).join(DUMP_LOG))?;
    writeln!(log, "Error (hook): {fault}")
}
