//! `wharfd`, the host agent.
#![forbid(unsafe_code)]

mod clock;
mod ctx;
mod error;
mod tasks;

fn main() {}
