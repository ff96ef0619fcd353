//! End-to-end tests against real parts: the agent, the supervisor, a registry and the kernel.
//!
//! Each test has a [`World`] of its own: a network namespace, a registry with a busybox image, an
//! agent with its own instance name and directories. [`run`] ends it whatever happens, and then a
//! test fails if anything of it is left on the machine. The benchmarks use the same worlds, with
//! other container tools as [`peers`] in them.
#![forbid(unsafe_code)]

mod client;
mod debian;
mod disk;
pub mod figures;
pub mod first;
mod leftovers;
mod live;
mod neighbour;
mod past;
pub mod peers;
mod postgres;
mod registry;
mod relay;
mod socket;
mod usage;
mod world;

pub use client::{Answer, Api, Door};
pub use disk::Disk;
pub use live::Live;
pub use neighbour::{HOST_ADDRESS, Neighbour};
pub use past::{move_back, past_month};
pub use postgres::Postgres;
pub use registry::{Image, Registry};
pub use relay::Relay;
pub use socket::Socket;
pub use world::{Setup, World, readings_in, run, run_in, run_with};
