//! Messages with descriptors over a unix socket.
//!
//! nix hands received descriptors out as bare numbers; here they are owned before anything can fail,
//! so a refused message leaks none. Sources: unix(7), cmsg(3).

// UNSAFETY: adopts descriptor numbers that the kernel has just installed for us.
#![expect(unsafe_code, reason = "received descriptors come as bare numbers")]

use std::io::{IoSlice, IoSliceMut};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use nix::errno::Errno;
use nix::sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, SockFlag, accept4, recvmsg, sendmsg};

use crate::SysError;

/// Most descriptors in one message (the kernel's `SCM_MAX_FD`).
pub const MAX_FDS: usize = 253;

/// Sends one message with descriptors; never raises `SIGPIPE`.
///
/// # Errors
/// `EINVAL` for more than [`MAX_FDS`] descriptors; what sendmsg(2) says.
pub fn send_with_fds(
    socket: BorrowedFd<'_>,
    bytes: &[u8],
    fds: &[BorrowedFd<'_>],
) -> Result<usize, SysError> {
    if fds.len() > MAX_FDS {
        return Err(SysError::new("sendmsg", Errno::EINVAL));
    }
    let numbers: Vec<RawFd> = fds.iter().map(AsRawFd::as_raw_fd).collect();
    let rights = [ControlMessage::ScmRights(&numbers)];
    let control: &[ControlMessage<'_>] = if numbers.is_empty() { &[] } else { &rights };
    sendmsg::<()>(socket.as_raw_fd(), &[IoSlice::new(bytes)], control, MsgFlags::MSG_NOSIGNAL, None)
        .map_err(SysError::on("sendmsg"))
}

/// Receives one message and its descriptors (close-on-exec); 0 bytes mean that the peer has gone.
///
/// # Errors
/// `EMSGSIZE` when the message or its descriptors did not fit (what came is closed); what
/// recvmsg(2) says, `EAGAIN` on a non-blocking socket without a message.
pub fn recv_with_fds(socket: BorrowedFd<'_>, buffer: &mut [u8]) -> Result<(usize, Vec<OwnedFd>), SysError> {
    let mut control = nix::cmsg_space!([RawFd; MAX_FDS]);
    let mut parts = [IoSliceMut::new(buffer)];
    let message =
        recvmsg::<()>(socket.as_raw_fd(), &mut parts, Some(&mut control), MsgFlags::MSG_CMSG_CLOEXEC)
            .map_err(SysError::on("recvmsg"))?;
    let mut fds = Vec::new();
    for part in message.cmsgs().map_err(SysError::on("recvmsg"))? {
        if let ControlMessageOwned::ScmRights(numbers) = part {
            for number in numbers {
                // SAFETY: the kernel installed this descriptor for this message; nobody else owns it.
                fds.push(unsafe { OwnedFd::from_raw_fd(number) });
            }
        }
    }
    if message.flags.intersects(MsgFlags::MSG_TRUNC | MsgFlags::MSG_CTRUNC) {
        return Err(SysError::new("recvmsg", Errno::EMSGSIZE));
    }
    Ok((message.bytes, fds))
}

/// Takes the next connection of a listening socket; it is close-on-exec.
///
/// # Errors
/// What accept4(2) says.
pub fn accept(listener: BorrowedFd<'_>) -> Result<OwnedFd, SysError> {
    let number = accept4(listener.as_raw_fd(), SockFlag::SOCK_CLOEXEC).map_err(SysError::on("accept4"))?;
    adopt("accept4", number.into())
}

/// Owns a descriptor that a system call returned.
pub(crate) fn adopt(call: &'static str, returned: libc::c_long) -> Result<OwnedFd, SysError> {
    let number = RawFd::try_from(returned).map_err(|_too_big| SysError::new(call, Errno::EBADF))?;
    // SAFETY: every caller passes the checked result of a call that makes a new descriptor.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

/// Takes the descriptor that a parent process left open at `number`, and sets close-on-exec.
///
/// # Errors
/// `EBADF` when it is not open, or is a standard stream.
pub fn inherited(number: i32) -> Result<OwnedFd, SysError> {
    if number <= 2 {
        return Err(SysError::new("fcntl", Errno::EBADF));
    }
    // SAFETY: F_SETFD takes an integer and touches no memory; it fails on a closed number.
    let done = unsafe { libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC) };
    crate::error::check_int("fcntl", done)?;
    // SAFETY: the number is open (checked above); by contract it was inherited for this one taker.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}
