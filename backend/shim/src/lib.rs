//! The protocol, paths, log format and exit record that the agent shares with the shim.
#![forbid(unsafe_code)]
