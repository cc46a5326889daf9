//! The system calls that the helper may make. Everything else answers ENOSYS, so that a C library
//! which tries something newer falls back instead of dying. Calls of another architecture kill.

use std::collections::BTreeMap;

use nix::libc;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule,
};

use super::super::refusal::Refusal;

/// Files below descriptors that are open, memory, threads, time. No sockets, mounts, namespaces,
/// tracing, keys, modules, BPF, io_uring; no mknod of a device.
const ALLOWED: &[i64] = &[
    // Reading and writing.
    libc::SYS_read,
    libc::SYS_write,
    libc::SYS_pread64,
    libc::SYS_pwrite64,
    libc::SYS_readv,
    libc::SYS_writev,
    libc::SYS_lseek,
    libc::SYS_close,
    libc::SYS_close_range,
    libc::SYS_fcntl,
    libc::SYS_dup,
    libc::SYS_dup3,
    libc::SYS_pipe2,
    libc::SYS_ppoll,
    libc::SYS_fadvise64,
    libc::SYS_fallocate,
    libc::SYS_ftruncate,
    libc::SYS_fsync,
    libc::SYS_fdatasync,
    libc::SYS_copy_file_range,
    libc::SYS_sendfile,
    libc::SYS_splice,
    // Files by name.
    libc::SYS_openat,
    libc::SYS_openat2,
    libc::SYS_mkdirat,
    libc::SYS_unlinkat,
    libc::SYS_linkat,
    libc::SYS_symlinkat,
    libc::SYS_readlinkat,
    libc::SYS_renameat2,
    libc::SYS_fstat,
    libc::SYS_newfstatat,
    libc::SYS_statx,
    libc::SYS_fstatfs,
    libc::SYS_statfs,
    libc::SYS_getdents64,
    libc::SYS_faccessat,
    libc::SYS_faccessat2,
    libc::SYS_getcwd,
    libc::SYS_chdir,
    libc::SYS_fchdir,
    libc::SYS_umask,
    libc::SYS_truncate,
    // Owners, modes, times, attributes.
    libc::SYS_fchown,
    libc::SYS_fchownat,
    libc::SYS_fchmod,
    libc::SYS_fchmodat,
    libc::SYS_utimensat,
    libc::SYS_fsetxattr,
    libc::SYS_setxattr,
    libc::SYS_lsetxattr,
    libc::SYS_fgetxattr,
    libc::SYS_getxattr,
    libc::SYS_lgetxattr,
    // Memory.
    libc::SYS_mmap,
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_mprotect,
    libc::SYS_madvise,
    libc::SYS_brk,
    // Threads, signals, time, self.
    libc::SYS_futex,
    libc::SYS_set_robust_list,
    libc::SYS_get_robust_list,
    libc::SYS_rseq,
    libc::SYS_set_tid_address,
    libc::SYS_sched_yield,
    libc::SYS_sched_getaffinity,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_rt_sigtimedwait,
    libc::SYS_sigaltstack,
    libc::SYS_restart_syscall,
    libc::SYS_clock_gettime,
    libc::SYS_clock_nanosleep,
    libc::SYS_nanosleep,
    libc::SYS_gettimeofday,
    libc::SYS_setitimer,
    libc::SYS_getrandom,
    libc::SYS_getpid,
    libc::SYS_gettid,
    libc::SYS_getppid,
    libc::SYS_getuid,
    libc::SYS_geteuid,
    libc::SYS_getgid,
    libc::SYS_getegid,
    libc::SYS_tgkill,
    libc::SYS_kill,
    libc::SYS_uname,
    libc::SYS_sysinfo,
    libc::SYS_prlimit64,
    libc::SYS_getrlimit,
    libc::SYS_exit,
    libc::SYS_exit_group,
    libc::SYS_ioctl,
    libc::SYS_prctl,
];

/// What older C libraries use on this architecture only.
#[cfg(target_arch = "x86_64")]
const LEGACY: &[i64] = &[
    libc::SYS_open,
    libc::SYS_stat,
    libc::SYS_lstat,
    libc::SYS_access,
    libc::SYS_readlink,
    libc::SYS_mkdir,
    libc::SYS_rmdir,
    libc::SYS_unlink,
    libc::SYS_link,
    libc::SYS_symlink,
    libc::SYS_rename,
    libc::SYS_chmod,
    libc::SYS_chown,
    libc::SYS_lchown,
    libc::SYS_utimes,
    libc::SYS_utime,
    libc::SYS_pipe,
    libc::SYS_dup2,
    libc::SYS_poll,
    libc::SYS_arch_prctl,
    libc::SYS_time,
    libc::SYS_getdents,
    libc::SYS_alarm,
];
#[cfg(not(target_arch = "x86_64"))]
const LEGACY: &[i64] = &[];

/// Only to run another program.
const PROGRAMS: &[i64] = &[libc::SYS_execve, libc::SYS_wait4, libc::SYS_waitid];

pub(super) fn install(programs: bool) -> Result<(), Refusal> {
    let act = || -> Result<(), seccompiler::Error> {
        let arch = std::env::consts::ARCH.try_into()?;
        let mut rules: BTreeMap<i64, Vec<SeccompRule>> = BTreeMap::new();
        let more = if programs { PROGRAMS } else { &[] };
        for call in ALLOWED.iter().chain(LEGACY).chain(more) {
            rules.insert(*call, Vec::new());
        }
        rules.insert(libc::SYS_clone, vec![without_namespaces()?]);
        #[cfg(target_arch = "x86_64")]
        {
            rules.insert(libc::SYS_mknod, pipes_and_sockets(1)?);
            if programs {
                rules.insert(libc::SYS_vfork, Vec::new());
            }
        }
        rules.insert(libc::SYS_mknodat, pipes_and_sockets(2)?);
        let unknown = SeccompAction::Errno(libc::ENOSYS.unsigned_abs());
        let filter = SeccompFilter::new(rules, unknown, SeccompAction::Allow, arch)?;
        let program: BpfProgram = filter.try_into()?;
        seccompiler::apply_filter(&program)
    };
    act().map_err(|error| Refusal::Unconfined { why: format!("seccomp: {error}") })
}

fn without_namespaces() -> Result<SeccompRule, seccompiler::BackendError> {
    let namespaces = libc::CLONE_NEWNS
        | libc::CLONE_NEWUSER
        | libc::CLONE_NEWPID
        | libc::CLONE_NEWNET
        | libc::CLONE_NEWIPC
        | libc::CLONE_NEWUTS
        | libc::CLONE_NEWCGROUP;
    let none = SeccompCmpOp::MaskedEq(u64::from(namespaces.unsigned_abs()));
    SeccompRule::new(vec![SeccompCondition::new(0, SeccompCmpArgLen::Qword, none, 0)?])
}

/// Devices are refused by the kind in the mode, which is argument `mode_at`.
fn pipes_and_sockets(mode_at: u8) -> Result<Vec<SeccompRule>, seccompiler::BackendError> {
    let kinds = [libc::S_IFIFO, libc::S_IFSOCK, libc::S_IFREG];
    let rule = |kind: u32| {
        let is = SeccompCmpOp::MaskedEq(u64::from(libc::S_IFMT));
        let condition =
            SeccompCondition::new(mode_at, SeccompCmpArgLen::Dword, is, u64::from(kind))?;
        SeccompRule::new(vec![condition])
    };
    kinds.into_iter().map(rule).collect()
}

#[cfg(test)]
mod tests {
    use nix::{errno::Errno, sys::stat};

    #[test]
    fn no_sockets_devices_or_namespaces() {
        let directory = tempfile::tempdir().unwrap();
        let walled = std::thread::spawn(move || {
            super::install(false).unwrap();
            let unknown = Some(Errno::ENOSYS);
            assert_eq!(
                std::net::UdpSocket::bind("127.0.0.1:0").unwrap_err().raw_os_error(),
                unknown.map(|it| it as i32)
            );
            assert_eq!(nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWUSER).err(), unknown);
            let null = stat::makedev(1, 3);
            let mode = stat::Mode::S_IRUSR;
            let made =
                |name: &str, kind| stat::mknod(&directory.path().join(name), kind, mode, null);
            assert_eq!(made("device", stat::SFlag::S_IFCHR).err(), unknown);
            assert_eq!(made("disk", stat::SFlag::S_IFBLK).err(), unknown);
            made("pipe", stat::SFlag::S_IFIFO).unwrap();
            std::fs::write(directory.path().join("file"), "x").unwrap();
        });
        walled.join().unwrap();
    }
}
