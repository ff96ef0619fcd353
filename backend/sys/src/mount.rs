//! The mount API of Linux 5.2 and later: everything is made detached and handed on by descriptor.
//!
//! Sources: fsopen(2), fsconfig(2), fsmount(2), `move_mount(2)`, `open_tree(2)`, `mount_setattr(2)`.

// UNSAFETY: the calls take pointers to strings and structs that live over the call.
#![expect(unsafe_code, reason = "nix has nothing of the new mount API")]

use std::ffi::CStr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use crate::error::{SysError, check};
use crate::socket::adopt;

/// Properties of a mount (`MOUNT_ATTR_*`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Attributes(u64);

impl Attributes {
    /// No property.
    pub const NONE: Self = Self(0);
    /// Read-only.
    pub const READ_ONLY: Self = Self(libc::MOUNT_ATTR_RDONLY);
    /// Set-user-id bits and file capabilities count for nothing.
    pub const NO_SUID: Self = Self(libc::MOUNT_ATTR_NOSUID);
    /// Device nodes cannot be opened.
    pub const NO_DEV: Self = Self(libc::MOUNT_ATTR_NODEV);
    /// Nothing can be executed.
    pub const NO_EXEC: Self = Self(libc::MOUNT_ATTR_NOEXEC);

    /// Returns both sets together.
    #[must_use]
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// A file system that is being configured.
#[derive(Debug)]
pub struct FsContext(OwnedFd);

impl FsContext {
    /// Begins a file system of this type.
    ///
    /// # Errors
    /// `ENODEV` when the kernel has no such type; what fsopen(2) says.
    pub fn open(kind: &CStr) -> Result<Self, SysError> {
        // SAFETY: `kind` is a string that ends in NUL and lives over the call.
        let fd = unsafe { libc::syscall(libc::SYS_fsopen, kind.as_ptr(), libc::FSOPEN_CLOEXEC) };
        Ok(Self(adopt("fsopen", check("fsopen", fd)?)?))
    }

    /// Sets an option without a value.
    ///
    /// # Errors
    /// `EINVAL` for an unknown option.
    pub fn set_flag(&self, key: &CStr) -> Result<(), SysError> {
        self.configure(libc::FSCONFIG_SET_FLAG, Some(key), None, 0)
    }

    /// Sets an option to a string (at most 255 bytes).
    ///
    /// # Errors
    /// `EINVAL` for an unknown option or a value that is too long.
    pub fn set_string(&self, key: &CStr, value: &CStr) -> Result<(), SysError> {
        self.configure(libc::FSCONFIG_SET_STRING, Some(key), Some(value), 0)
    }

    /// Sets an option to an open file (overlay: Linux 6.13).
    ///
    /// # Errors
    /// `EINVAL` where the option takes no descriptor.
    pub fn set_fd(&self, key: &CStr, fd: BorrowedFd<'_>) -> Result<(), SysError> {
        self.configure(libc::FSCONFIG_SET_FD, Some(key), None, fd.as_raw_fd())
    }

    /// Makes the file system and a detached mount of it.
    ///
    /// # Errors
    /// What the file system says.
    pub fn mount(self, attributes: Attributes) -> Result<OwnedFd, SysError> {
        self.configure(libc::FSCONFIG_CMD_CREATE, None, None, 0)?;
        let (context, flags) = (self.0.as_raw_fd(), libc::FSMOUNT_CLOEXEC);
        // SAFETY: fsmount takes three integers; the context is open while `self` lives.
        let fd = unsafe { libc::syscall(libc::SYS_fsmount, context, flags, attributes.0) };
        adopt("fsmount", check("fsmount", fd)?)
    }

    /// Returns what the kernel said about the last failure (read from the context; may be empty).
    pub fn messages(&self) -> String {
        let mut text = String::new();
        let mut line = [0_u8; 512];
        while let Ok(read @ 1..) = nix::unistd::read(&self.0, &mut line) {
            text.push_str(String::from_utf8_lossy(line.get(..read).unwrap_or_default()).trim_end());
            text.push(' ');
        }
        text.trim_end().to_owned()
    }

    fn configure(
        &self,
        command: libc::c_uint,
        key: Option<&CStr>,
        value: Option<&CStr>,
        aux: i32,
    ) -> Result<(), SysError> {
        let key = key.map_or(std::ptr::null(), CStr::as_ptr);
        let value = value.map_or(std::ptr::null(), CStr::as_ptr);
        // SAFETY: both pointers are null or strings that end in NUL and live over the call.
        let done = unsafe { libc::syscall(libc::SYS_fsconfig, self.0.as_raw_fd(), command, key, value, aux) };
        check("fsconfig", done).map(drop)
    }
}

impl AsFd for FsContext {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Returns a detached copy of the mount that `path` beneath `dir` is on, rooted there.
///
/// An empty path means `dir` itself. `recursive` copies the mounts below too.
///
/// # Errors
/// What `open_tree(2)` says.
pub fn clone_tree(dir: BorrowedFd<'_>, path: &CStr, recursive: bool) -> Result<OwnedFd, SysError> {
    let flags = libc::OPEN_TREE_CLONE
        | libc::OPEN_TREE_CLOEXEC
        | libc::AT_EMPTY_PATH.cast_unsigned()
        | if recursive { libc::AT_RECURSIVE.cast_unsigned() } else { 0 };
    // SAFETY: `path` ends in NUL and lives over the call; `dir` is open while borrowed.
    let fd = unsafe { libc::syscall(libc::SYS_open_tree, dir.as_raw_fd(), path.as_ptr(), flags) };
    adopt("open_tree", check("open_tree", fd)?)
}

/// Attaches a detached mount on `target`, an open file or directory.
///
/// # Errors
/// What `move_mount(2)` says.
pub fn attach(mount: BorrowedFd<'_>, target: BorrowedFd<'_>) -> Result<(), SysError> {
    let flags = libc::MOVE_MOUNT_F_EMPTY_PATH | libc::MOVE_MOUNT_T_EMPTY_PATH;
    let (from, to) = (mount.as_raw_fd(), target.as_raw_fd());
    // SAFETY: both paths are empty strings that end in NUL; both descriptors are open.
    let done = unsafe { libc::syscall(libc::SYS_move_mount, from, c"".as_ptr(), to, c"".as_ptr(), flags) };
    check("move_mount", done).map(drop)
}

/// Attaches a detached mount on `name` beneath `dir`. Links are not followed at the end of `name`, but on
/// the way: for a file system that holds none.
///
/// # Errors
/// What `move_mount(2)` says.
pub fn attach_at(mount: BorrowedFd<'_>, dir: BorrowedFd<'_>, name: &CStr) -> Result<(), SysError> {
    let flags = libc::MOVE_MOUNT_F_EMPTY_PATH;
    let (from, to) = (mount.as_raw_fd(), dir.as_raw_fd());
    // SAFETY: both paths are strings that end in NUL and live over the call; both descriptors are open.
    let done = unsafe { libc::syscall(libc::SYS_move_mount, from, c"".as_ptr(), to, name.as_ptr(), flags) };
    check("move_mount", done).map(drop)
}

/// Adds properties to a mount, and to all mounts below it when `recursive`.
///
/// # Errors
/// What `mount_setattr(2)` says.
pub fn set_attributes(mount: BorrowedFd<'_>, add: Attributes, recursive: bool) -> Result<(), SysError> {
    set_attr(
        mount,
        libc::mount_attr { attr_set: add.0, attr_clr: 0, propagation: 0, userns_fd: 0 },
        recursive,
    )
}

/// Shifts the ids of a detached mount by the maps of a user namespace (Linux 5.12).
///
/// # Errors
/// `EINVAL` where the file system cannot; what `mount_setattr(2)` says.
pub fn set_id_map(mount: BorrowedFd<'_>, user_namespace: BorrowedFd<'_>) -> Result<(), SysError> {
    let userns_fd = u64::from(user_namespace.as_raw_fd().cast_unsigned());
    let attr = libc::mount_attr { attr_set: libc::MOUNT_ATTR_IDMAP, attr_clr: 0, propagation: 0, userns_fd };
    set_attr(mount, attr, false)
}

fn set_attr(mount: BorrowedFd<'_>, attr: libc::mount_attr, recursive: bool) -> Result<(), SysError> {
    let flags = libc::AT_EMPTY_PATH | if recursive { libc::AT_RECURSIVE } else { 0 };
    let (fd, size) = (mount.as_raw_fd(), size_of_val(&attr));
    // SAFETY: the path is an empty string that ends in NUL; `attr` has the size that is passed.
    let done =
        unsafe { libc::syscall(libc::SYS_mount_setattr, fd, c"".as_ptr(), flags, &raw const attr, size) };
    check("mount_setattr", done).map(drop)
}
