//! Extended attributes by path. Sources: setxattr(2), getxattr(2), xattr(7).

// UNSAFETY: the calls take pointers to strings and a buffer.
#![expect(unsafe_code, reason = "nix has no extended attributes")]

use std::ffi::{CStr, CString};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use nix::errno::Errno;

use crate::error::{SysError, check, check_int};

fn terminated(path: &Path) -> Result<CString, SysError> {
    CString::new(path.as_os_str().as_bytes()).map_err(|_nul| SysError::new("setxattr", Errno::EINVAL))
}

/// Sets an attribute of what `path` leads to.
///
/// # Errors
/// `ENOTSUP` where the file system has no attributes; what setxattr(2) says.
pub fn set(path: &Path, name: &CStr, value: &[u8]) -> Result<(), SysError> {
    let path = terminated(path)?;
    let (data, length) = (value.as_ptr().cast(), value.len());
    // SAFETY: both strings end in NUL, `data` has `length` bytes, and all live over the call.
    check_int("setxattr", unsafe { libc::setxattr(path.as_ptr(), name.as_ptr(), data, length, 0) }).map(drop)
}

/// Returns whether what `path` leads to has an attribute of this name.
///
/// # Errors
/// What getxattr(2) says, but for a missing attribute.
pub fn has(path: &Path, name: &CStr) -> Result<bool, SysError> {
    let path = terminated(path)?;
    // SAFETY: both strings end in NUL and live over the call; of length 0, no buffer is written.
    let length = unsafe { libc::getxattr(path.as_ptr(), name.as_ptr(), std::ptr::null_mut(), 0) };
    let length = i64::try_from(length).map_err(|_too_big| SysError::new("getxattr", Errno::EOVERFLOW))?;
    match check("getxattr", length) {
        Ok(_) => Ok(true),
        Err(error) if error.errno == Errno::ENODATA => Ok(false),
        Err(error) => Err(error),
    }
}
