//! From a description to a running container, in two steps.
//!
//! ```text
//! parent (supervisor)                       child (pid 1 to be)
//! open cgroup files, clone3 ──────────────► enter v1 cgroups, cgroup namespace
//! write id maps                             wait
//! overlay, /dev, binds, all detached
//! hand them over ─────────────────────────► become root inside, attach, pivot,
//!                                           terminal, user, directory, confine
//! limits, oom score ◄──────────────── ready wait at the gate
//!       … Created: the agent attaches the network …
//! start ──────────────────────────────────► execve
//! Running ◄─────────────────── end of file
//! ```
//! A half-made container cannot be started: [`Created`] exists only behind the gate, and until
//! [`Created::start`] has succeeded, dropping what there is kills the child and waits for it. All
//! mounts are descriptors, so they go with it. The cgroup is the caller's.

mod child;
mod created;
mod parent;

pub use created::{Created, Running};
pub use parent::{Stdio, create};

pub(crate) use child::{Streams, connect, finish};
pub(crate) use created::HalfMade;
pub(crate) use parent::{Attempt, await_gate, raise_limits, retry_stillborn};
