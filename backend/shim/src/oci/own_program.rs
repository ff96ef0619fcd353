//! Keeps containers from writing into this very program.
//!
//! What is about to become a container's process is this program until execve(2), and an image can say that
//! its entrypoint is run by `/proc/self/exe`; whoever opens that inside could write into the host's file
//! (CVE-2019-5736). So the program runs itself again from a copy of its mount that is read-only and
//! attached nowhere: three calls and an execve, no byte is copied. Containers in a user namespace do not own
//! the host's files and need none of this.

use std::ffi::CString;
use std::fs::File;
use std::os::fd::AsFd as _;
use std::os::unix::ffi::OsStringExt as _;

use nix::errno::Errno;
use nix::fcntl::{AtFlags, FcntlArg, FdFlag, OFlag, fcntl, open};
use nix::sys::stat::Mode;
use nix::sys::statvfs::{FsFlags, fstatvfs};
use nix::unistd::execveat;
use wharf_sys::image::is_sealed;
use wharf_sys::mount::{Attributes, clone_tree, set_attributes};

const OWN_PROGRAM: &str = "/proc/self/exe";

/// Makes sure that this process runs from a file that nobody can write to through it; returns only then.
pub(super) fn protect() -> Result<(), Errno> {
    let own = open(OWN_PROGRAM, OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty())?;
    if fstatvfs(&own)?.flags().contains(FsFlags::ST_RDONLY) || runs_from_sealed_memory() {
        return Ok(());
    }
    let copy = clone_tree(own.as_fd(), c"", false).map_err(|error| error.errno)?;
    set_attributes(copy.as_fd(), Attributes::READ_ONLY, false).map_err(|error| error.errno)?;
    // Open for ever: to take the copy down is work that would lie between here and the container.
    fcntl(&copy, FcntlArg::F_SETFD(FdFlag::empty()))?;
    let strings = |all: &mut dyn Iterator<Item = std::ffi::OsString>| {
        all.map(|text| CString::new(text.into_vec()).map_err(|_nul| Errno::EINVAL))
            .collect::<Result<Vec<_>, _>>()
    };
    let arguments = strings(&mut std::env::args_os())?;
    let environment = strings(&mut std::env::vars_os().map(|(mut key, value)| {
        key.push("=");
        key.push(value);
        key
    }))?;
    match execveat(&copy, c"", &arguments, &environment, AtFlags::AT_EMPTY_PATH) {
        Ok(never) => match never {},
        Err(errno) => Err(errno),
    }
}

fn runs_from_sealed_memory() -> bool {
    File::open(OWN_PROGRAM).is_ok_and(|own| matches!(is_sealed(own), Ok(true)))
}
