//! The system calls that no guest may make.
//!
//! A short list of what reaches past namespaces (modules, kexec, file handles) or is attack
//! surface without use in a guest; everything else is allowed. The filter is a hand-made program
//! of classic BPF: for each architecture a comparison per number, nothing to depend on.

use std::io;

use nix::libc::{
    self, BPF_ABS, BPF_JEQ, BPF_JGE, BPF_JMP, BPF_JSET, BPF_K, BPF_LD, BPF_RET, BPF_W, sock_filter,
};

/// One architecture's name for itself and its numbers.
struct Architecture {
    audit: u32,
    umount2: u32,
    forbidden: &'static [libc::c_long],
}

const X32_BIT: u32 = 0x4000_0000;
const EPERM: u32 = libc::SECCOMP_RET_ERRNO | 1;
const EACCES: u32 = libc::SECCOMP_RET_ERRNO | 13;
const ENOSYS: u32 = libc::SECCOMP_RET_ERRNO | 38;

/// Offsets in seccomp_data.
const NUMBER: u32 = 0;
const ARCHITECTURE: u32 = 4;
const SECOND_ARGUMENT: u32 = 24;
const MNT_FORCE: u32 = 1;

const NATIVE: &[libc::c_long] = &[
    libc::SYS_kexec_load,
    libc::SYS_kexec_file_load,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_open_by_handle_at,
    libc::SYS_perf_event_open,
    libc::SYS_userfaultfd,
    libc::SYS_bpf,
];

#[cfg(target_arch = "x86_64")]
const ARCHITECTURES: &[Architecture] = &[
    Architecture { audit: 0xC000_003E, umount2: 166, forbidden: NATIVE },
    // i386: the same calls, for programs of 32 bits.
    Architecture {
        audit: 0x4000_0003,
        umount2: 52,
        forbidden: &[283, 128, 350, 129, 342, 336, 374, 357],
    },
];
#[cfg(target_arch = "aarch64")]
const ARCHITECTURES: &[Architecture] =
    &[Architecture { audit: 0xC000_00B7, umount2: 39, forbidden: NATIVE }];

const fn statement(code: u32, k: u32) -> sock_filter {
    #[expect(clippy::cast_possible_truncation, reason = "the codes of BPF fit in 16 bits")]
    sock_filter { code: code as u16, jt: 0, jf: 0, k }
}

const fn jump(code: u32, k: u32, yes: u8, no: u8) -> sock_filter {
    #[expect(clippy::cast_possible_truncation, reason = "the codes of BPF fit in 16 bits")]
    sock_filter { code: (BPF_JMP | code | BPF_K) as u16, jt: yes, jf: no, k }
}

const fn load(offset: u32) -> sock_filter {
    statement(BPF_LD | BPF_W | BPF_ABS, offset)
}

const fn respond(action: u32) -> sock_filter {
    statement(BPF_RET | BPF_K, action)
}

impl Architecture {
    fn filter(&self) -> Vec<sock_filter> {
        let mut filter = vec![
            load(NUMBER),
            jump(BPF_JGE, X32_BIT, 0, 1),
            respond(ENOSYS),
            // A forced unmount can hang others' file systems.
            jump(BPF_JEQ, self.umount2, 0, 4),
            load(SECOND_ARGUMENT),
            jump(BPF_JSET, MNT_FORCE, 0, 1),
            respond(EACCES),
            respond(libc::SECCOMP_RET_ALLOW),
        ];
        for number in self.forbidden {
            let number = u32::try_from(*number).unwrap_or(u32::MAX);
            filter.push(jump(BPF_JEQ, number, 0, 1));
            filter.push(respond(EPERM));
        }
        filter.push(respond(libc::SECCOMP_RET_ALLOW));
        filter
    }
}

fn program() -> Vec<sock_filter> {
    let mut program = vec![load(ARCHITECTURE)];
    for architecture in ARCHITECTURES {
        let filter = architecture.filter();
        let length = u8::try_from(filter.len()).unwrap_or(u8::MAX);
        program.push(jump(BPF_JEQ, architecture.audit, 0, length));
        program.extend(filter);
    }
    program.push(respond(ENOSYS));
    program
}

/// Forbids them to this thread and all that come from it. It must have CAP_SYS_ADMIN in its user
/// namespace, for setuid programs must go on working.
///
/// # Errors
/// The kernel's.
pub fn forbid() -> io::Result<()> {
    let mut program = program();
    let length = libc::c_ushort::try_from(program.len()).map_err(io::Error::other)?;
    let program = libc::sock_fprog { len: length, filter: program.as_mut_ptr() };
    // SAFETY: the program and its instructions live across the call; the kernel copies them.
    super::answer(unsafe {
        libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, 0, &raw const program)
    })?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_jump_stays_inside_the_program() {
        let program = program();
        for (at, instruction) in program.iter().enumerate() {
            let furthest = at + 1 + usize::from(instruction.jt.max(instruction.jf));
            assert!(furthest < program.len() || instruction.jt == 0, "instruction {at}");
        }
        assert!(ARCHITECTURES.iter().all(|one| one.filter().len() < usize::from(u8::MAX)));
    }
}
