//! One module for each noun of the navigation.

pub(crate) mod access;
pub(crate) mod containers;
mod contracts;
pub(crate) mod events;
pub(crate) mod host;
pub(crate) mod images;
pub(crate) mod metering;
pub(crate) mod overview;
pub(crate) mod prices;
pub(crate) mod sign_in;
pub(crate) mod statements;
pub(crate) mod tenants;
pub(crate) mod usage;
pub(crate) mod volumes;
