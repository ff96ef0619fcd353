//! The host agent: services, API, reconcilers and their wiring.
#![forbid(unsafe_code)]

fn main() {}
