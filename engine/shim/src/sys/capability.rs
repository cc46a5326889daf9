//! What even a guest's root may never do.

use nix::libc;

/// Numbers of linux/capability.h.
const SYS_MODULE: libc::c_ulong = 16;
const SYS_RAWIO: libc::c_ulong = 17;
const SYS_TIME: libc::c_ulong = 25;
const MAC_OVERRIDE: libc::c_ulong = 32;
const MAC_ADMIN: libc::c_ulong = 33;
const WAKE_ALARM: libc::c_ulong = 35;
const BLOCK_SUSPEND: libc::c_ulong = 36;

/// Dropped from every guest. In a user namespace most of them grant nothing anyway; systemd then
/// sees that it need not try.
const DROPPED: [libc::c_ulong; 7] =
    [SYS_MODULE, SYS_RAWIO, SYS_TIME, MAC_OVERRIDE, MAC_ADMIN, WAKE_ALARM, BLOCK_SUSPEND];

/// Gives up for good what a guest may not have.
///
/// # Errors
/// The kernel's.
pub fn drop_forbidden() -> std::io::Result<()> {
    for capability in DROPPED {
        // SAFETY: a plain call with numbers.
        super::answer(unsafe {
            libc::c_long::from(libc::prctl(libc::PR_CAPBSET_DROP, capability, 0, 0, 0))
        })?;
    }
    Ok(())
}
