//! The dashboard.
#![forbid(unsafe_code)]

fn main() {}
