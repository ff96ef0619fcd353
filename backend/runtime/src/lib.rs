//! Makes, joins, limits, observes and destroys a container.
#![forbid(unsafe_code)]

pub mod spec;
