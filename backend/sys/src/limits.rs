//! Resource limits by kernel number, of this or another process. Source: prlimit(2).

// UNSAFETY: prlimit reads and writes one struct.
#![expect(
    unsafe_code,
    reason = "nix takes an enum that has no conversion from a number, and only this process"
)]

use crate::error::{SysError, check_int};

/// Returns the soft and hard limit of a resource; process 0 is this one.
///
/// # Errors
/// `EINVAL` for a number that the kernel has not, `ESRCH` for no such process.
pub fn get(pid: i32, resource: u32) -> Result<(u64, u64), SysError> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: no new limit is given; `limit` is a writable struct that lives over the call.
    check_int("prlimit", unsafe { libc::prlimit(pid, resource, std::ptr::null(), &raw mut limit) })?;
    Ok((limit.rlim_cur, limit.rlim_max))
}

/// Sets the soft and hard limit of a resource; process 0 is this one.
///
/// # Errors
/// `EPERM` when the hard limit would rise without `CAP_SYS_RESOURCE`; `EINVAL` for soft above hard.
pub fn set(pid: i32, resource: u32, soft: u64, hard: u64) -> Result<(), SysError> {
    let limit = libc::rlimit { rlim_cur: soft, rlim_max: hard };
    // SAFETY: the old limit is not asked for; `limit` is a readable struct that lives over the call.
    check_int("prlimit", unsafe { libc::prlimit(pid, resource, &raw const limit, std::ptr::null_mut()) })
        .map(drop)
}
