//! Runs the suites that need a kernel of their own in a virtual machine: Debian's, with cgroup v2 only.
//!
//! The machine that builds Wharfage has one kernel and one layout of cgroups; this is the other. The
//! guest runs under software emulation, so that it needs nothing of the host's processor, and has no
//! network. Nothing is installed: the kernel's package is only unpacked.
//!
//! - `kernel` downloads and unpacks the kernel,
//! - `image` makes the two file systems that it boots from, with the suites' programs inside,
//! - `machine` runs it and reads the results,
//! - `cuts` runs it with its power cut.
//!
//! Everything lies in `target/guest`; `console.log` there is what the guest said last time.

mod cuts;
mod image;
mod kernel;
mod machine;

pub(crate) use kernel::fetch;
pub(crate) use machine::run;

/// Debian packages that the guest and its making need.
pub(crate) const PACKAGES: &[&str] = &[
    "apparmor",
    "busybox-static",
    "cpio",
    "e2fsprogs",
    "iproute2",
    "qemu-system-x86",
    "util-linux",
    "xz-utils",
    "zstd",
];
