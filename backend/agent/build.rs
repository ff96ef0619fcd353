//! Embeds the built dashboard, when there is one.

fn main() {}
