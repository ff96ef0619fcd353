//! Pseudo-terminals of a given devpts instance, by descriptor only.
//!
//! The slave comes from the master by `TIOCGPTPEER` (Linux 4.13), never by a path that a container
//! could have replaced (CVE-2025-52565). Sources: pty(7), `ioctl_tty(2)`.

// UNSAFETY: terminal ioctls that take an integer or a small struct.
#![expect(unsafe_code, reason = "nix has no TIOCGPTPEER, TIOCSCTTY and TIOCSWINSZ")]

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use nix::fcntl::{OFlag, openat};
use nix::sys::stat::Mode;

use crate::error::{SysError, check_int};

/// Opens a new pair on the devpts mounted at directory `devpts`: master and slave.
///
/// # Errors
/// `ENOSPC` when the instance has no more; what open(2) and `ioctl_tty(2)` say.
pub fn open_pair(devpts: BorrowedFd<'_>) -> Result<(OwnedFd, OwnedFd), SysError> {
    let flags = OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW;
    let master = openat(devpts, c"ptmx", flags, Mode::empty()).map_err(SysError::on("openat(ptmx)"))?;
    let unlock: libc::c_int = 0;
    // SAFETY: TIOCSPTLCK reads one int, which lives over the call.
    let done = unsafe { libc::ioctl(master.as_raw_fd(), libc::TIOCSPTLCK, &raw const unlock) };
    check_int("ioctl(TIOCSPTLCK)", done)?;
    let peer_flags = libc::O_RDWR | libc::O_NOCTTY | libc::O_CLOEXEC;
    // SAFETY: TIOCGPTPEER takes open flags as an integer and returns a new descriptor.
    let slave = unsafe { libc::ioctl(master.as_raw_fd(), libc::TIOCGPTPEER, peer_flags) };
    let slave = check_int("ioctl(TIOCGPTPEER)", slave)?;
    Ok((master, crate::socket::adopt("ioctl(TIOCGPTPEER)", slave.into())?))
}

/// Makes the terminal the controlling one of this session; the caller is its leader.
///
/// # Errors
/// `EPERM` when the caller leads no session or has a terminal already.
pub fn set_controlling(terminal: BorrowedFd<'_>) -> Result<(), SysError> {
    // SAFETY: TIOCSCTTY takes an integer (0: do not steal) and touches no memory.
    check_int("ioctl(TIOCSCTTY)", unsafe { libc::ioctl(terminal.as_raw_fd(), libc::TIOCSCTTY, 0) }).map(drop)
}

/// Sets the size of a terminal; the kernel tells the foreground processes by `SIGWINCH`.
///
/// # Errors
/// `ENOTTY` when it is no terminal.
pub fn set_size(terminal: impl AsFd, rows: u16, columns: u16) -> Result<(), SysError> {
    let size = libc::winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    let fd = terminal.as_fd().as_raw_fd();
    // SAFETY: TIOCSWINSZ reads one winsize, which lives over the call.
    check_int("ioctl(TIOCSWINSZ)", unsafe { libc::ioctl(fd, libc::TIOCSWINSZ, &raw const size) }).map(drop)
}
