//! Wire types and their validation, for server, browser and command line.
#![forbid(unsafe_code)]
