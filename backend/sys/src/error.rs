//! The one error of this crate: which system call failed, and with which number.

use nix::errno::Errno;

/// A system call that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{call}: {errno}")]
pub struct SysError {
    /// Name of the call, as in its manual page.
    pub call: &'static str,
    /// What the kernel answered.
    pub errno: Errno,
}

impl SysError {
    /// Pairs a call with its error number.
    pub const fn new(call: &'static str, errno: Errno) -> Self {
        Self { call, errno }
    }

    /// Returns the error number as the kernel counts it.
    pub fn raw(&self) -> i32 {
        raw_errno(self.errno)
    }

    /// Makes a [`SysError`] of what `nix` returned, for `map_err`.
    pub fn on(call: &'static str) -> impl FnOnce(Errno) -> Self {
        move |errno| Self { call, errno }
    }
}

/// Returns the kernel's number of an [`Errno`].
fn raw_errno(errno: Errno) -> i32 {
    errno as i32
}

/// Returns the kernel's number of a signal.
pub fn signal_number(signal: nix::sys::signal::Signal) -> i32 {
    signal as i32
}

/// Turns a return value of a system call into a result.
pub(crate) fn check(call: &'static str, returned: libc::c_long) -> Result<libc::c_long, SysError> {
    if returned == -1 { Err(SysError::new(call, Errno::last())) } else { Ok(returned) }
}

/// Same for library functions that return `int`.
pub(crate) fn check_int(call: &'static str, returned: libc::c_int) -> Result<libc::c_int, SysError> {
    if returned == -1 { Err(SysError::new(call, Errno::last())) } else { Ok(returned) }
}

impl SysError {
    /// Takes the error number out of an I/O error; `EIO` when it has none.
    pub fn from_io(call: &'static str, error: &std::io::Error) -> Self {
        Self { call, errno: error.raw_os_error().map_or(Errno::EIO, Errno::from_raw) }
    }
}
