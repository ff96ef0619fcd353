//! What the agent shares with the shim: protocol, connection, paths, log format, state and exit record.
//!
//! The binary of this package holds the two roles that use it from the other side: the forge, a
//! small launcher that outlives the agent, and the shim, one supervisor process per container.
//! Everything here is synchronous; the agent waits on [`connection::Connection`] by its descriptor.
#![forbid(unsafe_code)]

pub mod build_id;
pub mod client;
pub mod clock;
pub mod connection;
pub mod exit;
pub mod failpoint;
pub mod logfile;
pub mod memfd;
pub mod paths;
pub mod process_ref;
pub mod protocol;
mod record_file;
pub mod state;
