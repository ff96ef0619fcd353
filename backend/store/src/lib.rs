//! Every SQL statement, on SQLite and PostgreSQL.
//!
//! [`Db::connect`] opens the control store by URL and migrates it; [`Db::begin`] and [`Db::read`]
//! give a [`Tx`], and every module's functions take one, so that a service decides what belongs
//! into one transaction (the change, its event, its audit row). A transaction that is dropped is
//! undone. One SQL text serves both engines: `$1` placeholders, portable columns, no engine's own
//! functions; [`Db::check_statements`] prepares every one of them. What tenants own is only reached
//! through a [`Scope`], so a missing tenant check does not compile.
//!
//! [`journal`] is another database: the host's own, append-only file of meter readings.
#![forbid(unsafe_code)]

pub mod addresses;
pub mod audit;
pub mod budgets;
pub mod containers;
pub mod contracts;
mod db;
mod error;
pub mod events;
pub mod hosts;
pub mod images;
pub mod journal;
pub mod late;
pub mod outbox;
pub mod pagination;
pub mod ports;
pub mod prices;
mod reserve;
pub mod retention;
mod row;
mod scope;
pub mod sessions;
pub mod setup;
mod statement;
pub mod statements;
pub mod tenants;
pub mod tokens;
pub mod usage;
pub mod users;
pub mod volumes;

pub use db::{Db, Tx};
pub use error::StoreError;
pub use scope::Scope;
