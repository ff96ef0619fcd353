//! Loading and attaching the device program of a cgroup v2 group.
//!
//! Sources: bpf(2), `linux/bpf.h`. The program itself is made by the caller.

// UNSAFETY: bpf(2) takes a struct with pointers, per command.
#![expect(unsafe_code, reason = "neither nix nor libc wraps bpf(2)")]

use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;

use crate::error::{SysError, check};

const PROG_LOAD: libc::c_int = 5;
const PROG_ATTACH: libc::c_int = 8;
const PROG_TYPE_CGROUP_DEVICE: u32 = 15;
const ATTACH_CGROUP_DEVICE: u32 = 6;

/// One instruction of extended BPF (`struct bpf_insn`).
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Instruction {
    /// Operation.
    pub code: u8,
    /// Destination register in the low half, source register in the high half.
    pub registers: u8,
    /// Signed offset of a load or jump.
    pub offset: i16,
    /// Operand.
    pub immediate: i32,
}

#[repr(C)]
struct Load {
    program_type: u32,
    instruction_count: u32,
    instructions: u64,
    license: u64,
    log: [u64; 3],
}

#[repr(C)]
struct Attach {
    target: u32,
    program: u32,
    kind: u32,
    flags: u32,
}

/// Checks and loads a device program.
///
/// # Errors
/// `EINVAL` or `EACCES` for a program that the verifier refuses, `EPERM` without privilege.
pub fn load_device_program(program: &[Instruction]) -> Result<OwnedFd, SysError> {
    let count =
        u32::try_from(program.len()).map_err(|_too_big| SysError::new("bpf(PROG_LOAD)", Errno::E2BIG))?;
    let load = Load {
        program_type: PROG_TYPE_CGROUP_DEVICE,
        instruction_count: count,
        instructions: program.as_ptr().expose_provenance() as u64,
        license: c"Apache-2.0".as_ptr().expose_provenance() as u64,
        log: [0; 3],
    };
    // SAFETY: `load` points to `count` instructions and a string that live over the call; its size
    // is passed, and the kernel takes what lies behind as zero.
    let fd = unsafe { libc::syscall(libc::SYS_bpf, PROG_LOAD, &raw const load, size_of_val(&load)) };
    crate::socket::adopt("bpf(PROG_LOAD)", check("bpf(PROG_LOAD)", fd)?)
}

/// Attaches a device program to a cgroup directory, in place of an earlier one of this place.
///
/// The group keeps the program until it is removed. No program below may override it.
///
/// # Errors
/// `EPERM` when a group above forbids it; what bpf(2) says.
pub fn attach_device_program(cgroup: BorrowedFd<'_>, program: BorrowedFd<'_>) -> Result<(), SysError> {
    let attach = Attach {
        target: cgroup.as_raw_fd().cast_unsigned(),
        program: program.as_raw_fd().cast_unsigned(),
        kind: ATTACH_CGROUP_DEVICE,
        flags: 0,
    };
    // SAFETY: `attach` is the struct of this command, of the size that is passed.
    let done = unsafe { libc::syscall(libc::SYS_bpf, PROG_ATTACH, &raw const attach, size_of_val(&attach)) };
    check("bpf(PROG_ATTACH)", done).map(drop)
}
