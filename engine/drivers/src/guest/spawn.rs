//! Starting a shim: one clone3, straight into its cgroup.
//!
//! The standard library cannot start a process in a cgroup, and one that moves itself there later
//! waits for a grace period of RCU. The child shares the daemon's memory until it has executed the
//! shim (like vfork), so that a large daemon starts one as fast as a small one.

use std::{
    ffi::{CStr, CString},
    io,
    os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd, RawFd},
    ptr,
};

use nix::libc;

const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;
const CLONE_CLEAR_SIGHAND: u64 = 0x1_0000_0000;
const STACK_BYTES: usize = 64 * 1024;

#[repr(C)]
#[derive(Default)]
struct CloneArgs {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
    set_tid: u64,
    set_tid_size: u64,
    cgroup: u64,
}

/// All that the child needs, made before it exists: it may not allocate.
#[repr(C)]
struct Plan {
    program: RawFd,
    arguments: *const *const libc::c_char,
    variables: *const *const libc::c_char,
    descriptors: [RawFd; 3],
    /// Where the child says why it failed; the memory is shared.
    errno: i32,
}

/// Starts the open file `program` with these standard descriptors, in this cgroup.
pub(super) fn spawn(
    program: BorrowedFd<'_>,
    arguments: &[&CStr],
    descriptors: [BorrowedFd<'_>; 3],
    cgroup: BorrowedFd<'_>,
) -> io::Result<OwnedFd> {
    let arguments: Vec<CString> = arguments.iter().map(|&one| one.to_owned()).collect();
    let mut pointers: Vec<*const libc::c_char> = arguments.iter().map(|one| one.as_ptr()).collect();
    pointers.push(ptr::null());
    let variables = [ptr::null()];
    let descriptors = descriptors.map(|one| one.as_raw_fd());
    if descriptors.iter().any(|number| *number < 3) {
        return Err(io::Error::other("a standard descriptor of the daemon is closed"));
    }
    let mut plan = Plan {
        program: program.as_raw_fd(),
        arguments: pointers.as_ptr(),
        variables: variables.as_ptr(),
        descriptors,
        errno: 0,
    };
    let pidfd = with_signals_blocked(|| clone_and_execute(&mut plan, cgroup))?;
    match plan.errno {
        0 => Ok(pidfd),
        errno => {
            let _ = super::reap(&pidfd);
            Err(io::Error::from_raw_os_error(errno))
        }
    }
}

/// A handler of the daemon's must not run in the child, which shares its memory.
fn with_signals_blocked<T>(act: impl FnOnce() -> T) -> T {
    // SAFETY: the sets are initialised by the calls that fill them, and live across all calls.
    unsafe {
        let (mut all, mut before) = (std::mem::zeroed(), std::mem::zeroed());
        libc::sigfillset(&raw mut all);
        libc::pthread_sigmask(libc::SIG_SETMASK, &raw const all, &raw mut before);
        let answer = act();
        libc::pthread_sigmask(libc::SIG_SETMASK, &raw const before, ptr::null_mut());
        answer
    }
}

fn clone_and_execute(plan: &mut Plan, cgroup: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    let mut stack = vec![0_u128; STACK_BYTES / size_of::<u128>()];
    let mut pidfd: RawFd = -1;
    let flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::CLONE_PIDFD;
    let arguments = CloneArgs {
        flags: u64::from(flags.unsigned_abs()) | CLONE_INTO_CGROUP | CLONE_CLEAR_SIGHAND,
        pidfd: (&raw mut pidfd) as u64,
        exit_signal: u64::from(libc::SIGCHLD.unsigned_abs()),
        stack: stack.as_mut_ptr() as u64,
        stack_size: STACK_BYTES as u64,
        cgroup: u64::from(cgroup.as_raw_fd().unsigned_abs()),
        ..CloneArgs::default()
    };
    // SAFETY: the child runs `execute` on a stack of its own and never returns; CLONE_VFORK keeps
    // this thread waiting meanwhile, so that stack, plan and arguments outlive its use of them.
    let returned = unsafe { clone_onto_stack(&raw const arguments, ptr::from_mut(plan)) };
    if returned < 0 {
        let errno = i32::try_from(-returned).unwrap_or(libc::EINVAL);
        return Err(io::Error::from_raw_os_error(errno));
    }
    // SAFETY: the kernel made this descriptor for us.
    Ok(unsafe { OwnedFd::from_raw_fd(pidfd) })
}

/// The child: nothing here allocates, locks or unwinds.
extern "C" fn execute(plan: *mut Plan) -> ! {
    // SAFETY: the plan is the waiting parent's; only system calls are made, and the error is
    // written where the parent reads it after this process has left its memory.
    unsafe {
        for (number, descriptor) in [0, 1, 2].into_iter().zip((*plan).descriptors) {
            if libc::dup2(descriptor, number) < 0 {
                (*plan).errno = *libc::__errno_location();
                libc::_exit(127);
            }
        }
        libc::syscall(
            libc::SYS_execveat,
            (*plan).program,
            c"".as_ptr(),
            (*plan).arguments,
            (*plan).variables,
            libc::AT_EMPTY_PATH,
        );
        (*plan).errno = *libc::__errno_location();
        libc::_exit(127)
    }
}

/// # Safety
/// `arguments` names a stack that nobody uses, and shares the memory with `CLONE_VFORK`.
#[cfg(target_arch = "x86_64")]
unsafe fn clone_onto_stack(arguments: *const CloneArgs, plan: *mut Plan) -> i64 {
    let returned: i64;
    // SAFETY: the parent's registers and stack are as before but for those named; the child goes
    // on at the call, with its own stack (aligned, as the kernel was told), and does not return.
    unsafe {
        std::arch::asm!(
            "syscall",
            "test rax, rax",
            "jnz 2f",
            "xor ebp, ebp",
            "mov rdi, r12",
            "call r13",
            "ud2",
            "2:",
            inlateout("rax") libc::SYS_clone3 => returned,
            in("rdi") arguments,
            in("rsi") size_of::<CloneArgs>(),
            in("r12") plan,
            in("r13") execute as extern "C" fn(*mut Plan) -> !,
            lateout("rcx") _,
            lateout("r11") _,
        );
    }
    returned
}

/// # Safety
/// As above.
#[cfg(target_arch = "aarch64")]
unsafe fn clone_onto_stack(arguments: *const CloneArgs, plan: *mut Plan) -> i64 {
    let returned: i64;
    // SAFETY: as above.
    unsafe {
        std::arch::asm!(
            "svc #0",
            "cbnz x0, 2f",
            "mov x29, xzr",
            "mov x0, x21",
            "blr x22",
            "brk #1",
            "2:",
            in("x8") libc::SYS_clone3,
            inlateout("x0") arguments => returned,
            in("x1") size_of::<CloneArgs>(),
            in("x21") plan,
            in("x22") execute as extern "C" fn(*mut Plan) -> !,
        );
    }
    returned
}

/// The shim's program, opened once: a daemon starts the shims of its own version even while an
/// upgrade replaces the file.
#[derive(Debug)]
pub(super) struct Programs {
    shim: OwnedFd,
    /// A sealed copy in memory for privileged guests, whose root could otherwise write to the
    /// host's file through `/proc/<pid>/exe`.
    sealed: std::sync::OnceLock<OwnedFd>,
}

impl Programs {
    pub(super) fn open(path: &std::path::Path) -> io::Result<Self> {
        Ok(Self { shim: std::fs::File::open(path)?.into(), sealed: std::sync::OnceLock::new() })
    }

    pub(super) fn shim(&self, privileged: bool) -> io::Result<BorrowedFd<'_>> {
        use std::os::fd::AsFd as _;
        if !privileged {
            return Ok(self.shim.as_fd());
        }
        if let Some(sealed) = self.sealed.get() {
            return Ok(sealed.as_fd());
        }
        let sealed = sealed_copy(&self.shim)?;
        Ok(self.sealed.get_or_init(|| sealed).as_fd())
    }
}

fn sealed_copy(original: &OwnedFd) -> io::Result<OwnedFd> {
    use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let mut copy = std::fs::File::from(memfd_create("stapes-shim", flags)?);
    io::copy(&mut std::fs::File::from(original.try_clone()?), &mut copy)?;
    let seals = SealFlags::WRITE | SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL;
    fcntl_add_seals(&copy, seals)?;
    // Reopened for reading, for a file that is open for writing cannot be executed.
    Ok(std::fs::File::open(format!("/proc/self/fd/{}", copy.as_raw_fd()))?.into())
}
