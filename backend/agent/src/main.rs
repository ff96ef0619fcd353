//! `wharfd`, the host agent.
#![forbid(unsafe_code)]

mod auth;
mod clock;
mod config;
mod ctx;
mod error;
mod events;
mod ids;
mod tasks;
mod telemetry;
mod tenants;
mod tls;
mod users;

fn main() {}
