//! Loading a seccomp program. What it says is the caller's matter.
//!
//! Sources: seccomp(2), `linux/filter.h`.

// UNSAFETY: the kernel reads the program through a pointer and a length.
#![expect(unsafe_code, reason = "neither nix nor libc wraps seccomp(2)")]

use nix::errno::Errno;

use crate::error::{SysError, check};

/// One instruction of classic BPF (`struct sock_filter`).
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Instruction {
    /// Operation.
    pub code: u16,
    /// Instructions to skip when a comparison holds.
    pub jump_true: u8,
    /// Instructions to skip when it does not.
    pub jump_false: u8,
    /// Operand.
    pub operand: u32,
}

const _: () = assert!(size_of::<Instruction>() == size_of::<libc::sock_filter>());

/// Puts this process and its descendants under `program`, for ever.
///
/// # Errors
/// `EACCES` without `no_new_privs` and `CAP_SYS_ADMIN`, `EINVAL` for a program that is not valid.
pub fn load(program: &[Instruction]) -> Result<(), SysError> {
    let len = u16::try_from(program.len()).map_err(|_too_big| SysError::new("seccomp", Errno::E2BIG))?;
    let raw = libc::sock_fprog { len, filter: program.as_ptr().cast_mut().cast() };
    // SAFETY: `raw` points to `len` instructions of the kernel's layout, which it only reads.
    let done = unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, 0, &raw const raw) };
    check("seccomp", done).map(drop)
}
