//! End-to-end tests against real parts.
#![forbid(unsafe_code)]
