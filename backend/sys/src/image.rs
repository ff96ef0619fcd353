//! Files that can never change again: sealed ones in memory, and programs run from a read-only mount.
//!
//! The forge runs from a sealed one and `wharf-shim oci` from a read-only mount, so that neither's program can
//! be overwritten through `/proc/<pid>/exe` (CVE-2019-5736); specs travel in sealed ones. Sources:
//! `memfd_create(2)`, fcntl(2), `open_tree(2)`, execveat(2).

use std::convert::Infallible;
use std::ffi::{CString, OsString};
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt as _;

use nix::errno::Errno;
use nix::fcntl::{AtFlags, FcntlArg, FdFlag, SealFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::unistd::execveat;

use crate::SysError;
use crate::mount::{Attributes, clone_tree, set_attributes};

/// Returns a sealed file in memory with what `source` holds, its offset at the start.
///
/// `executable` keeps the execute bits (`MFD_EXEC`, Linux 6.3); without it the file can also never
/// be executed where the kernel knows `MFD_NOEXEC_SEAL`.
///
/// # Errors
/// What reading the source, `memfd_create(2)` or fcntl(2) say.
pub fn sealed_copy(
    name: &std::ffi::CStr,
    mut source: impl Read,
    executable: bool,
) -> Result<OwnedFd, SysError> {
    let kind = if executable { libc::MFD_EXEC } else { libc::MFD_NOEXEC_SEAL };
    let base = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING;
    let fd = match memfd_create(name, base | MFdFlags::from_bits_retain(kind)) {
        // Before Linux 6.3 the kernel knows neither flag and every memfd can be executed.
        Err(Errno::EINVAL) => memfd_create(name, base),
        other => other,
    };
    let mut file = File::from(fd.map_err(SysError::on("memfd_create"))?);
    std::io::copy(&mut source, &mut file).map_err(|error| SysError::from_io("write(memfd)", &error))?;
    file.flush().map_err(|error| SysError::from_io("write(memfd)", &error))?;
    std::io::Seek::rewind(&mut file).map_err(|error| SysError::from_io("lseek(memfd)", &error))?;
    seal(&file)?;
    Ok(file.into())
}

fn seal(file: &File) -> Result<(), SysError> {
    let content = SealFlag::F_SEAL_WRITE | SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_SHRINK;
    let mode = SealFlag::from_bits_retain(libc::F_SEAL_EXEC);
    match fcntl(file, FcntlArg::F_ADD_SEALS(content | mode | SealFlag::F_SEAL_SEAL)) {
        // F_SEAL_EXEC is of Linux 6.3.
        Err(Errno::EINVAL) => fcntl(file, FcntlArg::F_ADD_SEALS(content | SealFlag::F_SEAL_SEAL)),
        other => other,
    }
    .map(drop)
    .map_err(SysError::on("fcntl(F_ADD_SEALS)"))
}

/// Returns whether nobody can change the content of a file any more.
///
/// # Errors
/// `EINVAL` when the file has no seals at all (it is not in memory).
pub fn is_sealed(file: impl AsFd) -> Result<bool, SysError> {
    let seals = fcntl(file, FcntlArg::F_GET_SEALS).map_err(SysError::on("fcntl(F_GET_SEALS)"))?;
    let content = SealFlag::F_SEAL_WRITE | SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_SHRINK;
    Ok(SealFlag::from_bits_retain(seals).contains(content))
}

/// Becomes `program`, run from a copy of its mount that is read-only and attached nowhere, with this process's
/// environment: three calls and an execve, no byte is copied.
///
/// # Errors
/// What `open_tree(2)`, `mount_setattr(2)` and execveat(2) say (`EPERM` without `CAP_SYS_ADMIN`); `EINVAL` when an
/// argument has a NUL byte. It returns only with an error.
pub fn execute_read_only(
    program: BorrowedFd<'_>,
    arguments: impl IntoIterator<Item = OsString>,
) -> Result<Infallible, SysError> {
    let arguments = strings(arguments)?;
    let environment = strings(std::env::vars_os().map(|(mut key, value)| {
        key.push("=");
        key.push(value);
        key
    }))?;
    let copy = clone_tree(program, c"", false)?;
    set_attributes(copy.as_fd(), Attributes::READ_ONLY, false)?;
    // Open for ever: to take the copy down is work that would lie between here and a container's start.
    fcntl(&copy, FcntlArg::F_SETFD(FdFlag::empty())).map_err(SysError::on("fcntl(F_SETFD)"))?;
    execveat(&copy, c"", &arguments, &environment, AtFlags::AT_EMPTY_PATH).map_err(SysError::on("execveat"))
}

fn strings(all: impl IntoIterator<Item = OsString>) -> Result<Vec<CString>, SysError> {
    all.into_iter()
        .map(|text| CString::new(text.into_vec()).map_err(|_nul| SysError::new("execveat", Errno::EINVAL)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::FileExt;

    #[test]
    fn a_sealed_copy_reads_back_and_refuses_every_write() {
        let fd = sealed_copy(c"spec", &b"hello"[..], false).expect("memfd");
        assert!(is_sealed(&fd).expect("seals"));
        let mut file = File::from(fd);
        let mut text = String::new();
        file.read_to_string(&mut text).expect("read");
        assert_eq!(text, "hello");
        assert_eq!(file.write_at(b"x", 0).expect_err("sealed").raw_os_error(), Some(libc::EPERM));
        assert_eq!(file.set_len(0).expect_err("sealed").raw_os_error(), Some(libc::EPERM));
    }

    #[test]
    fn an_ordinary_file_is_not_taken_for_a_sealed_one() {
        let file = tempfile_in_tmp();
        assert!(!matches!(is_sealed(&file), Ok(true)));
    }

    fn tempfile_in_tmp() -> File {
        let path = std::env::temp_dir().join(format!("wharf-sys-{}", std::process::id()));
        let file = File::create(&path).expect("create");
        std::fs::remove_file(path).expect("unlink");
        file
    }
}
