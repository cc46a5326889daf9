//! Which devices a guest may open, where no v1 hierarchy says so: a program of BPF on its cgroup2.
//!
//! The program is a comparison for each device, made here; the kernel runs it at each open and
//! each mknod. It goes with its cgroup. Guests may add programs of their own, which can only
//! forbid more.

use std::{
    io,
    os::fd::{AsRawFd as _, BorrowedFd, OwnedFd},
};

use nix::libc;

use super::group::Device;
use crate::sys;

const PROG_LOAD: libc::c_long = 5;
const PROG_ATTACH: libc::c_long = 8;
const CGROUP_DEVICE_PROGRAM: u32 = 15;
const CGROUP_DEVICE: u32 = 6;
const ALLOW_MULTI: u32 = 2;

/// The context's fields.
const ACCESS_AND_TYPE: i16 = 0;
const MAJOR: i16 = 4;
const MINOR: i16 = 8;
const CHARACTER: i32 = 2;
const MKNOD_ALONE: i32 = 1;

#[repr(C)]
#[derive(Clone, Copy)]
struct Instruction {
    code: u8,
    registers: u8,
    offset: i16,
    immediate: i32,
}

#[repr(C)]
#[derive(Default)]
struct LoadAttributes {
    kind: u32,
    count: u32,
    instructions: u64,
    license: u64,
    log: [u32; 2],
    log_buffer: u64,
    kernel_version: u32,
    flags: u32,
}

#[repr(C)]
struct AttachAttributes {
    target: u32,
    program: u32,
    kind: u32,
    flags: u32,
}

const fn load(register: u8, offset: i16) -> Instruction {
    // From the context, which register 1 points to.
    Instruction { code: 0x61, registers: register | 1 << 4, offset, immediate: 0 }
}

const fn with(code: u8, register: u8, offset: i16, immediate: i32) -> Instruction {
    Instruction { code, registers: register, offset, immediate }
}

const fn and(register: u8, mask: i32) -> Instruction {
    with(0x57, register, 0, mask)
}

const fn shift_right(register: u8, bits: i32) -> Instruction {
    with(0x77, register, 0, bits)
}

/// Goes on `skip` instructions later unless they are equal.
const fn skip_unless(register: u8, value: i32, skip: i16) -> Instruction {
    with(0x55, register, skip, value)
}

const fn answer(allowed: bool) -> [Instruction; 2] {
    [with(0xb7, 0, 0, allowed as i32), with(0x95, 0, 0, 0)]
}

fn program(devices: &[Device]) -> Vec<Instruction> {
    const ACCESS: u8 = 2;
    const TYPE: u8 = 3;
    const THE_MAJOR: u8 = 4;
    const THE_MINOR: u8 = 5;
    let mut program = vec![
        load(ACCESS, ACCESS_AND_TYPE),
        load(TYPE, ACCESS_AND_TYPE),
        load(THE_MAJOR, MAJOR),
        load(THE_MINOR, MINOR),
        and(TYPE, 0xffff),
        shift_right(ACCESS, 16),
        // A node may be made; opening it is another question.
        skip_unless(ACCESS, MKNOD_ALONE, 2),
    ];
    program.extend(answer(true));
    for (major, minor) in devices {
        let tests = if minor.is_some() { 3 } else { 2 };
        let left = |done: i16| tests - done + 1;
        program.push(skip_unless(TYPE, CHARACTER, left(0)));
        program.push(skip_unless(THE_MAJOR, *major, left(1)));
        if let Some(minor) = minor {
            program.push(skip_unless(THE_MINOR, *minor, left(2)));
        }
        program.extend(answer(true));
    }
    program.extend(answer(false));
    program
}

/// Allows what is in the cgroup these devices and no others.
pub(super) fn restrict(cgroup: BorrowedFd<'_>, devices: &[Device]) -> io::Result<()> {
    let program = load_program(&program(devices))?;
    let attributes = AttachAttributes {
        target: cgroup.as_raw_fd().unsigned_abs(),
        program: program.as_raw_fd().unsigned_abs(),
        kind: CGROUP_DEVICE,
        flags: ALLOW_MULTI,
    };
    // SAFETY: the attributes live across the call, and their size is told.
    sys::answer(unsafe {
        libc::syscall(
            libc::SYS_bpf,
            PROG_ATTACH,
            &raw const attributes,
            size_of::<AttachAttributes>(),
        )
    })?;
    Ok(())
}

fn load_program(instructions: &[Instruction]) -> io::Result<OwnedFd> {
    let attributes = LoadAttributes {
        kind: CGROUP_DEVICE_PROGRAM,
        count: u32::try_from(instructions.len()).map_err(io::Error::other)?,
        instructions: instructions.as_ptr() as u64,
        license: c"Apache-2.0".as_ptr() as u64,
        ..LoadAttributes::default()
    };
    // SAFETY: the attributes, the program and the licence live across the call, sizes are told,
    // and the kernel answers with a new descriptor.
    unsafe {
        sys::descriptor(libc::syscall(
            libc::SYS_bpf,
            PROG_LOAD,
            &raw const attributes,
            size_of::<LoadAttributes>(),
        ))
    }
}
