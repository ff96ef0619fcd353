//! What the README's commands do.
#![forbid(unsafe_code)]

fn main() {}
