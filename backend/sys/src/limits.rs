//! Resource limits by kernel number. Source: getrlimit(2).

// UNSAFETY: getrlimit and setrlimit read and write one struct.
#![expect(unsafe_code, reason = "nix takes an enum that has no conversion from a number")]

use crate::error::{SysError, check_int};

/// Returns the soft and hard limit of a resource.
///
/// # Errors
/// `EINVAL` for a number that the kernel has not.
pub fn get(resource: u32) -> Result<(u64, u64), SysError> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is a writable struct that lives over the call.
    check_int("getrlimit", unsafe { libc::getrlimit(resource, &raw mut limit) })?;
    Ok((limit.rlim_cur, limit.rlim_max))
}

/// Sets the soft and hard limit of a resource.
///
/// # Errors
/// `EPERM` when the hard limit would rise without `CAP_SYS_RESOURCE`; `EINVAL` for soft above hard.
pub fn set(resource: u32, soft: u64, hard: u64) -> Result<(), SysError> {
    let limit = libc::rlimit { rlim_cur: soft, rlim_max: hard };
    // SAFETY: `limit` is a readable struct that lives over the call.
    check_int("setrlimit", unsafe { libc::setrlimit(resource, &raw const limit) }).map(drop)
}
