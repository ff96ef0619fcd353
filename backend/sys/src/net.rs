//! The one thing a launch does to the network: switch the loopback interface on.
//!
//! Source: netdevice(7).

// UNSAFETY: two ioctls on one ifreq.
#![expect(unsafe_code, reason = "nix has no SIOCGIFFLAGS and SIOCSIFFLAGS")]

use std::os::fd::AsRawFd;

use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};

use crate::error::{SysError, check_int};

/// Sets `lo` of the caller's network namespace up.
///
/// # Errors
/// `EPERM` without `CAP_NET_ADMIN` over the namespace.
pub fn set_loopback_up() -> Result<(), SysError> {
    let handle = socket(AddressFamily::Inet, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)
        .map_err(SysError::on("socket"))?;
    let mut request = Request { name: [0; libc::IFNAMSIZ], flags: 0, rest: [0; 22] };
    for (to, from) in request.name.iter_mut().zip(b"lo") {
        *to = *from;
    }
    // SAFETY: `request` is an ifreq in layout and size; the kernel writes its flags.
    let done = unsafe { libc::ioctl(handle.as_raw_fd(), libc::SIOCGIFFLAGS, &raw mut request) };
    check_int("ioctl(SIOCGIFFLAGS)", done)?;
    request.flags |= 1; // IFF_UP
    // SAFETY: as above; the kernel only reads it.
    let done = unsafe { libc::ioctl(handle.as_raw_fd(), libc::SIOCSIFFLAGS, &raw const request) };
    check_int("ioctl(SIOCSIFFLAGS)", done).map(drop)
}

/// `struct ifreq` with its union seen as flags.
#[repr(C)]
struct Request {
    name: [u8; libc::IFNAMSIZ],
    flags: u16,
    rest: [u8; 22],
}

const _: () = assert!(size_of::<Request>() == size_of::<libc::ifreq>());
