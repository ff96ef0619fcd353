//! Keeps containers from writing into this very program.
//!
//! What is about to become a container's process is this program until execve(2), and an image can say that
//! its entrypoint is run by `/proc/self/exe`; whoever opens that inside could write into the host's file
//! (CVE-2019-5736). So the program runs itself again from a copy of its mount that is read-only and
//! attached nowhere, unless `wharf oci` has done so already. Containers in a user namespace do not own the host's
//! files and need none of this.

use std::fs::File;
use std::os::fd::AsFd as _;

use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;
use nix::sys::statvfs::{FsFlags, fstatvfs};
use wharf_sys::SysError;
use wharf_sys::image::{execute_read_only, is_sealed};

const OWN_PROGRAM: &str = "/proc/self/exe";

/// Makes sure that this process runs from a file that nobody can write to through it; returns only then.
pub(super) fn protect() -> Result<(), SysError> {
    let own = open(OWN_PROGRAM, OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty())
        .map_err(SysError::on("open(/proc/self/exe)"))?;
    let on = fstatvfs(&own).map_err(SysError::on("fstatvfs"))?;
    if on.flags().contains(FsFlags::ST_RDONLY) || runs_from_sealed_memory() {
        return Ok(());
    }
    match execute_read_only(own.as_fd(), std::env::args_os())? {}
}

fn runs_from_sealed_memory() -> bool {
    File::open(OWN_PROGRAM).is_ok_and(|own| matches!(is_sealed(own), Ok(true)))
}
