//! View-models: wire types to what is shown. Plain Rust without a browser, tested natively.

pub(crate) mod chart;
pub(crate) mod command;
pub(crate) mod create;
pub(crate) mod event;
pub(crate) mod log;
pub(crate) mod metering;
pub(crate) mod moment;
pub(crate) mod money;
pub(crate) mod number;
pub(crate) mod pivot;
pub(crate) mod price;
pub(crate) mod quantity;
pub(crate) mod route;
pub(crate) mod rows;
pub(crate) mod state;
pub(crate) mod statement;
pub(crate) mod total;
pub(crate) mod usage;
pub(crate) mod window;
