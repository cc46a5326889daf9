//! What CRIU calls at each of its steps: this program again, with [`DIRECTORY`] in its
//! environment. At one step it waits until somebody has decided.

use std::path::{Path, PathBuf};

use nix::libc;

use super::rendezvous::{self, Verdict};

/// Names the directory of the guest's records to the hook.
pub const DIRECTORY: &str = "STAPES_HOOK_DIRECTORY";

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
    let action = std::env::var("CRTOOLS_SCRIPT_ACTION").unwrap_or_default();
    let pid = std::env::var("CRTOOLS_INIT_PID").ok().and_then(|pid| pid.parse().ok());
    let said = match action.as_str() {
        "pre-dump" => {
            return i32::from(rendezvous::say(directory, &rendezvous::Said::Began).is_err());
        }
        "post-dump" => rendezvous::Said::Dumped,
        "post-restore" => rendezvous::Said::Restored { pid: pid.unwrap_or(0) },
        _ => return 0,
    };
    match rendezvous::say(directory, &said).and_then(|()| rendezvous::hear_verdict(directory)) {
        Ok(Verdict::GoOn) => 0,
        Ok(Verdict::Undo) | Err(_) => 1,
    }
}
