//! Landlock: which version of it the kernel has. Source: landlock(7), `landlock_create_ruleset(2)`.

// UNSAFETY: landlock_create_ruleset is reached by number only.
#![expect(unsafe_code, reason = "neither nix nor libc wraps landlock_create_ruleset(2)")]

use crate::error::{SysError, check};

/// `LANDLOCK_CREATE_RULESET_VERSION`: asks for the version, and makes nothing.
const VERSION: libc::c_uint = 1;

/// Returns the version of the kernel's interface, from 1 on.
///
/// # Errors
/// `ENOSYS` without Landlock in the kernel, `EOPNOTSUPP` when it was left out at boot.
pub fn abi() -> Result<i64, SysError> {
    let attributes: *const libc::c_void = std::ptr::null();
    let size: libc::size_t = 0;
    // SAFETY: with this flag the kernel wants no attributes and no size, and touches no memory.
    let version = unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, attributes, size, VERSION) };
    check("landlock_create_ruleset", version)
}

#[cfg(test)]
mod tests {
    use nix::errno::Errno;

    use super::*;

    #[test]
    fn a_kernel_says_its_version_or_that_it_has_none() {
        match abi() {
            Ok(version) => assert!(version >= 1, "{version}"),
            Err(error) => assert!(matches!(error.errno, Errno::ENOSYS | Errno::EOPNOTSUPP), "{error}"),
        }
    }
}
