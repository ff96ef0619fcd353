//! Capabilities of this process, as bit sets by kernel number.
//!
//! Sources: capabilities(7), capget(2), prctl(2). The wrappers of the C library know 32-bit sets
//! only, so version 3 of the raw calls is used.

// UNSAFETY: capget and capset read and write the two arrays they are given.
#![expect(unsafe_code, reason = "neither nix nor libc wraps capset and the capability prctls")]

use crate::error::{SysError, check, check_int};

const VERSION_3: u32 = 0x2008_0522;

#[repr(C)]
struct Header {
    version: u32,
    pid: i32,
}

#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Word {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

/// Returns the permitted set of this process.
///
/// # Errors
/// What capget(2) says.
pub fn permitted() -> Result<u64, SysError> {
    let mut header = Header { version: VERSION_3, pid: 0 };
    let mut words = [Word::default(); 2];
    // SAFETY: version 3 writes two words; both structs live over the call.
    let done = unsafe { libc::syscall(libc::SYS_capget, &raw mut header, words.as_mut_ptr()) };
    check("capget", done)?;
    let [low, high] = words;
    Ok(u64::from(low.permitted) | u64::from(high.permitted) << 32)
}

/// Sets all three sets of this process.
///
/// # Errors
/// `EPERM` for a capability that is not permitted now.
pub fn set(permitted: u64, effective: u64, inheritable: u64) -> Result<(), SysError> {
    let mut header = Header { version: VERSION_3, pid: 0 };
    let word = |shift| Word {
        effective: half(effective >> shift),
        permitted: half(permitted >> shift),
        inheritable: half(inheritable >> shift),
    };
    let words = [word(0), word(32)];
    // SAFETY: version 3 reads two words; both structs live over the call.
    let done = unsafe { libc::syscall(libc::SYS_capset, &raw mut header, words.as_ptr()) };
    check("capset", done).map(drop)
}

fn half(set: u64) -> u32 {
    u32::try_from(set & u64::from(u32::MAX)).unwrap_or_default()
}

/// Keeps the permitted set over the next change from root to another user.
///
/// # Errors
/// What prctl(2) says.
pub fn keep_over_user_change() -> Result<(), SysError> {
    // SAFETY: PR_SET_KEEPCAPS takes an integer and touches no memory.
    check_int("prctl(PR_SET_KEEPCAPS)", unsafe { libc::prctl(libc::PR_SET_KEEPCAPS, 1, 0, 0, 0) }).map(drop)
}

/// Adds `capability` to the ambient set.
///
/// # Errors
/// `EPERM` when it is not both permitted and inheritable.
pub fn raise_ambient(capability: u8) -> Result<(), SysError> {
    let raise = libc::c_ulong::from(libc::PR_CAP_AMBIENT_RAISE.cast_unsigned());
    let number = libc::c_ulong::from(capability);
    // SAFETY: PR_CAP_AMBIENT takes integers and touches no memory.
    check_int("prctl(PR_CAP_AMBIENT)", unsafe { libc::prctl(libc::PR_CAP_AMBIENT, raise, number, 0, 0) })
        .map(drop)
}

/// Removes `capability` from the bounding set, for this process and all that it executes.
///
/// # Errors
/// `EPERM` without `CAP_SETPCAP`, `EINVAL` for a number that the kernel has not.
pub fn drop_from_bounding_set(capability: u8) -> Result<(), SysError> {
    // SAFETY: PR_CAPBSET_DROP takes an integer and touches no memory.
    let done = unsafe { libc::prctl(libc::PR_CAPBSET_DROP, libc::c_ulong::from(capability), 0, 0, 0) };
    check_int("prctl(PR_CAPBSET_DROP)", done).map(drop)
}

/// Empties the ambient set.
///
/// # Errors
/// What prctl(2) says.
pub fn clear_ambient() -> Result<(), SysError> {
    let clear = libc::c_ulong::from(libc::PR_CAP_AMBIENT_CLEAR_ALL.cast_unsigned());
    // SAFETY: PR_CAP_AMBIENT takes integers and touches no memory.
    let done = unsafe { libc::prctl(libc::PR_CAP_AMBIENT, clear, 0, 0, 0) };
    check_int("prctl(PR_CAP_AMBIENT)", done).map(drop)
}

/// Returns the bit set of capability numbers; those above 63 count nothing.
pub fn set_of(capabilities: &[u8]) -> u64 {
    capabilities
        .iter()
        .filter_map(|capability| 1_u64.checked_shl(u32::from(*capability)))
        .fold(0, |set, bit| set | bit)
}
