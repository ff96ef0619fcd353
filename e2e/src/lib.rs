//! End-to-end tests against real parts: the agent, the supervisor, a registry and the kernel.
//!
//! Each test has a [`World`] of its own: a network namespace, a registry with a busybox image, an
//! agent with its own instance name and directories. [`run`] ends it whatever happens, and then a
//! test fails if anything of it is left on the machine.
#![forbid(unsafe_code)]

mod client;
mod leftovers;
mod registry;
mod socket;
mod world;

pub use client::{Answer, Api};
pub use registry::{Image, Registry};
pub use socket::Socket;
pub use world::{World, run, run_with};
