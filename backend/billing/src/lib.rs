//! Quantities, prices, rating and FOCUS rows: pure, exact, no clock.
//!
//! The way of a number: a reading of the host's journal → [`window`] (whole numbers per meter and UTC
//! hour) → [`rating`] (price book and contract of the hour × quantity, exact decimals) → [`statement`]
//! (what a tenant owes for a month), [`focus`] and [`jsonl`] (rows of files), [`export`] (the files), which [`check`] reads back.
//! [`ledger`] proves that no reading was altered.
//! Quantities are integers, amounts are decimals of any length; a float does not occur and nothing is
//! rounded but in [`rounding`].
#![forbid(unsafe_code)]
#![deny(clippy::float_arithmetic)]
#![cfg_attr(not(test), deny(clippy::arithmetic_side_effects))]

pub mod amount;
pub mod budget;
pub mod check;
pub mod contract;
mod csv;
pub mod currency;
pub mod export;
pub mod focus;
pub mod jsonl;
pub mod ledger;
pub mod parquet;
pub mod price;
pub mod rating;
pub mod rounding;
pub mod statement;
pub mod window;
