//! A process that does nothing, for a host's CRIU to be tried with.

use nix::libc;

use crate::sys;

/// Nobody's, as it is on most hosts.
const SOMEBODY: u32 = 65534;

/// Closes its standard output when it is ready, and waits for its end.
pub(crate) fn main() -> i32 {
    let Ok(null) = std::fs::File::open("/dev/null") else { return 1 };
    // SAFETY: plain calls with numbers. A session of its own is all that CRIU needs to see.
    unsafe {
        libc::setsid();
        libc::chdir(c"/".as_ptr());
    }
    // As a guest's processes are somebody else's.
    if sys::become_user(SOMEBODY, SOMEBODY).is_err() {
        return 1;
    }
    // SAFETY: a plain call with numbers; the change of user has forgotten it.
    unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
    use std::os::fd::AsFd as _;
    if sys::duplicate_to(null.as_fd(), 1).is_err() {
        return 1;
    }
    drop(null);
    loop {
        // SAFETY: a plain call; it ends by a signal that ends the process.
        unsafe { libc::pause() };
    }
}
