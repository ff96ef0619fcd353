//! The supervisor of one container, and the forge that starts it.
#![forbid(unsafe_code)]

fn main() {}
