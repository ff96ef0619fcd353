//! Wire types and their validation, for server, browser and command line.
//!
//! One set of types crosses the wire, as JSON for tools and as postcard for the dashboard's
//! WebSocket. Anything that only one side needs does not belong here.
#![forbid(unsafe_code)]

pub mod auth;
pub mod billing;
pub mod budget;
pub mod checkpoint;
pub mod container;
pub mod decimal;
pub mod event;
pub mod health;
pub mod host;
pub mod id;
pub mod image;
pub mod kernel;
pub mod ledger;
pub mod live;
pub mod metering;
pub mod name;
pub mod network;
pub mod outbox;
pub mod page;
pub mod permission;
pub mod problem;
pub mod reading;
pub mod statement;
pub mod tenant;
pub mod terminal;
pub mod time;
pub mod usage;
pub mod user;
pub mod volume;
