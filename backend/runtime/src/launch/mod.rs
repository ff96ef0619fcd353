//! From a description to a running container, in two steps.
//!
//! ```text
//! parent (supervisor)                       child (pid 1 to be)
//! open cgroup files, clone3 ──────────────► enter v1 cgroups; cgroup and network namespace
//! write id maps ──────────────────────────► become root inside; /proc, /sys, devpts…, detached
//! overlay, /dev, binds, all detached
//! hand them over ─────────────────────────► attach, pivot, terminal, user, directory, confine
//! limits, oom score ◄──────────────── ready wait at the gate
//!       … Created: the agent attaches the network …
//! start ──────────────────────────────────► seccomp, execve
//! Running ◄─────────────────── end of file
//! ```
//! Both sides work at the same time up to the hand-over. The filter comes last of all, so that no
//! profile, whatever it refuses, keeps a container at its gate.
//!
//! A half-made container cannot be started: [`Created`] exists only behind the gate, and until
//! [`Created::start`] has succeeded, dropping what there is kills the child and waits for it. All
//! mounts are descriptors, so they go with it. The cgroup is the caller's.

mod child;
mod created;
mod parent;

pub use created::{Created, Mounts, Running, open_gate};
pub use parent::{Gate, Stdio, create, create_in};

pub(crate) use child::{Last, Streams, connect, finish};
pub(crate) use created::{HalfMade, Held, start_time_ticks};
pub(crate) use parent::{Attempt, await_gate, make_trees, namespace_of, raise_limits, retry_stillborn};
