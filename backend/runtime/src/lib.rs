//! Makes, joins, limits, observes and destroys a container.
//!
//! Everything here is synchronous and knows nothing of tokio, SQL or HTTP, so that it can run in a
//! single-threaded supervisor and in the copy that becomes a container's first process.
//!
//! - [`spec`]: what to launch, complete in itself.
//! - [`launch`]: [`launch::create`] builds everything and leaves the process at a gate;
//!   [`launch::Created::start`] opens it.
//! - [`checkpoint`]: processes into files and back, by CRIU.
//! - [`exec`]: a further process in a running container.
//! - [`cgroup`]: one group in every hierarchy of the host: make, kill, freeze, devices, remove.
//! - [`usage`]: the counters that bills and charts are made of.
//! - [`apparmor`]: the default profile of hosts that have AppArmor.
//! - [`seccomp`]: the default profile and its program.
//! - [`probe`]: what this host can do.
#![forbid(unsafe_code)]
#![warn(clippy::missing_errors_doc)]

mod confine;
mod error;
mod init;
mod program;
mod rootfs;
mod sync;
mod sysctl;
mod user;

pub mod apparmor;
pub mod cgroup;
pub mod checkpoint;
pub mod exec;
pub mod launch;
pub mod probe;
pub mod seccomp;
pub mod spec;
pub mod usage;

pub use error::{LaunchError, Stage, StepError};
