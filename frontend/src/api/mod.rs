//! The only module that knows HTTP and WebSockets.

mod client;
mod live;
mod socket;

pub(crate) use client::next_id;
pub(crate) use client::{Api, Failure};
pub(crate) use live::{Connection, Live, Told};
pub(crate) use socket::Socket;
