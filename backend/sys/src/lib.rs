//! System calls with types; the only crate where unsafe code may be.
//!
//! It holds what `nix` has not: `clone3`, the mount API of Linux 5.2+, descriptor passing that
//! yields owned descriptors, seccomp and BPF program loading, capabilities, keyrings and the pty of
//! a container's own devpts. Functions take and give owned or borrowed descriptors, return
//! [`SysError`], and hold no policy: what is mounted, dropped or allowed is `wharf-runtime`'s matter.

#![warn(missing_docs, clippy::missing_errors_doc)]

mod error;

pub mod bpf;
pub mod caps;
pub mod fs_ids;
pub mod image;
pub mod keyring;
pub mod landlock;
pub mod limits;
pub mod memory;
pub mod mount;
pub mod net;
pub mod process;
pub mod seccomp;
pub mod socket;
pub mod tty;
pub mod xattr;

pub use error::{SysError, signal_number};
