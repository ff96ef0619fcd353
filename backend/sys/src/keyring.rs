//! Kernel keyrings: leaving the one that was inherited. Source: keyctl(2).

// UNSAFETY: keyctl is reached by number only.
#![expect(unsafe_code, reason = "neither nix nor libc wraps keyctl(2)")]

use crate::error::{SysError, check};

/// Replaces the session keyring of this process by a new, empty, nameless one.
///
/// # Errors
/// `ENOSYS` without keyrings in the kernel, `EDQUOT` when the user has too many.
pub fn join_new_session() -> Result<(), SysError> {
    let name: *const libc::c_char = std::ptr::null();
    // SAFETY: a null name asks for a nameless keyring; no memory of ours is touched.
    let key = unsafe { libc::syscall(libc::SYS_keyctl, libc::KEYCTL_JOIN_SESSION_KEYRING, name) };
    check("keyctl", key).map(drop)
}
